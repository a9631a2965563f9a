"""What was bought together: one row per order, whoever placed it.

Shapes: G baskets, I items, N lines (all baskets one after the other), U users.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from scipy import sparse

from cluster.errors import DataError
from cluster.schema import Col
from recsys.interactions import DAY_SECONDS, IntArray, RowArray, StrArray, seconds_of

GUEST: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Baskets:
    """Orders as sets of items; an item counts once per basket, however many units were taken.

    Parameters
    ----------
    item_ids_I
        External ids, sorted.
    offset_G1, item_N
        Items of basket ``g`` are ``item_N[offset_G1[g]:offset_G1[g + 1]]``.
    user_G
        Number of the customer, :data:`GUEST` where none is named.
    day_G
        Days since 1970 in UTC.
    """

    item_ids_I: StrArray
    offset_G1: IntArray
    item_N: RowArray
    user_G: IntArray
    day_G: IntArray

    def __len__(self) -> int:
        return len(self.user_G)

    @property
    def size_G(self) -> IntArray:
        """Different items per basket."""
        return np.diff(self.offset_G1)

    @property
    def basket_N(self) -> IntArray:
        """Basket of each line."""
        return np.repeat(np.arange(len(self)), self.size_G)

    @property
    def num_I(self) -> IntArray:
        """Baskets that hold each item."""
        return np.bincount(self.item_N, minlength=len(self.item_ids_I))

    def matrix_GI(self) -> sparse.csr_array:
        """1 where a basket holds an item."""
        ones_N = np.ones(len(self.item_N), dtype=np.float32)
        return sparse.csr_array((ones_N, self.item_N, self.offset_G1), shape=(len(self), len(self.item_ids_I)))

    def keep(self, kept_G: npt.NDArray[np.bool_]) -> "Baskets":
        """Drop the baskets whose entry is False."""
        kept_N = kept_G[self.basket_N]
        return Baskets(
            item_ids_I=self.item_ids_I,
            offset_G1=np.concatenate([[0], np.cumsum(self.size_G[kept_G])]),
            item_N=self.item_N[kept_N],
            user_G=self.user_G[kept_G],
            day_G=self.day_G[kept_G],
        )


def make_baskets(
    orders: pa.Table, *, until: date | datetime | None = None, min_baskets: int = 1, max_items: int | None = None
) -> Baskets:
    """Baskets of the order lines with a positive quantity before ``until``.

    Parameters
    ----------
    min_baskets
        Items in fewer baskets are left out.
    max_items
        Of the others, those in most baskets are kept.

    Raises
    ------
    DataError
        If nothing is left.
    """
    frame = pl.DataFrame(
        pl.from_arrow(orders.select([Col.ORDER_ID, Col.ITEM_ID, Col.USER_ID, Col.ORDERED_AT, Col.SOLD_QTY]))
    )
    frame = frame.filter(pl.col(Col.SOLD_QTY) > 0).with_columns(pl.col(Col.ORDERED_AT).dt.epoch("s").alias("time"))
    if until is not None:
        frame = frame.filter(pl.col("time") < seconds_of(until))
    lines = frame.unique([Col.ORDER_ID, Col.USER_ID, Col.ITEM_ID])
    counts = lines.group_by(Col.ITEM_ID).len().filter(pl.col("len") >= min_baskets)
    if max_items is not None:
        counts = counts.sort("len", Col.ITEM_ID, descending=[True, False]).head(max_items)
    items = counts.select(pl.col(Col.ITEM_ID).sort()).with_row_index("item")
    lines = lines.join(items, on=Col.ITEM_ID)
    if lines.is_empty():
        raise DataError(f"no item is in {min_baskets} baskets before {until}; bring more history")
    users = lines.select(pl.col(Col.USER_ID).drop_nulls().unique().sort()).with_row_index("user")
    lines = lines.join(users, on=Col.USER_ID, how="left").sort(Col.ORDER_ID, Col.USER_ID, "item")
    baskets = lines.group_by(Col.ORDER_ID, Col.USER_ID, maintain_order=True).agg(
        pl.len(), pl.col("user").first().cast(pl.Int64).fill_null(GUEST), pl.col("time").min() // DAY_SECONDS
    )
    return Baskets(
        item_ids_I=items[Col.ITEM_ID].to_numpy().astype(str),
        offset_G1=np.concatenate([[0], np.cumsum(baskets["len"].to_numpy().astype(np.int64))]),
        item_N=lines["item"].to_numpy().astype(np.int32),
        user_G=baskets["user"].to_numpy(),
        day_G=baskets["time"].to_numpy(),
    )
