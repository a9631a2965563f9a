"""What moved a served forecast: the attributions of its members, weighed as the forecast is.

The mean of a blend is the weighted sum of its members' means, and so are the parts. The network's are integrated
gradients; trees have none, so their inputs are made neutral one group after the other and each group gets the change;
the two rules read nothing but recent sales, one of them by weekday.

Shapes: S series, G groups of inputs, H horizon, T history periods, X = T + periods known ahead.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from cluster.panel import DemandPanel, FloatArray, IntArray
from forecasting.explain import (
    CALENDAR,
    GROUP_SERIES,
    GROUPS,
    HOLIDAYS,
    NAMES,
    PRICE,
    PROMOTIONS,
    RECENT_SALES,
    Attribution,
    WideArray,
    explain_forecast,
    explain_group,
    join_attributions,
    periods_of_series,
    unannounced,
)
from forecasting.features import NUM_WEEKDAY, PRICE_CHANNEL, SeriesFeatures
from forecasting.predict import RollingQuestion
from forecasting.segments import segment_of_S
from forecasting.team import NETWORK, TREES, WEEKDAY, ServedForecaster, Team
from forecasting.trees import TreeForecaster


def explain_served(forecaster: ServedForecaster, view: DemandPanel, *, periods: int | IntArray) -> Attribution:
    """Split the expected demand that is served into usual demand and what each group of inputs adds.

    Parameters and errors are those of :func:`forecasting.explain.explain_forecast`, which answers for a network alone.
    """
    if not isinstance(forecaster, Team):
        return explain_forecast(forecaster, view, periods=periods)
    periods_S = periods_of_series(periods, num_series=view.num_series, horizon=forecaster.horizon)
    parts = [
        _explain_team(forecaster, view.take(rows), features, periods_S=periods_S[rows])
        for rows, features in forecaster.network.read(view, group_series=GROUP_SERIES)
    ]
    return join_attributions(parts)


def _explain_team(team: Team, view: DemandPanel, features: SeriesFeatures, *, periods_S: IntArray) -> Attribution:
    own = explain_group(team.network.network, features, periods_S=periods_S)
    weight_SW = team.blend.single_GW[segment_of_S(view)]
    units_SG, remainder_S = np.zeros_like(own.units_SG), np.zeros_like(own.remainder_S)
    for name, weight_S in zip(team.blend.members, weight_SW.T, strict=True):
        if name == NETWORK:
            part_SG = own.units_SG
            remainder_S += weight_S * own.remainder_S
        elif name == TREES:
            assert team.trees is not None
            part_SG = _units_of_trees(team.trees, features, periods_S=periods_S, base_S=own.base_S)
        else:
            part_SG = _units_of_rule(team, name, view, features, periods_S=periods_S, base_S=own.base_S)
        units_SG += weight_S[:, None] * part_SG
    return Attribution(groups=GROUPS, base_S=own.base_S, units_SG=units_SG, remainder_S=remainder_S)


def _units_of_rule(
    team: Team, name: str, view: DemandPanel, features: SeriesFeatures, *, periods_S: IntArray, base_S: WideArray
) -> WideArray:
    """All of it recent sales; of the weekday rule, the asked weekdays against the mean of all is calendar."""
    horizon = max(int(periods_S.max()), features.season_periods)
    at = RollingQuestion(origins=np.array([view.num_periods]), horizon=min(horizon, team.horizon))
    mean_SH = team.forecast_member(name, view, features, at)[0].mean_SH
    forecast_S = _summed(mean_SH, periods_S)
    level_S = forecast_S
    if name == WEEKDAY:
        level_S = mean_SH[:, : features.season_periods].mean(axis=1, dtype=np.float64) * periods_S
    units_SG = np.zeros((view.num_series, len(GROUPS)))
    units_SG[:, GROUPS.index(RECENT_SALES)] = level_S - base_S
    units_SG[:, GROUPS.index(CALENDAR)] = forecast_S - level_S
    return units_SG


def _units_of_trees(
    trees: TreeForecaster, features: SeriesFeatures, *, periods_S: IntArray, base_S: WideArray
) -> WideArray:
    """Change of the trees' mean as promotions, holidays, price, names and calendar are made neutral, in this order."""
    horizon, origin = int(periods_S.max()), features.demand_ST.shape[1]

    def forecast_S(given: SeriesFeatures) -> WideArray:
        return _summed(trees.mean_SH(given, origin=origin, horizon=horizon), periods_S)

    units_SG = np.zeros((len(periods_S), len(GROUPS)))
    before_S = forecast_S(features)
    steps: list[tuple[str, Callable[[SeriesFeatures], SeriesFeatures]]] = [
        (PROMOTIONS, unannounced),
        (HOLIDAYS, _without_holidays),
        (PRICE, _at_usual_price),
        (NAMES, _without_names),
    ]
    for group, make_neutral in steps:
        features = make_neutral(features)
        after_S = forecast_S(features)
        units_SG[:, GROUPS.index(group)] = before_S - after_S
        before_S = after_S
    neutral_S = np.mean([forecast_S(given) for given in _on_every_weekday(features)], axis=0)
    units_SG[:, GROUPS.index(CALENDAR)] = before_S - neutral_S
    units_SG[:, GROUPS.index(RECENT_SALES)] = neutral_S - base_S
    return units_SG


def _summed(mean_SH: FloatArray, periods_S: IntArray) -> WideArray:
    counts_SH = np.arange(mean_SH.shape[1]) < periods_S[:, None]
    return np.asarray((mean_SH * counts_SH).sum(axis=1, dtype=np.float64))


def _without_holidays(features: SeriesFeatures) -> SeriesFeatures:
    holiday_X = features.holiday_X.copy()
    holiday_X[features.demand_ST.shape[1] :] = 0.0
    return replace(features, holiday_X=holiday_X)


def _at_usual_price(features: SeriesFeatures) -> SeriesFeatures:
    own_STC = features.own_STC.copy()
    own_STC[:, :, PRICE_CHANNEL] = 0.0
    return replace(features, own_STC=own_STC)


def _without_names(features: SeriesFeatures) -> SeriesFeatures:
    nobody_S = np.zeros_like(features.series_row_S)
    return replace(features, series_row_S=nobody_S, category_row_S=nobody_S)


def _on_every_weekday(features: SeriesFeatures) -> list[SeriesFeatures]:
    """All target periods on the same weekday, once for each, at the level and at no place in month or year."""
    origin, season = features.demand_ST.shape[1], features.season_periods
    season_SXW = features.season_SXW.copy()
    ahead = slice(origin, origin + season)
    season_SXW[:, ahead, 0] = season_SXW[:, ahead, 1] * features.level_SU[:, origin, None]
    out = []
    for weekday in range(NUM_WEEKDAY if season > 1 else 1):
        calendar_XK = np.zeros_like(features.calendar_XK)
        calendar_XK[:, weekday] = float(season > 1)
        out.append(replace(features, calendar_XK=calendar_XK, season_SXW=season_SXW))
    return out
