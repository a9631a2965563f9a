"""The forecaster as a deployment: one model version over one history, swapped by one assignment."""

import asyncio
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.artifacts import StoredVersion, open_store
from cluster.config import Settings
from cluster.dataset import open_dataset
from cluster.errors import DataError
from serve.answers import SeriesForecasts, ServedModelInfo
from serve.deployments.stored import check_unseen, describe
from serve.deployments.worker import Worker
from serve.history import History, SeriesKey
from serve.metrics import BATCH_SIZE, Measured, meter
from serve.problems import NotReadyError

if TYPE_CHECKING:
    from forecasting.team import ServedForecaster

NAME = "forecaster"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    model: "ServedForecaster"
    stored: StoredVersion
    history: History


class ForecasterReplica(Measured):
    """Answers forecasts of any series of the dataset, many at a time.

    ``user_config``: ``{"version": "v0003", "data": "<digest>"}``; a change of either loads beside the running model and
    takes over when it is complete. A version that does not load leaves the old one serving.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loaded: _Loaded | None = None
        self._worker = Worker(NAME)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve the given version over the given data."""
        self._loaded = await asyncio.to_thread(self._load, user_config)

    async def predict(
        self, series: list[SeriesKey], *, horizon: int | None, levels: list[float] | None, as_of: date | None
    ) -> SeriesForecasts:
        """Forecast the given series from the start of ``as_of``.

        Raises
        ------
        UnknownSeriesError, StaleInputError, DataError
            If a series is unknown, the day is out of reach, or the horizon or a level is beyond the model's.
        """
        meter().observe(BATCH_SIZE, len(series), NAME)
        # The reference is taken once: a swap in the middle of a request does not mix two versions.
        return await self._worker.run(_predict, self._current(), series, horizon, levels, as_of)

    async def check(self) -> str:
        """Forecast the first series; return the version that did."""
        answer = await self._worker.run(_predict, self._current(), None, None, None, None)
        if not np.isfinite(answer.forecast.cumulative_SHQ).all():
            raise NotReadyError("the forecaster answers numbers that are not finite; promote another version")
        return answer.model_version

    async def describe(self) -> ServedModelInfo:
        """Which version answers."""
        return describe(self._current().stored)

    def _current(self) -> _Loaded:
        if self._loaded is None:
            raise NotReadyError("the forecaster has not loaded a model yet; try again in a moment")
        return self._loaded

    def _load(self, user_config: dict[str, Any]) -> _Loaded:
        from forecasting.team import load_forecaster  # here: torch belongs to this replica only

        stored = open_store(self._settings).load(NAME, user_config["version"])
        history = self._loaded.history if self._loaded is not None else None
        if history is None or history.digest != user_config["data"]:
            history = History(open_dataset(self._settings))
        return _Loaded(model=load_forecaster(stored.folder), stored=stored, history=history)


def _predict(
    loaded: _Loaded,
    series: list[SeriesKey] | None,
    horizon: int | None,
    levels: list[float] | None,
    as_of: date | None,
) -> SeriesForecasts:
    view = loaded.history.view_at(as_of)
    check_unseen(loaded.stored, as_of=view.as_of)
    panel = view.panel
    rows_S = np.zeros(1, dtype=np.int64) if series is None else view.rows_of(series)
    try:
        forecast = loaded.model.predict(panel.take(rows_S), horizon=horizon)
        forecast = forecast if levels is None else forecast.at_levels(levels)
    except ValueError as error:
        raise DataError(f"the served forecaster cannot answer this: {error}") from error
    return SeriesForecasts(
        item_ids_S=panel.index.item_ids_S[rows_S],
        location_ids_S=panel.index.location_ids_S[rows_S],
        as_of=view.as_of,
        period_days=panel.calendar.period_days,
        dates_H=tuple(panel.calendar.date_on(panel.num_periods + ahead) for ahead in range(forecast.horizon)),
        forecast=forecast,
        model_version=loaded.stored.version,
    )
