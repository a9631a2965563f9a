"""Cleaning of order lines that pass the rules: duplicates, returns, outliers.

Works on complete series (item x location): every line of an item at a location is in the frame.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import polars as pl

from cluster.panel import FloatArray, IntArray
from cluster.schema import ORDERS, TABLES, Col

IS_OUTLIER: Final = "is_outlier"
UNMATCHED: Final = "return_matches_a_sale"
UNMATCHED_REASON: Final = "no earlier sale of as many units of this item to this customer"
_SERIES: Final = [Col.ITEM_ID, Col.LOCATION_ID]
# Rows of these tables that share a key speak of the same thing.
_KEYS: Final = {
    "items": [Col.ITEM_ID],
    "locations": [Col.LOCATION_ID],
    "supply_terms": _SERIES,
    "stock": [*_SERIES, Col.SNAPSHOT_ON],
}
# Rows of these tables are the same only if this id says so: two equal open orders may both be on their way.
_DELIVERY_IDS: Final = {"events": Col.EVENT_ID, "open_orders": Col.OPEN_ORDER_ID}


@dataclass(frozen=True, slots=True, kw_only=True)
class Netted:
    """Sales after returns were taken off them.

    ``returns`` has one row per sale that a return reduced: ``item_id``, ``location_id``, ``sold_at``, ``returned_at``
    and ``returned_qty``, so that history can be shown as it was known before the return.
    """

    sales: pl.DataFrame
    unmatched: pl.DataFrame
    returns: pl.DataFrame
    rows_merged: int


def merge_duplicates(lines: pl.DataFrame, *, identical: Literal["repeat", "sum"]) -> pl.DataFrame:
    """Make one line of lines that are equal in every column of the schema.

    ``"repeat"`` takes them for one line that was sent twice and keeps the first; ``"sum"`` takes them for units that
    were scanned one by one and adds quantities and amounts up. The order of lines is kept.
    """
    if identical == "repeat":
        return lines.unique(subset=ORDERS.names, keep="first", maintain_order=True)
    summed = [Col.SOLD_QTY, Col.AMOUNT]
    others = [name for name in lines.columns if name not in ORDERS.names]
    groups = lines.group_by(ORDERS.names, maintain_order=True).agg(pl.len().alias("_times"), pl.col(others).first())
    return groups.with_columns(pl.col(summed) * pl.col("_times")).select(lines.columns)


def merge_rows(rows: pl.DataFrame, *, table: str) -> pl.DataFrame:
    """Make one row of rows that say the same, in any table but orders.

    Items, locations, supply terms and stock have a key: the first row of a key wins and later ones fill its gaps.
    Events and open orders are repeated when their id is. In the other tables equal rows are merged.
    """
    names = TABLES[table].names
    if table in _KEYS:
        others = [name for name in names if name not in _KEYS[table]]
        firsts = [pl.col(name).drop_nulls().first() for name in others]
        return rows.group_by(_KEYS[table], maintain_order=True).agg(firsts).select(names)
    if table in _DELIVERY_IDS:
        identity = _DELIVERY_IDS[table]
        repeated = pl.col(identity).is_not_null() & ~pl.col(identity).is_first_distinct()
        return rows.filter(~repeated)
    return rows.unique(subset=names, keep="first", maintain_order=True)


def net_returns(lines: pl.DataFrame) -> Netted:
    """Take every return (negative quantity) off earlier sales of the same item, location and customer.

    A return is taken off the latest earlier sale that has as many units left; if none has, off several sales, latest
    first. A sale that is returned as a whole disappears. A return of more than was sold before, or without a customer,
    stays unmatched and changes nothing. Sales keep their unit price.
    """
    is_return = pl.col(Col.SOLD_QTY) < 0
    lines = lines.with_row_index("_line")
    keys = [*_SERIES, Col.USER_ID]
    owners = lines.filter(is_return).select(keys).unique().drop_nulls()
    touched = lines.join(owners, on=keys, how="semi").sort([*keys, Col.ORDERED_AT, "_line"])
    left_N, matched_N, pairs = _match(
        group_N=touched.select(pl.struct(keys).rle_id()).to_series().to_numpy(),
        qty_N=touched[Col.SOLD_QTY].to_numpy(),
    )
    touched = touched.with_columns(left=left_N, matched=matched_N)
    lines = lines.join(touched.select("_line", "left", "matched"), on="_line", how="left", maintain_order="left")
    left, quantity = pl.coalesce("left", Col.SOLD_QTY), pl.col(Col.SOLD_QTY)
    sales = lines.filter((quantity > 0) & (left > 0)).with_columns(
        left.alias(Col.SOLD_QTY), (pl.col(Col.AMOUNT) * (left / quantity)).alias(Col.AMOUNT)
    )
    unmatched = lines.filter(is_return & ~pl.col("matched").fill_null(value=False))
    extra = ["_line", "left", "matched"]
    return Netted(
        sales=sales.drop(extra),
        unmatched=unmatched.drop(extra),
        returns=_returns(touched, pairs),
        rows_merged=lines.height - sales.height - unmatched.height,
    )


def flag_outliers(sales: pl.DataFrame, *, iqr: float) -> pl.DataFrame:
    """Mark lines of extreme quantity with the column ``is_outlier``; nothing is removed.

    A line is extreme above its series' upper quartile by ``iqr`` interquartile ranges, where a range below one unit
    counts as one unit.
    """
    upper = pl.col(Col.SOLD_QTY).quantile(0.75).over(_SERIES)
    spread = upper - pl.col(Col.SOLD_QTY).quantile(0.25).over(_SERIES)
    limit = upper + iqr * pl.max_horizontal(spread, pl.lit(1.0))
    return sales.with_columns((pl.col(Col.SOLD_QTY) > limit).alias(IS_OUTLIER))


_Pairs = list[tuple[int, int, float]]


def _match(*, group_N: IntArray, qty_N: FloatArray) -> tuple[FloatArray, np.ndarray, _Pairs]:
    """Units left of every sale, which returns were matched, and (sale, return, units) for every reduction.

    Only customers and items with a return come here, so a plain loop is fast enough: it is linear but for customers
    who return an item many times.
    """
    left = qty_N.astype(np.float64).tolist()
    groups = group_N.tolist()
    matched = [False] * len(left)
    pairs: _Pairs = []
    open_sales: list[int] = []
    for row, quantity in enumerate(qty_N.tolist()):
        if row == 0 or groups[row] != groups[row - 1]:
            open_sales = []
        if quantity > 0:
            open_sales.append(row)
            continue
        taken = _take(open_sales, left, -quantity)
        matched[row] = bool(taken)
        for sale, units in taken:
            left[sale] -= units
            pairs.append((sale, row, units))
        open_sales = [sale for sale in open_sales if left[sale] > 0] if taken else open_sales
    return np.array(left), np.array(matched, dtype=np.bool_), pairs


def _take(open_sales: list[int], left: list[float], units: float) -> list[tuple[int, float]]:
    """Which sales give the units back: the latest that has them all, else several, else none."""
    for sale in reversed(open_sales):
        if left[sale] >= units:
            return [(sale, units)]
    if sum(left[sale] for sale in open_sales) < units:
        return []
    taken = []
    for sale in reversed(open_sales):
        part = min(left[sale], units)
        taken.append((sale, part))
        units -= part
        if units <= 0:
            break
    return taken


def _returns(touched: pl.DataFrame, pairs: _Pairs) -> pl.DataFrame:
    sale = np.array([pair[0] for pair in pairs], dtype=np.int64)
    back = np.array([pair[1] for pair in pairs], dtype=np.int64)
    return touched[sale].select(
        *_SERIES,
        pl.col(Col.ORDERED_AT).alias("sold_at"),
        touched[back][Col.ORDERED_AT].alias("returned_at"),
        pl.Series("returned_qty", [pair[2] for pair in pairs], dtype=pl.Float64),
    )
