"""Reads the panel's shards into dense arrays, only the series that are wanted.

S series, T history periods, X periods that covariates cover, P promotion channels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from cluster.errors import DataError
from cluster.panel import BoolArray, FloatArray, IntArray, SeriesIndex, StrArray
from cluster.schema import Col
from cluster.series import PROMOTION_PREFIX

_IDS = [Col.ITEM_ID, Col.LOCATION_ID, Col.CATEGORY_ID]
_RETURNS = ["returned_sale_period", "returned_period", "returned_qty"]


class PanelArrays(TypedDict):
    """The part of a panel that shards hold."""

    index: SeriesIndex
    sales_ST: FloatArray
    in_stock_ST: BoolArray
    price_ST: FloatArray
    promotion_SXP: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelReader:
    """Reads shards of one dataset as they were known at the start of period ``known_at``."""

    paths: tuple[Path, ...]
    num_periods: int
    num_known: int
    promotion_names: tuple[str, ...]
    known_at: int

    def pick(self, max_series: int | None, *, before: int) -> list[IntArray]:
        """Rows of each shard: series seen by then; at most ``max_series``, those that sold most before a period.

        Among equal sellers the first by item and location is taken.
        """
        seen, sold, ids = [], [], []
        for path in self.paths:
            table = pa.parquet.read_table(path, columns=[Col.ITEM_ID, Col.LOCATION_ID, "first_period"])
            seen.append(np.flatnonzero(table["first_period"].to_numpy() < self.known_at))
            if max_series is not None:
                table = pa.parquet.read_table(path, columns=["sales", *_IDS, *_RETURNS]).take(pa.array(seen[-1]))
                sold.append(self._known_sales(table)[:, :before].sum(axis=1, dtype=np.float64))
                ids.append(table.select(_IDS[:2]))
        if max_series is None or sum(map(len, seen)) <= max_series:
            return seen
        item_ids, location_ids = (pa.concat_tables(ids)[name].to_numpy() for name in _IDS[:2])
        best = np.lexsort((location_ids, item_ids, -np.concatenate(sold)))[:max_series]
        shard_N = np.repeat(np.arange(len(self.paths)), [len(rows) for rows in seen])[best]
        row_N = np.concatenate(seen)[best]
        return [np.sort(row_N[shard_N == number]) for number in range(len(self.paths))]

    def read(self, rows_of_shard: list[IntArray]) -> PanelArrays:
        """Dense arrays of the given rows of each shard, sorted by item and location."""
        ids: list[list[str]] = [[], [], []]
        sales, in_stock, price, promotion = [], [], [], []
        for path, rows in zip(self.paths, rows_of_shard, strict=True):
            if not len(rows):
                continue
            channels = [PROMOTION_PREFIX + name for name in self.promotion_names]
            table = pa.parquet.read_table(path, columns=[*_IDS, "sales", "in_stock", "price", *channels, *_RETURNS])
            table = table.take(pa.array(rows))
            for column, name in zip(ids, _IDS, strict=True):
                column.extend(table[name].to_pylist())
            sales.append(self._known_sales(table))
            in_stock.append(_dense(table, "in_stock", self.num_periods))
            price.append(_dense(table, "price", self.num_periods))
            known = [_dense(table, channel, self.num_known) for channel in channels]
            promotion.append(np.stack(known, axis=2) if known else np.zeros((len(rows), self.num_known, 0), np.float32))
        if not sales:
            raise DataError("there is no series in this dataset; check data.not_stocked and that orders have sales")
        item_ids_S, location_ids_S, category_ids_S = (np.array(column, dtype=np.str_) for column in ids)
        order_S = np.lexsort((location_ids_S, item_ids_S))
        index = SeriesIndex(item_ids_S=item_ids_S, location_ids_S=location_ids_S, category_ids_S=category_ids_S)
        return PanelArrays(
            index=index.take(order_S),
            sales_ST=np.concatenate(sales)[order_S],
            in_stock_ST=np.concatenate(in_stock)[order_S],
            price_ST=_with_prices(np.concatenate(price), category_ids_S, self.known_at)[order_S],
            promotion_SXP=np.concatenate(promotion)[order_S],
        )

    def _known_sales(self, table: pa.Table) -> FloatArray:
        """Sales net of the returns that had come back by ``known_at``."""
        sales_ST = _dense(table, "sales", self.num_periods)
        returns = table["returned_period"].combine_chunks()
        row_N = pa.compute.list_parent_indices(returns).to_numpy()
        later_N = returns.flatten().to_numpy() >= self.known_at
        sale_N = table["returned_sale_period"].combine_chunks().flatten().to_numpy()
        qty_N = table["returned_qty"].combine_chunks().flatten().to_numpy()
        np.add.at(sales_ST, (row_N[later_N], sale_N[later_N]), qty_N[later_N])
        return sales_ST


def _dense(table: pa.Table, name: str, width: int) -> np.ndarray:
    values = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    # A copy where Arrow lends its own memory, which is read-only.
    return np.array(values).reshape(-1, width)


def _with_prices(price_ST: FloatArray, category_ids_S: StrArray, known_at: int) -> FloatArray:
    """Series that never sold for money take the median price of their category, else of all series, else 1."""
    latest_S = price_ST[:, known_at - 1]
    unknown_S = latest_S == 0
    for category in np.unique(category_ids_S[unknown_S]):
        known = latest_S[(category_ids_S == category) & ~unknown_S]
        known = known if len(known) else latest_S[~unknown_S]
        price_ST[(category_ids_S == category) & unknown_S] = np.median(known) if len(known) else 1.0
    return price_ST
