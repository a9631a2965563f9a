"""Which days and periods history covers, and which of them are public holidays. Pure: no clock, no files."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

import holidays
import numpy as np
import polars as pl

from cluster.errors import ConfigError, DataError
from cluster.panel import Calendar, FloatArray
from cluster.schema import Col

# How many days before the last one show when a day usually ends, and how few are enough to tell.
_COMPARED_DAYS = 28
_FEWEST_COMPARED_DAYS = 7
_EARLIER_S = 2 * 3600
_STORED_DAYS_MORE = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The calendar of all series and its number of complete periods.

    ``num_stored`` periods reach a week further than the last order, so that a decision can be asked for on a day that
    follows days without orders, or for which an incomplete last day is all there is.
    """

    calendar: Calendar
    num_periods: int
    num_stored: int
    notes: tuple[str, ...] = ()


def find_history(last_second_of_day: Mapping[date, int], *, frequency: str) -> History:
    """Complete periods between the first and the last order.

    The last day does not count if its orders stop two hours earlier than on any day of the four weeks before: an export
    taken at noon would otherwise end in a slump. Weeks begin on the weekday of the first
    order; an incomplete last week is dropped. Orders that all fall on one weekday are weekly figures, and the last of
    them stands for a complete week.

    Parameters
    ----------
    last_second_of_day
        Day -> second of the day of its last order, for days with orders, in the shop's time zone.
    frequency
        ``"D"`` or ``"W"``.

    Raises
    ------
    DataError
        If there is not one complete period.
    """
    days = sorted(last_second_of_day)
    first, last = days[0], days[-1]
    notes = []
    if _ends_early([last_second_of_day[day] for day in days]):
        notes.append(f"{last} is left out of the series: its orders stop hours before those of other days")
        last = days[-2]
    period_days = 7 if frequency == "W" else 1
    if period_days == 7 and len(days) > 1 and all((b - a).days % 7 == 0 for a, b in pairwise(days)):
        last += timedelta(days=6)
    num_days = (last - first).days + 1
    num_periods = num_days // period_days
    if num_periods * period_days < num_days:
        cut_on = first + timedelta(days=num_periods * period_days)
        notes.append(f"{cut_on} to {last} are left out of the series: the last week is not complete")
    if num_periods == 0:
        raise DataError(f"orders reach from {first} to {last}, less than one week; load more history or use days")
    return History(
        calendar=Calendar(start_on=first, period_days=period_days),
        num_periods=num_periods,
        num_stored=-(-((days[-1] - first).days + 1 + _STORED_DAYS_MORE) // period_days),
        notes=tuple(notes),
    )


def _ends_early(last_seconds: list[int]) -> bool:
    compared = last_seconds[-_COMPARED_DAYS - 1 : -1]
    return len(compared) >= _FEWEST_COMPARED_DAYS and last_seconds[-1] < min(compared) - _EARLIER_S


def make_holidays(*, market: pl.DataFrame | None, country: str, history: History, notice_periods: int) -> FloatArray:
    """Share of each period's days that are holidays, shape (X,) with X = stored and notice periods.

    The market table's own holidays are used if it has any, else the public holidays of ``country`` ('' for none).

    Raises
    ------
    ConfigError
        If the country is not known.
    """
    calendar = history.calendar
    num_days = (history.num_stored + notice_periods) * calendar.period_days
    given = market.filter((pl.col(Col.SIGNAL) == "holiday") & (pl.col(Col.VALUE) > 0)) if market is not None else None
    if given is not None and given.height:
        days = set(given[Col.DATE_ON].to_list())
    else:
        days = _public_holidays(country, first=calendar.start_on, num_days=num_days)
    flags = [float(calendar.start_on + timedelta(days=day) in days) for day in range(num_days)]
    return np.array(flags, dtype=np.float32).reshape(-1, calendar.period_days).mean(axis=1)


def _public_holidays(country: str, *, first: date, num_days: int) -> set[date]:
    if not country:
        return set()
    years = range(first.year, (first + timedelta(days=num_days)).year + 1)
    try:
        return set(holidays.country_holidays(country, years=years))
    except NotImplementedError as error:
        raise ConfigError(
            f"data.holidays={country}: no such country; give its ISO 3166 code, such as US or GB, or '' for none"
        ) from error
