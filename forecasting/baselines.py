"""Forecasts that any planner could make without us: what the network has to beat.

Each takes a view (history up to the decision) and returns a :class:`~forecasting.forecast.Forecast`. Shapes: S series,
T history periods, H horizon, Q quantile levels, N paths, C weeks of a path, W weeks of history, M days of a week.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from cluster.panel import DemandPanel, FloatArray
from forecasting.counts import negative_binomial_quantiles
from forecasting.features import season_periods
from forecasting.forecast import Forecast

DEFAULT_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_ERROR_PATHS = 56
_WEEKS = 8
_DRAWS = 200
_GROUP_SERIES = 512
_STATISTICAL_PERIODS = 180
"""History that ETS and ARIMA are fitted to: older days change little but the time they take."""
_SHORTEST_FIT = 15
_PACE = 0.1
_BIAS_OF_CROSTON = 0.95
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
        return _from_paths(point_SH[:, :, None], mean_SH=point_SH, levels=levels)
    origins = T - horizon - np.arange(num_paths)
    target_HN = np.arange(horizon)[:, None] + origins
    error_SHN = sales_ST[:, target_HN] - sales_ST[:, ahead_H[:, None] + origins - season]
    return _from_paths(np.maximum(point_SH[:, :, None] + error_SHN, 0.0), mean_SH=point_SH, levels=levels)


def weekday_quantiles(
    view: DemandPanel, *, horizon: int, seed: int, levels: Sequence[float] = DEFAULT_LEVELS
) -> Forecast:
    """Quantiles of the last eight sales of the same weekday (of the last eight periods on weekly panels).

    Sums are quantiles over 200 paths that string together weeks drawn from those eight.
    """
    season = season_periods(view.calendar.period_days)
    sales_ST = _padded(view.sales_ST, least=season)
    num_weeks = min(_WEEKS, sales_ST.shape[1] // season)
    recent_ST = sales_ST[:, sales_ST.shape[1] - num_weeks * season :]
    ahead_H = np.arange(horizon)
    drawn_CN = np.random.default_rng(seed).integers(0, num_weeks, (_DRAWS, -(-horizon // season))).T
    week_SMW = recent_ST.reshape(-1, num_weeks, season).transpose(0, 2, 1)
    same_day_SHW = week_SMW[:, ahead_H % season]
    levels_Q = np.asarray(levels, dtype=np.float32)
    cumulative_SHQ = np.empty((view.num_series, horizon, len(levels)), dtype=np.float32)
    # Some series at a time: the paths of a large shop would not fit.
    for rows in np.array_split(np.arange(view.num_series), -(-view.num_series // _GROUP_SERIES) or 1):
        cumulative_SHQ[rows] = _quantiles(_sums_of_weeks_SHN(week_SMW[rows], drawn_CN)[:, :horizon], levels_Q)
    return Forecast(
        levels_Q=levels_Q,
        mean_SH=same_day_SHW.mean(axis=2).astype(np.float32),
        marginal_SHQ=_quantiles(same_day_SHW, levels_Q),
        cumulative_SHQ=cumulative_SHQ,
    )


def _sums_of_weeks_SHN(week_SMW: FloatArray, drawn_CN: npt.NDArray[np.int64]) -> FloatArray:
    """Running sums over weeks strung together: of whole weeks before, and of the days of the last."""
    running_SMW = week_SMW.cumsum(axis=1)
    before_S1N = np.zeros((len(week_SMW), 1, drawn_CN.shape[1]), dtype=np.float32)
    parts = []
    for drawn_N in drawn_CN:
        parts.append(before_S1N + running_SMW[:, :, drawn_N])
        before_S1N = parts[-1][:, -1:]
    return np.concatenate(parts, axis=1)


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
    """Croston's method with Syntetos and Boylan's correction (2005): size and distance of sales apart."""
    smoothed = _smooth_counts(view)
    mean_S = _BIAS_OF_CROSTON * smoothed.size_S / np.maximum(smoothed.interval_S, 1.0)
    return _counted(smoothed, mean_S, horizon, levels)


def tsb(view: DemandPanel, *, horizon: int, levels: Sequence[float] = DEFAULT_LEVELS) -> Forecast:
    """Teunter, Syntetos and Babai (2011): size of sales and their chance, which fades without any."""
    smoothed = _smooth_counts(view)
    return _counted(smoothed, smoothed.size_S * smoothed.chance_S, horizon, levels)


@dataclass(frozen=True, slots=True, kw_only=True)
class _SmoothedCounts:
    """Exponentially smoothed size of a sale, periods from one to the next, and chance of one; and plain moments."""

    size_S: npt.NDArray[np.float64]
    interval_S: npt.NDArray[np.float64]
    chance_S: npt.NDArray[np.float64]
    mean_S: npt.NDArray[np.float64]
    variance_S: npt.NDArray[np.float64]
    sales_S: npt.NDArray[np.int64]


def _smooth_counts(view: DemandPanel) -> _SmoothedCounts:
    """Each average starts at its first value and moves by a tenth of the difference to each next one."""
    recent_ST = view.sales_ST[:, -_STATISTICAL_PERIODS:].astype(np.float64)
    sold_ST = recent_ST > 0
    known_ST = np.logical_or.accumulate(sold_ST, axis=1)
    # A series without a sale is known to sell nothing.
    known_ST[~known_ST.any(axis=1)] = True
    size_S, interval_S, chance_S = np.zeros((3, view.num_series))
    since_S = np.zeros(view.num_series)
    for recent_S, is_sold_S, is_known_S in zip(recent_ST.T, sold_ST.T, known_ST.T, strict=True):
        since_S = since_S + is_known_S
        is_first_S = is_sold_S & (size_S == 0)
        pace_S = np.where(is_first_S, 1.0, _PACE) * is_sold_S
        size_S = size_S + pace_S * (recent_S - size_S)
        interval_S = interval_S + pace_S * (since_S - interval_S)
        since_S = np.where(is_sold_S, 0.0, since_S)
        chance_S = np.where(is_first_S, 1.0, chance_S + _PACE * is_known_S * (is_sold_S - chance_S))
    count_S = known_ST.sum(axis=1)
    mean_S = (recent_ST * known_ST).sum(axis=1) / count_S
    return _SmoothedCounts(
        size_S=size_S,
        interval_S=interval_S,
        chance_S=chance_S,
        mean_S=mean_S,
        variance_S=((recent_ST - mean_S[:, None]) ** 2 * known_ST).sum(axis=1) / count_S,
        sales_S=sold_ST.sum(axis=1),
    )


def _padded(sales_ST: FloatArray, *, least: int) -> FloatArray:
    """At least one season of history: a shorter one is continued to the left with zeros."""
    missing = max(0, least - sales_ST.shape[1])
    return np.pad(sales_ST, ((0, 0), (missing, 0)))


def _quantiles(path_SHN: FloatArray, levels_Q: FloatArray) -> FloatArray:
    """Quantiles over the last axis, as ``np.quantile``; sorting whole rows is several times as fast."""
    sorted_SHN = np.sort(path_SHN, axis=-1)
    place_Q = levels_Q.astype(np.float64) * (sorted_SHN.shape[-1] - 1)
    left_Q = np.floor(place_Q).astype(np.int64)
    right_Q = np.minimum(left_Q + 1, sorted_SHN.shape[-1] - 1)
    weight_Q = (place_Q - left_Q).astype(np.float32)
    return sorted_SHN[..., left_Q] * (1 - weight_Q) + sorted_SHN[..., right_Q] * weight_Q


def _from_paths(path_SHN: FloatArray, *, mean_SH: FloatArray, levels: Sequence[float]) -> Forecast:
    levels_Q = np.asarray(levels, dtype=np.float32)
    return Forecast(
        levels_Q=levels_Q,
        mean_SH=mean_SH.astype(np.float32),
        marginal_SHQ=_quantiles(path_SHN, levels_Q),
        cumulative_SHQ=_quantiles(path_SHN.cumsum(axis=1), levels_Q),
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


def _counted(
    smoothed: _SmoothedCounts, mean_S: npt.NDArray[np.float64], horizon: int, levels: Sequence[float]
) -> Forecast:
    """Quantiles around a flat mean: negative binomial, with the variance that sales had around their own mean.

    The methods give no distribution. Periods are taken as independent, so means and variances of sums add up. A series
    that sold less than twice is forecast at its mean.
    """
    mean_S = np.where(smoothed.sales_S < 2, smoothed.mean_S, mean_S)
    counts_H = np.arange(1, horizon + 1)
    levels_Q = np.asarray(levels, dtype=np.float32)
    sums_SHQ = negative_binomial_quantiles(
        np.outer(mean_S, counts_H), np.outer(smoothed.variance_S, counts_H), levels=tuple(levels_Q.tolist())
    )
    return Forecast(
        levels_Q=levels_Q,
        mean_SH=np.repeat(mean_S[:, None], horizon, axis=1).astype(np.float32),
        marginal_SHQ=np.repeat(sums_SHQ[:, :1], horizon, axis=1),
        cumulative_SHQ=sums_SHQ,
    )


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
