"""The history that a replica answers from: which series it has, and which day a request may stand on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import numpy as np

from cluster.dataset import Dataset
from cluster.errors import StaleInputError
from cluster.panel import DemandPanel, IntArray
from forecasting.forecast import Forecast
from serve.answers import SeriesForecasts
from serve.problems import UnknownSeriesError

SeriesKey = tuple[str, str]
_MAX_NAMED = 10
_VIEWS_KEPT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryView:
    """History as it was known at the start of one period, and where each series is in it."""

    panel: DemandPanel
    row_of: dict[SeriesKey, int]

    @property
    def as_of(self) -> date:
        """First day that is not known."""
        return self.panel.calendar.date_on(self.panel.num_periods)

    def rows_of(self, series: Sequence[SeriesKey]) -> IntArray:
        """Row of each series.

        Raises
        ------
        UnknownSeriesError
            Naming those that the history does not have.
        """
        unknown = [key for key in series if key not in self.row_of]
        if unknown:
            named = ", ".join(f"item {item_id!r} at {location_id!r}" for item_id, location_id in unknown[:_MAX_NAMED])
            more = f" and {len(unknown) - _MAX_NAMED} more" if len(unknown) > _MAX_NAMED else ""
            raise UnknownSeriesError(
                f"no planned series on {self.as_of}: {named}{more}; leave them out, or load their history"
            )
        return np.array([self.row_of[key] for key in series], dtype=np.int64)

    def answer(
        self, forecast: Forecast, *, rows_S: IntArray, model_version: str, is_fallback: bool = False
    ) -> SeriesForecasts:
        """A forecast of some rows from the end of this history, with the names and days that belong to it."""
        index, calendar = self.panel.index, self.panel.calendar
        return SeriesForecasts(
            item_ids_S=index.item_ids_S[rows_S],
            location_ids_S=index.location_ids_S[rows_S],
            as_of=self.as_of,
            period_days=calendar.period_days,
            dates_H=tuple(calendar.date_on(self.panel.num_periods + ahead) for ahead in range(forecast.horizon)),
            forecast=forecast,
            model_version=model_version,
            is_fallback=is_fallback,
        )


class History:
    """A dataset's views: the whole of it, read once, and as of a few other days, read when asked for.

    Read-only, so that requests and a swap may share it.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._whole = _view(dataset.panel())
        self._other = lru_cache(maxsize=_VIEWS_KEPT)(lambda period: _view(dataset.panel(until=period)))

    @property
    def digest(self) -> str:
        """Digest of the dataset."""
        return self.dataset.digest

    def view_at(self, as_of: date | None) -> HistoryView:
        """What was known at the start of the period that contains ``as_of``; all history by default.

        Raises
        ------
        StaleInputError
            If the day lies before history, or too long after it.
        """
        if as_of is None:
            return self._whole
        calendar, last = self.dataset.calendar, self.dataset.num_stored
        period = calendar.period_of(as_of)
        if not 1 <= period <= last:
            raise StaleInputError(
                f"history starts on {calendar.start_on} and decisions can be asked for up to {calendar.date_on(last)}, "
                f"as_of is {as_of}; load newer history, or leave as_of out: the default is the day after history"
            )
        return self._whole if period == self._whole.panel.num_periods else self._other(period)


def _view(panel: DemandPanel) -> HistoryView:
    keys = zip(panel.index.item_ids_S.tolist(), panel.index.location_ids_S.tolist(), strict=True)
    return HistoryView(panel=panel, row_of={key: row for row, key in enumerate(keys)})
