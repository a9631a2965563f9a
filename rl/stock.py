"""From a stock snapshot and open orders to the state that policies see.

Shapes: S series, L periods until arrival, R table rows.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.errors import DataError, StaleInputError
from cluster.panel import BoolArray, Calendar, FloatArray, IntArray, SeriesIndex
from cluster.schema import DEFAULT_LOCATION, Col
from rl.inventory import InventoryState

_MAX_NAMED = 5
# A mistyped year must not make an array of millions of columns.
_MOST_PERIODS = 366


def make_inventory_state(
    stock: pa.Table, open_orders: pa.Table | None, *, index: SeriesIndex, calendar: Calendar, period: int
) -> InventoryState:
    """State at the start of a period, receipts of that period in.

    An order that is due in this period or overdue has not come yet, since the count follows the receipts: it is
    expected in the next one. One that is years away counts in the inventory position all the same. Rows of other series
    are not read.

    Parameters
    ----------
    stock
        By ``cluster.schema.STOCK``, one row for each series of ``index``. A null ``snapshot_on`` is the period itself.
    open_orders
        By ``cluster.schema.OPEN_ORDERS``; a series may have several.

    Raises
    ------
    StaleInputError
        If the stock was counted in another period.
    DataError
        If a series has no row or two, or a quantity is negative or not finite.
    """
    row_S = _rows_of_series(stock, index=index)
    _check_fresh(stock.take(row_S), calendar=calendar, period=period)
    return InventoryState(
        on_hand_S=_units(stock, Col.ON_HAND_QTY, name_of_table="stock")[row_S],
        on_order_SL=_on_order_SL(open_orders, index=index, calendar=calendar, period=period),
        backorder_S=_units(stock, Col.BACKORDER_QTY, name_of_table="stock")[row_S],
        reserved_S=_units(stock, Col.RESERVED_QTY, name_of_table="stock")[row_S],
    )


def _rows_of_series(stock: pa.Table, *, index: SeriesIndex) -> IntArray:
    series_R = _series_R(stock, index=index)
    rows_R = np.flatnonzero(series_R >= 0)
    count_S = np.bincount(series_R[rows_R], minlength=len(index))
    _refuse(count_S == 0, index=index, problem="no stock row; add it, with on_hand_qty 0 if the shelf is empty")
    _refuse(count_S > 1, index=index, problem="more than one stock row; keep one")
    row_S = np.empty(len(index), dtype=np.int64)
    row_S[series_R[rows_R]] = rows_R
    return row_S


def _on_order_SL(open_orders: pa.Table | None, *, index: SeriesIndex, calendar: Calendar, period: int) -> FloatArray:
    if open_orders is None or not open_orders.num_rows:
        return np.zeros((len(index), 1), dtype=np.float32)
    series_R = _series_R(open_orders, index=index)
    qty_R = _units(open_orders, Col.OPEN_QTY, name_of_table="open_orders")
    due_R = np.array([calendar.period_of(day) for day in open_orders[Col.EXPECTED_ON].to_pylist()], dtype=np.int64)
    column_R = np.clip(due_R - period - 1, 0, _MOST_PERIODS - 1)
    is_ours_R = series_R >= 0
    columns = int(column_R[is_ours_R].max(initial=0)) + 1
    on_order_SL = np.zeros((len(index), columns), dtype=np.float32)
    np.add.at(on_order_SL, (series_R[is_ours_R], column_R[is_ours_R]), qty_R[is_ours_R])
    return on_order_SL


def _series_R(table: pa.Table, *, index: SeriesIndex) -> IntArray:
    items = table[Col.ITEM_ID].to_pylist()
    locations = _column(table, Col.LOCATION_ID, default=DEFAULT_LOCATION)
    return index.positions(items, locations)


def _column(table: pa.Table, name: str, *, default: Any) -> list[Any]:
    if name not in table.column_names:
        return [default] * table.num_rows
    return [default if value is None else value for value in table[name].to_pylist()]


def _units(table: pa.Table, name: str, *, name_of_table: str) -> FloatArray:
    qty_R = np.array(_column(table, name, default=0.0), dtype=np.float64)
    wrong = np.flatnonzero(~(np.isfinite(qty_R) & (qty_R >= 0)))
    if len(wrong):
        row = int(wrong[0])
        raise DataError(f"{name_of_table} row {row + 1}: {name} must be a number >= 0 (got {qty_R[row]:g}); correct it")
    return qty_R.astype(np.float32)


def _check_fresh(stock: pa.Table, *, calendar: Calendar, period: int) -> None:
    days: Sequence[date | None] = _column(stock, Col.SNAPSHOT_ON, default=None)
    wrong = sorted({day for day in days if day is not None and calendar.period_of(day) != period})
    if wrong:
        raise StaleInputError(
            f"stock was counted on {wrong[0]}, the plan is for {calendar.date_on(period)}; "
            "export the stock of that day, or plan as of the day of the count"
        )


def _refuse(is_wrong_S: BoolArray, *, index: SeriesIndex, problem: str) -> None:
    wrong = np.flatnonzero(is_wrong_S)
    if len(wrong):
        named = ", ".join(f"item {index.item_ids_S[row]} at {index.location_ids_S[row]}" for row in wrong[:_MAX_NAMED])
        more = f" and {len(wrong) - _MAX_NAMED} more" if len(wrong) > _MAX_NAMED else ""
        raise DataError(f"{named}{more}: {problem}")
