"""What a plan stands on: the asked series on the asked day, their terms, and the stock to start from."""

from dataclasses import dataclass, replace
from datetime import date

import pyarrow as pa

from cluster.panel import SeriesIndex
from cluster.schema import Col
from forecasting.forecast import Forecast
from rl.inventory import SupplyTerms
from rl.stock import StockReading, assume_stock, make_inventory_state, with_open_orders
from serve.store.book_view import BookRows
from serve.store.history import HistoryView, SeriesKey


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanBasis:
    """The asked series on the asked day, and the terms on which they can be ordered."""

    view: HistoryView
    on_date: date
    index: SeriesIndex
    terms: SupplyTerms
    assumptions: tuple[str, ...]

    @property
    def series(self) -> list[SeriesKey]:
        """The asked series, as they are called outside."""
        return list(zip(self.index.item_ids_S.tolist(), self.index.location_ids_S.tolist(), strict=True))


def starting_stock(basis: PlanBasis, rows: BookRows | None, forecast: Forecast) -> tuple[StockReading, bool]:
    """State of the asked series, and whether it had to be assumed."""
    calendar, day = basis.view.panel.calendar, basis.on_date
    if rows is None:
        return assume_stock(forecast, basis.terms), True
    orders = _without_others(rows.open_orders, basis)
    if rows.stock is None or rows.counted_on is None or calendar.period_of(rows.counted_on) != calendar.period_of(day):
        reading = with_open_orders(
            assume_stock(forecast, basis.terms), orders, index=basis.index, calendar=calendar, on_date=day
        )
        return replace(reading, notes=(*reading.notes, *_stale_notes(rows, day))), True
    reading = make_inventory_state(
        _without_others(rows.stock, basis), orders, index=basis.index, calendar=calendar, on_date=day, is_part=True
    )
    return replace(reading, notes=(*reading.notes, *_known_notes(rows))), False


def _stale_notes(rows: BookRows, day: date) -> tuple[str, ...]:
    if rows.counted_on is None:
        return _known_notes(rows)
    return (f"The stock that is known is of {rows.counted_on}, the plan of {day}: send a count of that day.",)


def _known_notes(rows: BookRows) -> tuple[str, ...]:
    if rows.known_at is None:
        return ()
    return (f"The database does not answer: stock and orders are as of {rows.known_at:%Y-%m-%d %H:%M:%S} UTC.",)


def _without_others(table: pa.Table, basis: PlanBasis) -> pa.Table:
    """Drop rows of series that history has but nobody asked for; rows of unknown ones stay, to be named in a note."""
    asked = set(basis.series)
    keys = zip(table[Col.ITEM_ID].to_pylist(), table[Col.LOCATION_ID].to_pylist(), strict=True)
    return table.filter(pa.array([key in asked or key not in basis.view.row_of for key in keys], pa.bool_()))


def dated(stock: pa.Table, *, day: date) -> pa.Table:
    """Rows without a day of counting were counted on the day of the plan."""
    place = stock.schema.get_field_index(Col.SNAPSHOT_ON)
    return stock.set_column(place, Col.SNAPSHOT_ON, stock[Col.SNAPSHOT_ON].fill_null(day))
