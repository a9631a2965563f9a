"""Supply terms of every series: as the shop gives them, and by a stated rule where it does not.

Only the history in the given panel is read: pass ``panel.until(period)`` to decide at that period.

Shapes: S series, T history periods.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.config import Settings
from cluster.errors import DataError
from cluster.panel import DemandPanel, SeriesIndex
from cluster.schema import DEFAULT_LOCATION, Col
from cluster.settings.models import AssumptionSettings
from rl.inventory import CostRates, FloatArray, IntArray, SupplyTerms

WideArray = npt.NDArray[np.float64]

# Lowest value that each column may have, and whether it may equal it.
_BOUNDS: dict[str, tuple[float, bool]] = {
    Col.LEAD_TIME_DAYS: (0, True),
    Col.REVIEW_PERIOD_DAYS: (0, False),
    Col.MIN_ORDER_QTY: (0, True),
    Col.PACK_SIZE_QTY: (0, False),
    Col.ORDER_CAP_QTY: (0, False),
    Col.STORAGE_CAPACITY_QTY: (0, False),
    Col.UNIT_COST: (0, True),
    Col.HOLDING_COST: (0, True),
    Col.LOST_SALE_COST: (0, True),
    Col.FIXED_ORDER_COST: (0, True),
}


def make_supply_terms(
    table: pa.Table | None, *, panel: DemandPanel, settings: Settings, source: str = "supply_terms"
) -> tuple[SupplyTerms, tuple[str, ...]]:
    """Terms of each series of the panel, and one sentence for everything that was assumed.

    Days become periods of the panel's calendar, rounded up; costs per day become costs per period.

    Parameters
    ----------
    table
        The shop's ``supply_terms`` table; a null is assumed. None if it has no such table.
    panel
        History that may be used: sales and prices set the assumed packs, storage and costs.
    source
        What the table is called in messages.

    Raises
    ------
    DataError
        If a row has an impossible value, two rows speak of one series, or an order must cover more periods than
        ``forecast.horizon``; the message names the row and the next step.
    """
    rules = settings.assumptions
    given = _read(table, index=panel.index, source=source)
    notes = _Notes(num_series=panel.num_series)
    notes.add_unknown(given.num_unknown, source=source)
    days = panel.calendar.period_days
    mean_demand_S = mean_demand_of_history_S(panel)
    lead_S, review_S, phase_S = _timing(given, panel=panel, rules=rules, notes=notes)
    _check_horizon(lead_S + review_S, settings=settings, panel=panel, given=given, source=source)
    pack_S = notes.fill(
        given.values[Col.PACK_SIZE_QTY],
        _pack_size_S(mean_demand_S / days, rules),
        f"pack size: the largest of {_join(rules.pack_sizes)} units that covers at most {rules.pack_cover_days:g} days "
        "of mean demand",
    )
    minimum_S = notes.fill(given.values[Col.MIN_ORDER_QTY], 0.0, "minimum order quantity: none")
    smallest_S = np.maximum(np.ceil(minimum_S / pack_S), 1) * pack_S
    capacity_S = notes.fill(
        given.values[Col.STORAGE_CAPACITY_QTY],
        np.maximum(np.ceil(rules.capacity_days * mean_demand_S / days), 2 * smallest_S),
        f"storage: {rules.capacity_days:g} days of mean demand, at least two orders of the smallest size",
    )
    cap_S = notes.fill(given.values[Col.ORDER_CAP_QTY], np.inf, "most per order: no limit")
    costs = _costs(given.values, panel=panel, rules=rules, notes=notes)
    terms = SupplyTerms(
        lead_time_S=lead_S,
        review_period_S=review_S,
        review_phase_S=phase_S,
        min_order_qty_S=_float(minimum_S),
        pack_size_S=_float(pack_S),
        order_cap_S=_float(cap_S),
        storage_capacity_S=_float(capacity_S),
        mean_demand_S=_float(mean_demand_S),
        costs=costs,
    )
    return terms, tuple(notes.sentences)


def mean_demand_of_history_S(panel: DemandPanel) -> WideArray:
    """Units per period since the first sale, in periods in stock; 0 where nothing sold."""
    counts_ST = panel.in_stock_ST & (np.arange(panel.num_periods) >= panel.first_sale_S[:, None])
    sold_S = np.where(counts_ST, panel.sales_ST, 0).sum(axis=1, dtype=np.float64)
    return sold_S / np.maximum(counts_ST.sum(axis=1), 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """The table's values in series order: NaN where none is given; ``row_S`` is the table's row, -1 without one."""

    values: Mapping[str, WideArray]
    next_review_S: list[date | None]
    row_S: IntArray
    num_unknown: int


class _Notes:
    """Fills gaps and keeps the sentence that says so."""

    def __init__(self, *, num_series: int) -> None:
        self._num_series = num_series
        self.sentences: list[str] = []

    def add(self, num_assumed: int, rule: str) -> None:
        if num_assumed:
            self.sentences.append(f"Assumed for {num_assumed:,} of {self._num_series:,} series: {rule}.")

    def fill(self, given_S: WideArray, assumed: WideArray | float, rule: str) -> WideArray:
        is_missing_S = np.isnan(given_S)
        self.add(int(is_missing_S.sum()), rule)
        return np.where(is_missing_S, assumed, given_S)

    def add_unknown(self, num_unknown: int, *, source: str) -> None:
        if num_unknown:
            self.sentences.append(f"{num_unknown:,} rows of {source} name series without history: not used.")


def _read(table: pa.Table | None, *, index: SeriesIndex, source: str) -> _Given:
    S = len(index)
    row_S = np.full(S, -1, dtype=np.int64)
    if table is None or not table.num_rows:
        empty = {name: np.full(S, np.nan) for name in _BOUNDS}
        return _Given(values=empty, next_review_S=[None] * S, row_S=row_S, num_unknown=0)
    items, locations = _ids(table)
    series_of_row = index.positions(items, locations)
    _check_unique(list(zip(items, locations, strict=True)), source=source)
    known = series_of_row >= 0
    row_S[series_of_row[known]] = np.flatnonzero(known)
    values = {name: _column_S(table, name, row_S=row_S, source=source) for name in _BOUNDS}
    reviews = _column_or_nulls(table, Col.NEXT_REVIEW_ON)
    next_review_S = [reviews[row] if row >= 0 else None for row in row_S]
    return _Given(values=values, next_review_S=next_review_S, row_S=row_S, num_unknown=int((~known).sum()))


def _ids(table: pa.Table) -> tuple[list[str], list[str]]:
    items = table[Col.ITEM_ID].to_pylist()
    if Col.LOCATION_ID not in table.column_names:
        return items, [DEFAULT_LOCATION] * len(items)
    return items, pc.fill_null(table[Col.LOCATION_ID], DEFAULT_LOCATION).to_pylist()


def _check_unique(pairs: list[tuple[str, str]], *, source: str) -> None:
    first_row: dict[tuple[str, str], int] = {}
    for row, pair in enumerate(pairs):
        earlier = first_row.setdefault(pair, row)
        if earlier != row:
            raise DataError(
                f"{source} row {row + 1}: item {pair[0]} at {pair[1]} is already in row {earlier + 1}; keep one of them"
            )


def _column_or_nulls(table: pa.Table, name: str) -> list[Any]:
    return list(table[name].to_pylist()) if name in table.column_names else [None] * table.num_rows


def _column_S(table: pa.Table, name: str, *, row_S: IntArray, source: str) -> WideArray:
    if name not in table.column_names:
        return np.full(len(row_S), np.nan)
    value_R = np.array(pc.fill_null(table[name].cast(pa.float64()), float("nan")).to_numpy(), dtype=np.float64)
    bound, may_equal = _BOUNDS[name]
    wrong = np.flatnonzero(~np.isnan(value_R) & ~((value_R > bound) | ((value_R == bound) & may_equal)))
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{source} row {row + 1}: {name} must be {'>=' if may_equal else '>'} {bound:g} (got {value_R[row]:g}); "
            f"correct the {len(wrong):,} such rows, or leave the value empty to have it assumed"
        )
    return np.where(row_S >= 0, value_R[np.maximum(row_S, 0)], np.nan)


def _timing(
    given: _Given, *, panel: DemandPanel, rules: AssumptionSettings, notes: _Notes
) -> tuple[IntArray, IntArray, IntArray]:
    calendar = panel.calendar
    _, category_S = np.unique(panel.index.category_ids_S, return_inverse=True)
    dealt_S = np.array(rules.lead_time_days, dtype=np.float64)[category_S % len(rules.lead_time_days)]
    lead_days_S = notes.fill(
        given.values[Col.LEAD_TIME_DAYS],
        dealt_S,
        f"lead time: {_join(rules.lead_time_days)} days, dealt out to the categories in id order",
    )
    review_days_S = notes.fill(
        given.values[Col.REVIEW_PERIOD_DAYS],
        float(rules.review_period_days),
        f"review period: {rules.review_period_days} {'day' if rules.review_period_days == 1 else 'days'}",
    )
    lead_S = np.ceil(lead_days_S / calendar.period_days).astype(np.int64)
    review_S = np.maximum(np.ceil(review_days_S / calendar.period_days), 1).astype(np.int64)
    anchor_S = np.array(
        [panel.num_periods if day is None else calendar.period_of(day) for day in given.next_review_S],
        dtype=np.int64,
    )
    is_unsaid_S = np.array([day is None for day in given.next_review_S]) & (review_S > 1)
    notes.add(int(is_unsaid_S.sum()), "order day: the first period after the history is one")
    return lead_S, review_S, anchor_S % review_S


def _check_horizon(interval_S: IntArray, *, settings: Settings, panel: DemandPanel, given: _Given, source: str) -> None:
    horizon = settings.horizon
    rows = np.flatnonzero(interval_S > horizon)
    if not len(rows):
        return
    row = int(rows[0])
    where = f"{source} row {given.row_S[row] + 1}" if given.row_S[row] >= 0 else "assumptions"
    raise DataError(
        f"{where}: an order of item {panel.index.item_ids_S[row]} must last {interval_S[row]} periods (lead time + "
        f"review period) but the forecast looks {horizon} ahead; raise forecast.horizon to {int(interval_S.max())}"
    )


def _pack_size_S(demand_per_day_S: WideArray, rules: AssumptionSettings) -> WideArray:
    sizes = np.sort(np.array(rules.pack_sizes, dtype=np.float64))
    fits_SP = sizes <= rules.pack_cover_days * demand_per_day_S[:, None]
    return sizes[np.maximum(fits_SP.sum(axis=1) - 1, 0)]


def _costs(
    values: Mapping[str, WideArray], *, panel: DemandPanel, rules: AssumptionSettings, notes: _Notes
) -> CostRates:
    price_S = _median_price_S(panel, notes=notes)
    days = panel.calendar.period_days
    unit_cost_S = notes.fill(
        values[Col.UNIT_COST],
        rules.unit_cost_share * price_S,
        f"unit cost: {rules.unit_cost_share:g} of the median price",
    )
    holding_S = notes.fill(
        values[Col.HOLDING_COST],
        rules.holding_share_per_day * unit_cost_S,
        f"holding cost: {rules.holding_share_per_day:g} of the unit cost per day",
    )
    lost_S = notes.fill(
        values[Col.LOST_SALE_COST],
        rules.lost_sale_share * np.maximum(price_S - unit_cost_S, 0),
        f"cost of a lost sale: {rules.lost_sale_share:g} of the margin (median price less unit cost)",
    )
    fixed_S = notes.fill(
        values[Col.FIXED_ORDER_COST], rules.fixed_order_cost, f"fixed cost: {rules.fixed_order_cost:g} per order line"
    )
    return CostRates(
        holding_S=_float(holding_S * days),
        lost_sale_S=_float(lost_S),
        fixed_order_S=_float(fixed_S),
        unit_cost_S=_float(unit_cost_S),
    )


def _median_price_S(panel: DemandPanel, *, notes: _Notes) -> WideArray:
    is_priced_ST = np.isfinite(panel.price_ST) & (panel.price_ST > 0)
    is_priced_S = is_priced_ST.any(axis=1)
    price_S = np.full(panel.num_series, np.nan)
    if is_priced_S.any():
        prices = np.where(is_priced_ST[is_priced_S], panel.price_ST[is_priced_S], np.nan)
        price_S[is_priced_S] = np.nanmedian(prices, axis=1)
    usual = float(np.median(price_S[is_priced_S])) if is_priced_S.any() else 1.0
    return notes.fill(price_S, usual, f"price: {usual:.2f}, the median over series, where no sale shows a price")


def _float(value_S: WideArray) -> FloatArray:
    return value_S.astype(np.float32)


def _join(numbers: tuple[int, ...]) -> str:
    return ", ".join(str(number) for number in numbers)
