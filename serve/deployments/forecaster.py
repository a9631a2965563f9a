"""The forecaster as a deployment: one model version over one history, swapped by one assignment."""

import asyncio
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.announce import add_late_orders, announce
from cluster.artifacts import StoredVersion, open_store
from cluster.config import Settings
from cluster.dataset import open_dataset
from cluster.errors import DataError
from cluster.panel import DemandPanel, IntArray
from forecasting.forecast import Forecast
from serve.answers import Changes, SeriesForecasts, ServedModelInfo
from serve.deployments.stored import check_unseen, describe, device_of
from serve.deployments.worker import Worker
from serve.problems import NotReadyError
from serve.store.history import History, SeriesKey
from serve.store.stored_forecasts import ForecastStore
from serve.watch.log import write_to_output
from serve.watch.metrics import BATCH_SIZE, Measured, meter

if TYPE_CHECKING:
    from forecasting.team import ServedForecaster

NAME = "forecaster"
_STORED_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    model: "ServedForecaster"
    stored: StoredVersion
    history: History


class ForecasterReplica(Measured):
    """Answers forecasts of any series of the dataset, many at a time.

    ``user_config``: ``{"version": "v0003", "data": "<digest>"}``; a change of either loads beside the running model and
    takes over when it is complete. A version that does not load leaves the old one serving. Then the forecasts of all
    series are stored (:mod:`serve.store.stored_forecasts`).
    """

    def __init__(self, settings: Settings) -> None:
        write_to_output()
        self._settings = settings
        self._loaded: _Loaded | None = None
        self._storing: asyncio.Task[None] | None = None
        self._worker = Worker(NAME)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve the given version over the given data."""
        self._loaded = await asyncio.to_thread(self._load, user_config)
        self._storing = asyncio.create_task(self._store(self._loaded))

    async def predict(
        self,
        series: list[SeriesKey],
        *,
        horizon: int | None,
        levels: list[float] | None,
        as_of: date | None,
        changes: Changes | None = None,
    ) -> SeriesForecasts:
        """Forecast the given series from the start of ``as_of``, as if history and calendar held the changes too.

        Raises
        ------
        UnknownSeriesError, StaleInputError, DataError
            If a series is unknown, the day is out of reach, or the horizon or a level is beyond the model's.
        """
        meter().observe(BATCH_SIZE, len(series), NAME)
        # The reference is taken once: a swap in the middle of a request does not mix two versions.
        return await self._worker.run(_predict, self._current(), series, horizon, levels, as_of, changes)

    async def drivers(
        self, series: list[SeriesKey], *, periods_S: IntArray, as_of: date | None, changes: Changes | None
    ) -> list[str]:
        """What moves each series' demand over its next periods, empty where it is as usual.

        Raises
        ------
        UnknownSeriesError, StaleInputError, DataError
            As :meth:`predict`.
        """
        return await self._worker.run(_drivers, self._current(), series, periods_S, as_of, changes)

    async def check(self) -> str:
        """Forecast the first series; return the version that did."""
        answer = await self._worker.run(_predict, self._current(), None, None, None, None, None)
        if not np.isfinite(answer.forecast.cumulative_SHQ).all():
            raise NotReadyError("the forecaster answers numbers that are not finite; promote another version")
        return answer.model_version

    async def describe(self) -> ServedModelInfo:
        """Which version answers."""
        return describe(self._current().stored)

    async def stored(self) -> None:
        """Return when the forecasts of all series are stored."""
        if self._storing is not None:
            await self._storing

    async def _store(self, loaded: _Loaded) -> None:
        """Keep the forecasts of all series for the time when this deployment does not answer."""
        store, version = ForecastStore(self._settings, data=loaded.history.digest), loaded.stored.version
        panel = loaded.history.view_at(None).panel
        is_seen = loaded.history.view_at(None).as_of < loaded.stored.manifest.trained_until_on
        if is_seen or panel.num_series > self._settings.serve.stored_series or store.has(version):
            return
        # Between requests, not in their way: each part waits its turn.
        firsts = range(0, panel.num_series, _STORED_AT_ONCE)
        parts = [await self._worker.run(partial(_forecasts_of, loaded, first=first)) for first in firsts]
        await asyncio.to_thread(partial(store.write, version, parts, num_series=panel.num_series))

    def _current(self) -> _Loaded:
        if self._loaded is None:
            raise NotReadyError("the forecaster has not loaded a model yet; try again in a moment")
        return self._loaded

    def _load(self, user_config: dict[str, Any]) -> _Loaded:
        from forecasting.team import load_forecaster, network_of  # here: torch belongs to this replica only

        stored = open_store(self._settings).load(NAME, user_config["version"])
        history = self._loaded.history if self._loaded is not None else None
        if history is None or history.digest != user_config["data"]:
            history = History(open_dataset(self._settings))
        model = load_forecaster(stored.folder)
        network_of(model).network.to(device_of(self._settings, "forecaster"))
        return _Loaded(model=model, stored=stored, history=history)


def _predict(
    loaded: _Loaded,
    series: list[SeriesKey] | None,
    horizon: int | None,
    levels: list[float] | None,
    as_of: date | None,
    changes: Changes | None,
) -> SeriesForecasts:
    view = loaded.history.view_at(as_of)
    check_unseen(loaded.stored, as_of=view.as_of)
    rows_S = np.zeros(1, dtype=np.int64) if series is None else view.rows_of(series)
    panel = _changed(view.panel.take(rows_S), changes)
    try:
        forecast = loaded.model.predict(panel, horizon=horizon)
        forecast = forecast if levels is None else forecast.at_levels(levels)
    except ValueError as error:
        raise DataError(f"the served forecaster cannot answer this: {error}") from error
    return view.answer(forecast, rows_S=rows_S, model_version=loaded.stored.version)


def _drivers(
    loaded: _Loaded, series: list[SeriesKey], periods_S: IntArray, as_of: date | None, changes: Changes | None
) -> list[str]:
    from forecasting.explain import driver_phrases  # here, as the model: torch belongs to this replica only
    from forecasting.explain_blend import explain_served

    view = loaded.history.view_at(as_of)
    check_unseen(loaded.stored, as_of=view.as_of)
    panel = _changed(view.panel.take(view.rows_of(series)), changes)
    return driver_phrases(explain_served(loaded.model, panel, periods=periods_S))


def _changed(panel: DemandPanel, changes: Changes | None) -> DemandPanel:
    if changes is None:
        return panel
    if changes.late_orders is not None:
        panel = add_late_orders(panel, changes.late_orders)
    return panel if changes.promotions is None else announce(panel, changes.promotions)


def _forecasts_of(loaded: _Loaded, *, first: int) -> Forecast:
    panel = loaded.history.view_at(None).panel
    return loaded.model.predict(panel.take(np.arange(first, min(first + _STORED_AT_ONCE, panel.num_series))))
