"""What a dataset says of items that rules read: stock, category, seller, overstock, and which are new.

Shapes: I items, J unknown items, N new items.
"""

from datetime import timedelta
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from cluster.dataset import Dataset
from cluster.item_content import make_content
from cluster.schema import Col
from cluster.settings.models import RuleSettings
from recsys.cold_start import NewItems, find_like_known
from recsys.interactions import StrArray
from recsys.rules import BoolArray, ItemFacts, Matrix, RuleBook, codes_of

_SALES_WEEKS: Final = 8


def make_rule_book(
    dataset: Dataset, *, item_ids_I: StrArray, repeat_rate_I: Matrix, settings: RuleSettings
) -> RuleBook:
    """The shop's rules over a recommender's items, which are ``item_ids_I``, and the new ones that may be shown."""
    new_items = find_new_items(dataset, known_ids_I=item_ids_I, settings=settings)
    num_new = 0 if new_items is None else len(new_items.item_ids_N)
    facts = make_item_facts(
        dataset,
        item_ids_I=item_ids_I if new_items is None else np.concatenate([item_ids_I, new_items.item_ids_N]),
        # Nobody has bought a new item yet, so nothing asks for its rate.
        repeat_rate_I=np.concatenate([repeat_rate_I, np.zeros(num_new)]),
        settings=settings,
    )
    return RuleBook(facts=facts, settings=settings, new_items=new_items)


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


def find_new_items(dataset: Dataset, *, known_ids_I: StrArray, settings: RuleSettings) -> NewItems | None:
    """Items that may be shown although no model has learned of them, by what is written about them.

    New is what was first sold in the last ``new_item_days`` of history, or is on the shelf and was never sold. None
    without ``new_item_weight``, without an ``items`` table, or if nothing new is like anything known.
    """
    items, orders = dataset.table("items"), dataset.table("orders")
    if not settings.new_item_weight or items is None:
        return None
    content = make_content(items)
    unknown_J = content.item_ids_I[~np.isin(content.item_ids_I, known_ids_I)]
    new_ids_N = unknown_J[_is_new_J(unknown_J, dataset=dataset, orders=orders, days=settings.new_item_days)]
    found = find_like_known(content, new_ids=new_ids_N, known_ids=known_ids_I).alike()
    return found if len(found.item_ids_N) else None


def _is_new_J(item_ids_J: StrArray, *, dataset: Dataset, orders: pa.Table | None, days: int) -> BoolArray:
    sold, sold_first_lately = _sold(orders, days=days)
    free_J = free_units_I(dataset, item_ids_I=item_ids_J)
    # Without a stock table nobody says that an unsold item is there.
    on_shelf_J = (free_J > 0) & np.isfinite(free_J)
    return np.isin(item_ids_J, sold_first_lately) | (on_shelf_J & ~np.isin(item_ids_J, sold))


def _sold(orders: pa.Table | None, *, days: int) -> tuple[StrArray, StrArray]:
    """Items ever sold, and those first sold in the last days."""
    if orders is None:
        return np.array([], dtype=str), np.array([], dtype=str)
    frame = pl.DataFrame(pl.from_arrow(orders.select([Col.ITEM_ID, Col.ORDERED_AT])))
    since = pl.col(Col.ORDERED_AT).max() - timedelta(days=days)
    first = frame.with_columns(since=since).group_by(Col.ITEM_ID, "since").agg(pl.col(Col.ORDERED_AT).min())
    lately = first.filter(pl.col(Col.ORDERED_AT) > pl.col("since"))
    return _ids(first), _ids(lately)


def _ids(frame: pl.DataFrame) -> StrArray:
    return np.asarray(frame[Col.ITEM_ID].to_list(), dtype=str)


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
