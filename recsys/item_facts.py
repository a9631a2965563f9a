"""What a dataset says of items that rules read: stock, category, seller, overstock.

Shapes: I items.
"""

from datetime import timedelta
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from cluster.config import RuleSettings
from cluster.dataset import Dataset
from cluster.schema import Col
from recsys.interactions import StrArray
from recsys.rules import ItemFacts, Matrix, codes_of

_SALES_WEEKS: Final = 8


def make_item_facts(
    dataset: Dataset, *, item_ids_I: StrArray, repeat_rate_I: Matrix, settings: RuleSettings
) -> ItemFacts:
    """Facts of the given items, in their order."""
    free_I = free_units_I(dataset, item_ids_I=item_ids_I)
    items, terms = dataset.table("items"), dataset.table("supply_terms")
    seller_I = _text_I(terms, Col.SUPPLIER_ID, item_ids_I=item_ids_I)
    brand_I = _text_I(items, Col.BRAND, item_ids_I=item_ids_I)
    return ItemFacts(
        available_I=free_I > 0,
        category_I=codes_of(_text_I(items, Col.CATEGORY_ID, item_ids_I=item_ids_I)),
        seller_I=codes_of(np.where(seller_I == "", brand_I, seller_I)),
        repeat_rate_I=repeat_rate_I,
        overstock_I=_overstock_I(dataset, free_I=free_I, item_ids_I=item_ids_I, settings=settings),
    )


def free_units_I(dataset: Dataset, *, item_ids_I: StrArray) -> Matrix:
    """Units on hand less reserved ones, all locations together; 0 without a row, infinite without a stock table."""
    stock = dataset.table("stock")
    if stock is None or not stock.num_rows:
        return np.full(len(item_ids_I), np.inf)
    frame = pl.DataFrame(pl.from_arrow(stock)).filter(pl.col(Col.SNAPSHOT_ON) == pl.col(Col.SNAPSHOT_ON).max())
    free = frame.group_by(Col.ITEM_ID).agg((pl.col(Col.ON_HAND_QTY) - pl.col(Col.RESERVED_QTY).fill_null(0.0)).sum())
    units = dict(free.iter_rows())
    return np.array([max(units.get(item, 0.0), 0.0) for item in item_ids_I.tolist()])


def _overstock_I(dataset: Dataset, *, free_I: Matrix, item_ids_I: StrArray, settings: RuleSettings) -> Matrix:
    """0 up to ``overstock_weeks`` of usual sales on the shelf, 1 from twice as many on; 0 without a stock table."""
    orders = dataset.table("orders")
    if orders is None or np.isinf(free_I).any() or not settings.overstock_weight:
        return np.zeros(len(item_ids_I))
    frame = pl.DataFrame(pl.from_arrow(orders.select([Col.ITEM_ID, Col.ORDERED_AT, Col.SOLD_QTY])))
    lately = pl.col(Col.ORDERED_AT) > pl.col(Col.ORDERED_AT).max() - timedelta(weeks=_SALES_WEEKS)
    sold = frame.filter(lately & (pl.col(Col.SOLD_QTY) > 0)).group_by(Col.ITEM_ID).agg(pl.col(Col.SOLD_QTY).sum())
    units = dict(sold.iter_rows())
    weekly_I = np.array([units.get(item, 0.0) for item in item_ids_I.tolist()]) / _SALES_WEEKS
    cover_I = free_I / np.maximum(weekly_I, 1.0 / _SALES_WEEKS)
    return np.clip(cover_I / settings.overstock_weeks - 1, 0.0, 1.0)


def _text_I(table: pa.Table | None, column: str, *, item_ids_I: StrArray) -> StrArray:
    """A text column by item, '' where it is not given."""
    if table is None:
        return np.full(len(item_ids_I), "")
    value_of = dict(zip(table[Col.ITEM_ID].to_pylist(), table[column].to_pylist(), strict=True))
    return np.array([value_of.get(item) or "" for item in item_ids_I.tolist()], dtype=str)
