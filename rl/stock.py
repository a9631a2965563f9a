"""From the shop's stock snapshot and open orders to the state that policies see.

Nothing is dropped in silence: what is assumed, late or unknown is said in a note, and on the order line where it
matters.

Shapes: S series, L periods until arrival.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import DataError, StaleInputError
from cluster.panel import Calendar, IntArray, SeriesIndex
from cluster.schema import DEFAULT_LOCATION, Col
from forecasting.forecast import Forecast
from rl.inventory import FloatArray, InventoryState, SupplyTerms
from rl.scenarios import make_start_state

WideArray = npt.NDArray[np.float64]

# Pipeline columns kept; whatever arrives later is counted in the last one.
_MAX_COLUMNS = 60
_NUM_NAMED = 5

STOCK_ASSUMED = (
    "Stock was not given and is assumed: as much on the shelf and on its way as a newsvendor rule would hold; give a "
    "stock snapshot before acting on these orders."
)
"""The note of ``assume_stock``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StockReading:
    """The state of every series, and what had to be assumed to make it.

    Parameters
    ----------
    state
        For the policies.
    overdue_S
        Units of open orders that were due by the snapshot, which is counted after receipts: they are taken to arrive in
        the next period.
    is_assumed_S
        True where no stock row names the series: 0 units are assumed.
    notes
        One sentence for everything assumed, late or unknown.
    """

    state: InventoryState
    overdue_S: FloatArray
    is_assumed_S: npt.NDArray[np.bool_]
    notes: tuple[str, ...]

    def take(self, rows: IntArray) -> "StockReading":
        """Keep the given series; the notes are about all."""
        return StockReading(
            state=self.state.take(rows),
            overdue_S=self.overdue_S[rows],
            is_assumed_S=self.is_assumed_S[rows],
            notes=self.notes,
        )

    @property
    def remark_S(self) -> list[str]:
        """What a planner should know of each series; empty for most."""
        remarks = [""] * len(self.overdue_S)
        for row in np.flatnonzero(self.overdue_S > 0):
            remarks[row] = f"{self.overdue_S[row]:g} units on order are overdue."
        for row in np.flatnonzero(self.is_assumed_S):
            remarks[row] = (remarks[row] + " No stock was reported: 0 is assumed.").strip()
        return remarks


def assume_stock(forecast: Forecast, terms: SupplyTerms) -> StockReading:
    """State where the shop reports no stock: ``make_start_state``, with a note that says so."""
    none_S = np.zeros(len(terms), dtype=np.float32)
    return StockReading(
        state=make_start_state(forecast, terms),
        overdue_S=none_S,
        is_assumed_S=none_S.astype(bool),
        notes=(STOCK_ASSUMED,),
    )


def with_open_orders(
    reading: StockReading, open_orders: pa.Table, *, index: SeriesIndex, calendar: Calendar, on_date: date
) -> StockReading:
    """The same reading with more orders on their way: what was approved counts, also where the rest is assumed."""
    on_order_SL, overdue_S, notes = _on_order(
        open_orders, index=index, calendar=calendar, on_date=on_date, source="open_orders"
    )
    num_columns = max(on_order_SL.shape[1], reading.state.on_order_SL.shape[1])
    both = [
        np.pad(columns_SL, ((0, 0), (0, num_columns - columns_SL.shape[1])))
        for columns_SL in (on_order_SL, reading.state.on_order_SL)
    ]
    return replace(
        reading,
        state=replace(reading.state, on_order_SL=both[0] + both[1]),
        overdue_S=reading.overdue_S + overdue_S,
        notes=(*reading.notes, *notes),
    )


def make_stock_tables(
    state: InventoryState, *, index: SeriesIndex, calendar: Calendar, on_date: date
) -> tuple[pa.Table, pa.Table]:
    """Tables ``stock`` and ``open_orders`` of a state on a day: the inverse of ``make_inventory_state``."""
    stock = pa.table(
        {
            Col.ITEM_ID: index.item_ids_S,
            Col.LOCATION_ID: index.location_ids_S,
            Col.ON_HAND_QTY: state.on_hand_S.astype(np.float64),
            Col.RESERVED_QTY: state.reserved_S.astype(np.float64),
            Col.BACKORDER_QTY: state.backorder_S.astype(np.float64),
            Col.SNAPSHOT_ON: pa.array([on_date] * len(index), pa.date32()),
        }
    )
    rows, columns = np.nonzero(state.on_order_SL)
    period = calendar.period_of(on_date)
    open_orders = pa.table(
        {
            Col.ITEM_ID: index.item_ids_S[rows],
            Col.LOCATION_ID: index.location_ids_S[rows],
            Col.OPEN_QTY: state.on_order_SL[rows, columns].astype(np.float64),
            Col.EXPECTED_ON: pa.array([calendar.date_on(period + 1 + int(column)) for column in columns], pa.date32()),
        }
    )
    return stock, open_orders


def make_inventory_state(
    stock: pa.Table,
    open_orders: pa.Table | None,
    *,
    index: SeriesIndex,
    calendar: Calendar,
    on_date: date,
    stock_source: str = "stock",
    open_orders_source: str = "open_orders",
    is_part: bool = False,
) -> StockReading:
    """Read a snapshot, counted at the start of ``on_date`` after receipts, and the orders still to come.

    Parameters
    ----------
    stock, open_orders
        Tables of those names in ``cluster.schema``; a snapshot without a date is taken to be of ``on_date``.
    stock_source, open_orders_source
        What the tables are called in messages: their files.
    is_part
        The tables are the rows of these series out of a snapshot, which may have none of them.

    Raises
    ------
    StaleInputError
        If the snapshot is of another day (on a weekly panel: of another week).
    DataError
        If a quantity is missing or negative, or two stock rows speak of one series.
    """
    if stock.num_rows or not is_part:
        _check_date(stock, on_date=on_date, calendar=calendar, source=stock_source)
    pairs = _ids(stock)
    position_R = index.positions(*pairs)
    _check_unique(position_R, pairs=pairs, source=stock_source)
    on_hand_S, reserved_S, backorder_S = (
        _spread_S(_quantity_R(stock, name, source=stock_source), position_R, num_series=len(index))
        for name in (Col.ON_HAND_QTY, Col.RESERVED_QTY, Col.BACKORDER_QTY)
    )
    is_assumed_S = np.ones(len(index), dtype=bool)
    is_assumed_S[position_R[position_R >= 0]] = False
    notes = _unknown_notes(pairs, position_R, source=stock_source)
    if is_assumed_S.any():
        example = _names(index.item_ids_S[is_assumed_S].tolist())
        notes.append(f"{stock_source}: no row for {is_assumed_S.sum():,} series ({example}): 0 units assumed.")
    on_order_SL, overdue_S, order_notes = _on_order(
        open_orders, index=index, calendar=calendar, on_date=on_date, source=open_orders_source
    )
    state = InventoryState(on_hand_S=on_hand_S, on_order_SL=on_order_SL, backorder_S=backorder_S, reserved_S=reserved_S)
    return StockReading(state=state, overdue_S=overdue_S, is_assumed_S=is_assumed_S, notes=(*notes, *order_notes))


def _check_date(stock: pa.Table, *, on_date: date, calendar: Calendar, source: str) -> None:
    if not stock.num_rows:
        raise DataError(f"{source}: has no rows; export the stock of {on_date} again")
    if Col.SNAPSHOT_ON not in stock.column_names:
        return
    days = pc.min_max(stock[Col.SNAPSHOT_ON].cast(pa.date32())).as_py()
    first, last = days["min"] or on_date, days["max"] or on_date
    if not calendar.period_of(first) == calendar.period_of(on_date) == calendar.period_of(last):
        found = f"{first}" if first == last else f"{first} to {last}"
        raise StaleInputError(
            f"{source}: the snapshot is of {found} but the plan is for {on_date}; export the stock of {on_date} or "
            "plan for the day of the snapshot"
        )


def _ids(table: pa.Table) -> tuple[list[str], list[str]]:
    items = table[Col.ITEM_ID].to_pylist()
    if Col.LOCATION_ID not in table.column_names:
        return items, [DEFAULT_LOCATION] * len(items)
    return items, pc.fill_null(table[Col.LOCATION_ID], DEFAULT_LOCATION).to_pylist()


def _check_unique(position_R: IntArray, *, pairs: tuple[list[str], list[str]], source: str) -> None:
    known_rows = np.flatnonzero(position_R >= 0)
    _, first = np.unique(position_R[known_rows], return_index=True)
    repeated = np.setdiff1d(np.arange(len(known_rows)), first)
    if len(repeated):
        row = int(known_rows[repeated[0]])
        earlier = int(np.flatnonzero(position_R == position_R[row])[0])
        raise DataError(
            f"{source} row {row + 1}: item {pairs[0][row]} at {pairs[1][row]} is already in row {earlier + 1}; "
            "add them up or keep one"
        )


def _quantity_R(table: pa.Table, name: str, *, source: str) -> WideArray:
    if name not in table.column_names:
        return np.zeros(table.num_rows)
    column = table[name].cast(pa.float64())
    may_be_null = name in (Col.RESERVED_QTY, Col.BACKORDER_QTY)
    value_R = np.array(pc.fill_null(column, 0.0 if may_be_null else float("nan")).to_numpy(), dtype=np.float64)
    wrong = np.flatnonzero(~(np.isfinite(value_R) & (value_R >= 0)))
    if len(wrong):
        row = int(wrong[0])
        hint = f"; a negative stock belongs into {Col.BACKORDER_QTY}" if name == Col.ON_HAND_QTY else ""
        raise DataError(
            f"{source} row {row + 1}: {name} must be a number >= 0 (got {value_R[row]:g}); correct the {len(wrong):,} "
            f"such rows{hint}"
        )
    return value_R


def _spread_S(value_R: WideArray, position_R: IntArray, *, num_series: int) -> FloatArray:
    known = position_R >= 0
    return np.bincount(position_R[known], weights=value_R[known], minlength=num_series).astype(np.float32)


def _unknown_notes(pairs: tuple[list[str], list[str]], position_R: IntArray, *, source: str) -> list[str]:
    rows = np.flatnonzero(position_R < 0)
    if not len(rows):
        return []
    named = _names([pairs[0][row] for row in rows[: _NUM_NAMED + 1]])
    return [f"{source}: {len(rows):,} rows name series that the history lacks ({named}): not planned."]


def _names(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_NUM_NAMED]) + (", ..." if len(ids) > _NUM_NAMED else "")


def _on_order(
    table: pa.Table | None, *, index: SeriesIndex, calendar: Calendar, on_date: date, source: str
) -> tuple[FloatArray, FloatArray, list[str]]:
    S = len(index)
    if table is None or not table.num_rows:
        return np.zeros((S, 1), dtype=np.float32), np.zeros(S, dtype=np.float32), []
    pairs = _ids(table)
    position_R = index.positions(*pairs)
    quantity_R = _quantity_R(table, Col.OPEN_QTY, source=source)
    expected_R = _days_R(table, source=source)
    today = (on_date - date(1970, 1, 1)).days
    # Counted after receipts: an order due today that is still open has not come, and comes next period at the earliest.
    column_R = _period_R(expected_R, calendar) - calendar.period_of(on_date) - 1
    column_R = np.clip(column_R, 0, _MAX_COLUMNS - 1)
    known = position_R >= 0
    num_columns = int(column_R[known].max(initial=0)) + 1
    flat = position_R[known] * num_columns + column_R[known]
    on_order = np.bincount(flat, weights=quantity_R[known], minlength=S * num_columns)
    overdue_R = np.where(expected_R <= today, quantity_R, 0.0)
    notes = _unknown_notes(pairs, position_R, source=source)
    is_late_R = known & (overdue_R > 0)
    if is_late_R.any():
        notes.append(
            f"{source}: {is_late_R.sum():,} orders ({overdue_R[is_late_R].sum():g} units) were due by {on_date} and "
            "are still open: counted as arriving next period."
        )
    overdue_S = _spread_S(overdue_R, position_R, num_series=S)
    return on_order.reshape(S, num_columns).astype(np.float32), overdue_S, notes


def _days_R(table: pa.Table, *, source: str) -> IntArray:
    """Expected arrivals in days since 1970."""
    column = table[Col.EXPECTED_ON].cast(pa.date32())
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(f"{source} row {row + 1}: {Col.EXPECTED_ON} is missing; give the day of arrival")
    return np.asarray(column.cast(pa.int32()).to_numpy(), dtype=np.int64)


def _period_R(day_R: IntArray, calendar: Calendar) -> IntArray:
    return (day_R - (calendar.start_on - date(1970, 1, 1)).days) // calendar.period_days
