"""Rolling-origin backtest: every model forecasts from the same origins and is scored on the same days."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.errors import DataError
from cluster.panel import DemandPanel
from forecasting import baselines
from forecasting.forecast import Forecast
from forecasting.metrics import score_forecasts
from forecasting.team import BLEND, NETWORK, TREES, ServedForecaster, Team

RollingForecast = Callable[[DemandPanel, Sequence[int], int], Sequence[Forecast]]
"""From a panel, origins and a horizon to one forecast per origin, each from what is known there."""
MetricRow = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A model in a backtest.

    Parameters
    ----------
    max_series
        A slow model is scored on this many series, evenly spaced; its row says how many there were.
    """

    rolling: RollingForecast
    max_series: int | None = None


def rolling(forecast_view: Callable[[DemandPanel, int], Forecast]) -> RollingForecast:
    """Make a model that forecasts one view at a time roll over origins."""

    def roll(panel: DemandPanel, origins: Sequence[int], horizon: int) -> list[Forecast]:
        return [forecast_view(panel.until(origin), horizon) for origin in origins]

    return roll


def make_contenders(
    forecaster: ServedForecaster | None,
    *,
    seed: int,
    max_statistical_series: int | None = None,
) -> dict[str, Contender]:
    """What is served (if given) and its members beside the baselines; ETS and ARIMA on at most so many series."""
    limit = max_statistical_series
    contenders = {
        "seasonal-naive": Contender(rolling=rolling(lambda view, h: baselines.seasonal_naive(view, horizon=h))),
        "weekday-quantiles": Contender(
            rolling=rolling(lambda view, h: baselines.weekday_quantiles(view, horizon=h, seed=seed))
        ),
        "croston": Contender(rolling=rolling(lambda view, h: baselines.croston(view, horizon=h))),
        "tsb": Contender(rolling=rolling(lambda view, h: baselines.tsb(view, horizon=h))),
        "ets": Contender(rolling=rolling(lambda view, h: baselines.ets(view, horizon=h)), max_series=limit),
        "arima": Contender(rolling=rolling(lambda view, h: baselines.arima(view, horizon=h)), max_series=limit),
    }
    if forecaster is None:
        return contenders
    if isinstance(forecaster, Team):
        names = [BLEND, NETWORK, *([TREES] if forecaster.trees else [])]
        return {name: Contender(rolling=_of_member(forecaster, name)) for name in names} | contenders

    def roll(panel: DemandPanel, origins: Sequence[int], horizon: int) -> list[Forecast]:
        return forecaster.predict_rolling(panel, origins=origins, horizon=horizon)

    return {NETWORK: Contender(rolling=roll)} | contenders


def _of_member(team: Team, name: str) -> RollingForecast:
    def roll(panel: DemandPanel, origins: Sequence[int], horizon: int) -> list[Forecast]:
        return team.predict_rolling(panel, origins=origins, horizon=horizon, member=name)

    return roll


def make_origins(panel: DemandPanel, *, num_origins: int, horizon: int, first: int) -> list[int]:
    """Origins in steps of the horizon, the last one as late as it can be scored; fewer if ``first`` is in the way.

    Raises
    ------
    DataError
        If not even one horizon fits between ``first`` and the end of the panel.
    """
    last = panel.num_periods - horizon
    if last < max(first, 1):
        raise DataError(
            f"a horizon of {horizon} periods does not fit after period {first} of {panel.num_periods}; "
            "shorten forecast.horizon or load more history"
        )
    return sorted(origin for k in range(num_origins) if (origin := last - k * horizon) >= max(first, 1))


def evaluate_forecasts(
    panel: DemandPanel,
    *,
    models: Mapping[str, Contender],
    origins: Sequence[int],
    horizon: int,
    on_model: Callable[[str], None] = lambda name: None,
) -> list[MetricRow]:
    """Forecast with every model and score it: one JSON-able row per model.

    Parameters
    ----------
    models
        Name -> contender; :func:`make_contenders` gives the usual ones.
    on_model
        Called with a model's name when its row is there.

    Returns
    -------
    Rows of ``model``, ``num_series`` (scored), ``num_origins``, ``horizon``, ``seconds`` (to fit and predict), and the
    scores of :func:`forecasting.metrics.score_forecasts`.
    """
    rows = []
    for name, contender in models.items():
        scored = _sample(panel, max_series=contender.max_series)
        began_s = time.perf_counter()
        forecasts = contender.rolling(scored, origins, horizon)
        seconds = time.perf_counter() - began_s
        rows.append(
            {
                "model": name,
                "num_series": scored.num_series,
                "num_origins": len(origins),
                "horizon": horizon,
                "seconds": seconds,
                **score_forecasts(scored, forecasts=forecasts, origins=origins),
            }
        )
        on_model(name)
    return rows


def _sample(panel: DemandPanel, *, max_series: int | None) -> DemandPanel:
    if max_series is None or panel.num_series <= max_series:
        return panel
    return panel.take(np.linspace(0, panel.num_series - 1, max_series).round().astype(np.int64))
