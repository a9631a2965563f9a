"""Forecasts that any planner could make without us: what the network has to beat.

Each takes a view (history up to the decision) and returns a :class:`~forecasting.forecast.Forecast`. Shapes: S series,
T history periods, H horizon, Q quantile levels, N paths.
"""

import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import nbinom

from cluster.panel import DemandPanel, FloatArray
from forecasting.features import season_periods
from forecasting.forecast import Forecast

DEFAULT_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_ERROR_PATHS = 56
_WEEKS = 8
_DRAWS = 200
_STATISTICAL_PERIODS = 180
"""History that ETS and ARIMA are fitted to: older days change little but the time they take."""
_SHORTEST_FIT = 15
_TSB_ALPHA = 0.1
_INTERVAL = 80
_INTERVAL_SCORE = float(ndtri(0.9))


class _StatisticalModel(Protocol):
    def forecast(
        self, y: npt.NDArray[np.float64], h: int, *, level: list[int] | None = None
    ) -> dict[str, npt.NDArray[np.floating[Any]]]: ...


def seasonal_naive(view: DemandPanel, *, horizon: int, levels: Sequence[float] = DEFAULT_LEVELS) -> Forecast:
    """Repeat the last season (the last week on daily panels, the last period on weekly ones).

    Quantiles come from the paths of errors that the same rule made from each of the last 56 origins, so those of sums
    keep how errors of following days go together.
    """
    season = season_periods(view.calendar.period_days)
    sales_ST = _padded(view.sales_ST, least=season)
    T = sales_ST.shape[1]
    ahead_H = np.arange(horizon) % season
    point_SH = sales_ST[:, T - season + ahead_H]
    num_paths = min(_ERROR_PATHS, T - horizon - season + 1)
    if num_paths < 1:
        return _from_paths(point_SH[:, None], mean_SH=point_SH, levels=levels)
    origins = T - horizon - np.arange(num_paths)
    truth_SNH = sales_ST[:, origins[:, None] + np.arange(horizon)]
    error_SNH = truth_SNH - sales_ST[:, origins[:, None] - season + ahead_H]
    return _from_paths(np.maximum(point_SH[:, None] + error_SNH, 0.0), mean_SH=point_SH, levels=levels)


def weekday_quantiles(
    view: DemandPanel, *, horizon: int, seed: int, levels: Sequence[float] = DEFAULT_LEVELS
) -> Forecast:
    """Quantiles of the last eight sales of the same weekday (of the last eight periods on weekly panels).

    Sums are quantiles over 200 paths that string together weeks drawn from those eight.
    """
    season = season_periods(view.calendar.period_days)
    sales_ST = _padded(view.sales_ST, least=season)
    num_weeks = min(_WEEKS, sales_ST.shape[1] // season)
    week_SWM = sales_ST[:, sales_ST.shape[1] - num_weeks * season :].reshape(len(sales_ST), num_weeks, season)
    ahead_H = np.arange(horizon)
    drawn_NC = np.random.default_rng(seed).integers(0, num_weeks, (_DRAWS, -(-horizon // season)))
    path_SNH = week_SWM[:, drawn_NC[:, ahead_H // season], ahead_H % season]
    same_day_SWH = week_SWM[:, :, ahead_H % season]
    drawn = _from_paths(path_SNH, mean_SH=same_day_SWH.mean(axis=1), levels=levels)
    return Forecast(
        levels_Q=drawn.levels_Q,
        mean_SH=drawn.mean_SH,
        marginal_SHQ=_quantiles(same_day_SWH, drawn.levels_Q),
        cumulative_SHQ=drawn.cumulative_SHQ,
    )


def ets(view: DemandPanel, *, horizon: int, levels: Sequence[float] = DEFAULT_LEVELS) -> Forecast:
    """Exponential smoothing with additive errors and season, trend by information criterion (statsforecast)."""
    from statsforecast.models import AutoETS  # here, because numba takes seconds to import

    season = season_periods(view.calendar.period_days)
    return _statistical(view, AutoETS(season_length=season, model="ANA" if season > 1 else "AZN"), horizon, levels)


def arima(view: DemandPanel, *, horizon: int, levels: Sequence[float] = DEFAULT_LEVELS) -> Forecast:
    """Seasonal ARIMA, orders up to (2, 1, 2)(1, 1, 1), by a short stepwise search (statsforecast); slow."""
    from statsforecast.models import AutoARIMA

    season = season_periods(view.calendar.period_days)
    model = AutoARIMA(season_length=season, max_p=2, max_q=2, max_P=1, max_Q=1, max_d=1, nmodels=8, approximation=True)
    return _statistical(view, model, horizon, levels)


def croston(view: DemandPanel, *, horizon: int, levels: Sequence[float] = DEFAULT_LEVELS) -> Forecast:
    """Croston's method with Syntetos and Boylan's correction (statsforecast): size and distance of sales apart."""
    from statsforecast.models import CrostonSBA

    return _counted(view, CrostonSBA(), horizon, levels)


def tsb(view: DemandPanel, *, horizon: int, levels: Sequence[float] = DEFAULT_LEVELS) -> Forecast:
    """Teunter, Syntetos and Babai (2011; statsforecast): size of sales and their chance, which fades without any."""
    from statsforecast.models import TSB

    return _counted(view, TSB(alpha_d=_TSB_ALPHA, alpha_p=_TSB_ALPHA), horizon, levels)


def _padded(sales_ST: FloatArray, *, least: int) -> FloatArray:
    """At least one season of history: a shorter one is continued to the left with zeros."""
    missing = max(0, least - sales_ST.shape[1])
    return np.pad(sales_ST, ((0, 0), (missing, 0)))


def _quantiles(path_SNH: FloatArray, levels_Q: FloatArray) -> FloatArray:
    return np.moveaxis(np.quantile(path_SNH, levels_Q, axis=1), 0, -1).astype(np.float32)


def _from_paths(path_SNH: FloatArray, *, mean_SH: FloatArray, levels: Sequence[float]) -> Forecast:
    levels_Q = np.asarray(levels, dtype=np.float32)
    return Forecast(
        levels_Q=levels_Q,
        mean_SH=mean_SH.astype(np.float32),
        marginal_SHQ=_quantiles(path_SNH, levels_Q),
        cumulative_SHQ=_quantiles(np.cumsum(path_SNH, axis=2, dtype=np.float64), levels_Q),
    )


def _statistical(view: DemandPanel, model: _StatisticalModel, horizon: int, levels: Sequence[float]) -> Forecast:
    mean_SH, deviation_SH = np.zeros((2, view.num_series, horizon))
    recent_ST = view.sales_ST[:, -_STATISTICAL_PERIODS:]
    with warnings.catch_warnings():
        # Several a series: that a search stopped early or an optimiser was not sure.
        warnings.simplefilter("ignore")
        for s, sales_T in enumerate(recent_ST):
            mean_SH[s], deviation_SH[s] = _fit_one(model, sales_T, horizon)
    return _from_normal(mean_SH, deviation_SH, levels=levels)


def _fit_one(
    model: _StatisticalModel, sales_T: FloatArray, horizon: int
) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.floating[Any]]]:
    """Mean and standard deviation ahead; those of history itself where it is too short, constant or does not fit."""
    known_T = sales_T[int(np.argmax(sales_T > 0)) :].astype(np.float64)
    plain = np.full(horizon, known_T.mean()), np.full(horizon, known_T.std())
    if len(known_T) < _SHORTEST_FIT or np.ptp(known_T) == 0:
        return plain
    try:
        out = model.forecast(y=known_T, h=horizon, level=[_INTERVAL])
    except (ValueError, ArithmeticError, LookupError, np.linalg.LinAlgError):
        return plain
    deviation_H = (out[f"hi-{_INTERVAL}"] - out["mean"]) / _INTERVAL_SCORE
    if not (np.isfinite(out["mean"]).all() and np.isfinite(deviation_H).all()):
        return plain
    return out["mean"], np.maximum(deviation_H, 0.0)


def _counted(view: DemandPanel, model: _StatisticalModel, horizon: int, levels: Sequence[float]) -> Forecast:
    """Quantiles around a flat mean: negative binomial, with the variance that sales had around their own mean.

    The methods give no distribution. Periods are taken as independent, so means and variances of sums add up.
    """
    recent_ST = view.sales_ST[:, -_STATISTICAL_PERIODS:].astype(np.float64)
    known = [sales_T[int(np.argmax(sales_T > 0)) :] for sales_T in recent_ST]
    mean_S = np.array([_flat_mean(model, sales_T) for sales_T in known])
    variance_S = np.array([sales_T.var() for sales_T in known])
    counts_H = np.arange(1, horizon + 1)
    levels_Q = np.asarray(levels, dtype=np.float32)
    ones_H = np.ones(horizon)
    return Forecast(
        levels_Q=levels_Q,
        mean_SH=np.outer(mean_S, ones_H).astype(np.float32),
        marginal_SHQ=_negative_binomial(np.outer(mean_S, ones_H), np.outer(variance_S, ones_H), levels_Q),
        cumulative_SHQ=_negative_binomial(np.outer(mean_S, counts_H), np.outer(variance_S, counts_H), levels_Q),
    )


def _flat_mean(model: _StatisticalModel, sales_T: npt.NDArray[np.float64]) -> float:
    if (sales_T > 0).sum() < 2:
        return float(sales_T.mean())
    return max(0.0, float(model.forecast(y=sales_T, h=1)["mean"][0]))


def _negative_binomial(
    mean_SH: npt.NDArray[np.float64], variance_SH: npt.NDArray[np.float64], levels_Q: FloatArray
) -> FloatArray:
    mean_SH = np.maximum(mean_SH, 1e-9)
    # A variance at or below the mean is a Poisson's.
    excess_SH = np.maximum(variance_SH - mean_SH, 1e-3 * mean_SH)
    size_SH1, chance_SH1 = (mean_SH**2 / excess_SH)[..., None], (mean_SH / (mean_SH + excess_SH))[..., None]
    return np.asarray(nbinom.ppf(levels_Q.astype(np.float64), size_SH1, chance_SH1), dtype=np.float32)


def _from_normal(
    mean_SH: npt.NDArray[np.floating[Any]], deviation_SH: npt.NDArray[np.floating[Any]], *, levels: Sequence[float]
) -> Forecast:
    levels_Q = np.asarray(levels, dtype=np.float32)
    score_Q = ndtri(levels_Q.astype(np.float64))
    sum_deviation_SH = deviation_of_sums(deviation_SH)
    marginal_SHQ = np.maximum(mean_SH[..., None] + deviation_SH[..., None] * score_Q, 0.0)
    mean_SH = np.maximum(mean_SH, 0.0)
    sums_SHQ = np.maximum(np.cumsum(mean_SH, axis=1)[..., None] + sum_deviation_SH[..., None] * score_Q, 0.0)
    return Forecast(
        levels_Q=levels_Q,
        mean_SH=mean_SH.astype(np.float32),
        marginal_SHQ=marginal_SHQ.astype(np.float32),
        cumulative_SHQ=np.maximum.accumulate(sums_SHQ, axis=1).astype(np.float32),
    )


def deviation_of_sums(deviation_SH: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    """Standard deviation of the sum of the first h + 1 periods, from those of single periods.

    A linear model's error h periods ahead is ``sum_j psi_j e_{h-j}`` with independent shocks e, so the single variances
    give the squared weights psi, and those the variance of sums (Box & Jenkins 1976, section 5.1). The weights are
    taken as not negative.

    A white noise keeps its deviation, and its sums grow by the square root:

    >>> deviation_of_sums(np.array([[2.0, 2.0, 2.0, 2.0]])).round(2).tolist()
    [[2.0, 2.83, 3.46, 4.0]]
    """
    variance_SH = deviation_SH**2
    first_S1 = np.maximum(variance_SH[:, :1], 1e-12)
    steps_SH = np.diff(np.maximum.accumulate(variance_SH, axis=1), axis=1, prepend=0.0) / first_S1
    running_SH = np.cumsum(np.sqrt(steps_SH), axis=1)
    return np.sqrt(variance_SH[:, :1] * np.cumsum(running_SH**2, axis=1))
