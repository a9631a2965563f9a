"""What a panel does not hold yet, added to it: promotions that are planned, orders that came late. Pure.

Shapes: S series, T history periods, X = T + periods known ahead, P promotion channels.
"""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.errors import DataError
from cluster.panel import Calendar, DemandPanel, IntArray
from cluster.schema import Col


def announce(panel: DemandPanel, promotions: pa.Table) -> DemandPanel:
    """A panel that also knows the given promotions in the periods after its history; the stronger one counts.

    Rows of items that the panel does not hold, and days that lie within history or beyond what is known ahead, change
    nothing.

    Parameters
    ----------
    promotions
        Rows of the schema ``PROMOTIONS``.

    Raises
    ------
    DataError
        If a channel has no past: nothing is known of what it does.
    """
    channel_of = {name: place for place, name in enumerate(panel.promotion_names)}
    promotion_SXP = panel.promotion_SXP.copy()
    for row in promotions.to_pylist():
        if row[Col.PROMOTION_TYPE] not in channel_of:
            known = ", ".join(panel.promotion_names) or "none"
            raise DataError(
                f"promotion of item {row[Col.ITEM_ID]!r} on channel {row[Col.PROMOTION_TYPE]!r}: the history has no "
                f"such channel; use one of: {known}"
            )
        rows_S = _rows_of(panel, row)
        for period, share in _periods(panel, start_on=row[Col.START_ON], end_on=row[Col.END_ON]):
            intensity = np.float32(share * (1.0 if row[Col.INTENSITY] is None else row[Col.INTENSITY]))
            cell_S = promotion_SXP[rows_S, period, channel_of[row[Col.PROMOTION_TYPE]]]
            promotion_SXP[rows_S, period, channel_of[row[Col.PROMOTION_TYPE]]] = np.maximum(cell_S, intensity)
    return replace(panel, promotion_SXP=promotion_SXP)


def add_late_orders(panel: DemandPanel, orders: pa.Table) -> DemandPanel:
    """A panel whose history also holds the given orders; where something was sold, it was in stock.

    Rows of series that the panel does not hold change nothing.

    Parameters
    ----------
    orders
        Columns ``item_id``, ``location_id``, ``sold_on`` (day) and ``sold_qty`` (units, added to those of that period).

    Raises
    ------
    DataError
        If an order lies outside history: it would be one of a period that has not ended.
    """
    first, until = panel.calendar.start_on, panel.calendar.date_on(panel.num_periods)
    row_S = panel.index.positions(orders[Col.ITEM_ID].to_pylist(), orders[Col.LOCATION_ID].to_pylist())
    sales_ST, in_stock_ST = panel.sales_ST.copy(), panel.in_stock_ST.copy()
    for row, day, units in zip(row_S, orders["sold_on"].to_pylist(), orders["sold_qty"].to_pylist(), strict=True):
        if not first <= day < until:
            raise DataError(f"order sold on {day}: history holds the days from {first} to before {until}; leave it out")
        if row >= 0:
            sales_ST[row, panel.calendar.period_of(day)] += np.float32(units)
            in_stock_ST[row, panel.calendar.period_of(day)] |= units > 0
    return replace(panel, sales_ST=sales_ST, in_stock_ST=in_stock_ST)


def _rows_of(panel: DemandPanel, row: dict[str, Any]) -> IntArray:
    is_item_S = panel.index.item_ids_S == row[Col.ITEM_ID]
    if row[Col.LOCATION_ID] is not None:
        is_item_S &= panel.index.location_ids_S == row[Col.LOCATION_ID]
    return np.flatnonzero(is_item_S)


def _periods(panel: DemandPanel, *, start_on: date, end_on: date) -> list[tuple[int, float]]:
    """Periods after history that the promotion touches, with the share of their days."""
    calendar: Calendar = panel.calendar
    first = max(calendar.period_of(start_on), panel.num_periods)
    last = min(calendar.period_of(end_on), len(panel.holiday_X) - 1)
    touched = []
    for period in range(first, last + 1):
        begin = calendar.date_on(period)
        end = begin + timedelta(days=calendar.period_days - 1)
        days = (min(end, end_on) - max(begin, start_on)).days + 1
        touched.append((period, days / calendar.period_days))
    return touched
