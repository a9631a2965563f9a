"""More demand to learn from than happened once: stretches of history in another order, or draws from the forecasts.

Shapes: S series, N = (1 + J) x S rows of a replay and J copies of it, T periods, K candidates.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from rl.inventory import FloatArray, IntArray
from rl.scenarios import ReplayScenario, concatenate_forecasts

Draws = Literal["bootstrap", "forecast"]

_BLOCK_SEASONS = 4
_LOW, _HIGH = 0.1, 0.9
_TINY = 1e-6
# Correlation from one period to the next: candidates for each series.
_CORRELATIONS_K = np.linspace(0.0, 0.95, 20)


def add_copies(
    scenario: ReplayScenario, *, copies: int, draws: Draws, season_periods: int, seed: int
) -> ReplayScenario:
    """A replay with ``copies`` further rows of each series beside its own, whose demand is drawn.

    Parameters
    ----------
    draws
        ``bootstrap``: :func:`bootstrap_replay`; ``forecast``: :func:`draw_from_forecasts`.
    season_periods
        Periods of a week: a bootstrap keeps every period on its weekday.
    seed
        Of the copies; each draws its own.
    """
    if copies < 1:
        return scenario
    parts = [scenario]
    for copy in range(copies):
        if draws == "bootstrap":
            parts.append(bootstrap_replay(scenario, season_periods=season_periods, seed=seed + copy))
        else:
            parts.append(draw_from_forecasts(scenario, seed=seed + copy))
    whole = scenario.take(np.tile(np.arange(scenario.num_rows), len(parts)))
    return replace(
        whole,
        demand_NT=np.concatenate([part.demand_NT for part in parts]),
        lead_time_NT=np.concatenate([part.lead_time_NT for part in parts]),
        forecasts=[concatenate_forecasts(rows) for rows in zip(*(part.forecasts for part in parts), strict=True)],
    )


def bootstrap_replay(scenario: ReplayScenario, *, season_periods: int, seed: int) -> ReplayScenario:
    """The replay's periods in another order: blocks of four weeks drawn with replacement (Kuensch 1989).

    A period keeps its demand, its lead times and its forecast together, stays on its weekday, and is drawn for all
    series at once, so that what moves together still does. Where two blocks meet, forecasts look past what follows.
    """
    periods_T = _block_order(scenario.num_periods, season_periods=season_periods, seed=seed)
    return replace(
        scenario,
        demand_NT=np.ascontiguousarray(scenario.demand_NT[:, periods_T]),
        lead_time_NT=np.ascontiguousarray(scenario.lead_time_NT[:, periods_T]),
        forecasts=[scenario.forecasts[period] for period in periods_T],
    )


def draw_from_forecasts(scenario: ReplayScenario, *, seed: int) -> ReplayScenario:
    """The replay with the demand that its forecasts think possible, in whole units.

    Every period's demand is a quantile of that period's forecast. Levels of following periods are correlated, by
    series, so that sums over the protection interval spread as wide as the forecast's own (a Gaussian copula of the
    first order).
    """
    random = np.random.default_rng(seed)
    correlation_S = _correlation_S(scenario)
    score_S = random.standard_normal(scenario.num_rows)
    one_S = np.ones(scenario.num_rows, dtype=np.int64)
    columns = []
    for forecast in scenario.forecasts:
        columns.append(np.round(forecast.quantile_over_S(one_S, level_S=ndtr(score_S))))
        fresh_S = random.standard_normal(scenario.num_rows)
        score_S = correlation_S * score_S + np.sqrt(1 - correlation_S**2) * fresh_S
    return replace(scenario, demand_NT=np.stack(columns, axis=1).astype(np.float32))


def _block_order(num_periods: int, *, season_periods: int, seed: int) -> IntArray:
    """Source of each period: whole blocks, each from a start that falls on the same place of the season."""
    length = min(_BLOCK_SEASONS * season_periods, num_periods // season_periods * season_periods)
    if not length:
        return np.arange(num_periods)
    starts = np.arange(0, num_periods - length + 1, season_periods)
    drawn = np.random.default_rng(seed).choice(starts, size=-(-num_periods // length))
    return (drawn[:, None] + np.arange(length)).ravel()[:num_periods]


def _correlation_S(scenario: ReplayScenario) -> npt.NDArray[np.float64]:
    """Correlation of following periods with which single periods spread as sums over the protection interval do.

    A period is drawn from the forecast at its own start, so its spread is that of the first sum of that forecast.
    """
    interval_S = np.minimum(scenario.terms.protection_interval_S, scenario.forecasts[0].horizon)
    rows = np.arange(scenario.num_rows)
    single_S, summed_S = np.zeros(scenario.num_rows), np.zeros(scenario.num_rows)
    for forecast in scenario.forecasts:
        square_SH = _spread_SH(forecast.cumulative_SHQ, forecast.levels_Q) ** 2
        single_S += interval_S * square_SH[:, 0]
        summed_S += square_SH[rows, interval_S - 1]
    ratio_S = summed_S / np.maximum(single_S, _TINY)
    lag = np.arange(1, int(interval_S.max(initial=1)))
    share_SL = np.maximum(1 - lag / interval_S[:, None], 0)
    inflation_SK = 1 + 2 * share_SL @ (_CORRELATIONS_K[:, None] ** lag).T
    return _CORRELATIONS_K[np.abs(inflation_SK - ratio_S[:, None]).argmin(axis=1)]


def _spread_SH(quantile_SHQ: FloatArray, levels_Q: FloatArray) -> npt.NDArray[np.float64]:
    """Distance between the quantiles nearest to 0.1 and 0.9."""
    low, high = np.abs(levels_Q - _LOW).argmin(), np.abs(levels_Q - _HIGH).argmin()
    return quantile_SHQ[:, :, high].astype(np.float64) - quantile_SHQ[:, :, low]
