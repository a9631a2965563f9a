"""The served team: its blend, its files, and what it says moved a forecast."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from forecast_panels import make_panel, small_settings

import forecasting.team_fit
from cluster.errors import ArtifactError
from cluster.panel import DemandPanel
from forecasting.explain import CALENDAR, GROUPS, PROMOTIONS, RECENT_SALES, explain_forecast
from forecasting.explain_blend import explain_served
from forecasting.forecast import Forecast
from forecasting.predict import Forecaster
from forecasting.segments import SEGMENTS
from forecasting.team import BLEND, CROSTON, NETWORK, TREES, WEEKDAY, Team, load_forecaster
from forecasting.team_fit import fit_team

ORIGIN = 80


@pytest.fixture(scope="module")
def panel() -> DemandPanel:
    return make_panel(num_series=12, num_periods=90)


@pytest.fixture(scope="module")
def team(panel: DemandPanel) -> Team:
    return fit_team(panel.until(ORIGIN), settings=small_settings())


def forecast_of(team: Team, panel: DemandPanel, member: str = BLEND) -> Forecast:
    return team.predict_rolling(panel, origins=[ORIGIN], horizon=7, member=member)[0]


def test_the_blend_lies_between_its_members(team: Team, panel: DemandPanel) -> None:
    assert team.blend.members == (NETWORK, TREES, WEEKDAY, CROSTON)
    assert {row["segment"] for row in team.blend.table()} == set(SEGMENTS)
    means = [forecast_of(team, panel, name).mean_SH for name in team.blend.members]
    blended_SH = forecast_of(team, panel).mean_SH
    assert (blended_SH >= np.min(means, axis=0) - 1e-3).all()
    assert (blended_SH <= np.max(means, axis=0) + 1e-3).all()


def test_a_forecast_reads_nothing_from_after_its_origin(team: Team, panel: DemandPanel) -> None:
    rolled = team.predict_rolling(panel, origins=[ORIGIN, 70, ORIGIN], horizon=7)
    for forecast, origin in zip(rolled, (ORIGIN, 70, ORIGIN), strict=True):
        alone = team.predict(panel.until(origin))
        np.testing.assert_allclose(forecast.cumulative_SHQ, alone.cumulative_SHQ, rtol=1e-4, atol=1e-3)
        assert (np.diff(forecast.cumulative_SHQ, axis=2) >= 0).all()
        assert (np.diff(forecast.cumulative_SHQ, axis=1) >= -1e-4).all()


def test_saved_and_loaded_it_says_the_same(team: Team, panel: DemandPanel, tmp_path: Path) -> None:
    team.save(tmp_path)
    loaded = load_forecaster(tmp_path)
    assert isinstance(loaded, Team)
    assert not list(tmp_path.glob("*.pkl"))
    np.testing.assert_array_equal(forecast_of(loaded, panel).cumulative_SHQ, forecast_of(team, panel).cumulative_SHQ)
    assert loaded.blend.table() == team.blend.table()
    assert (loaded.levels, loaded.horizon, loaded.history) == (team.levels, team.horizon, team.history)


def test_a_network_alone_is_loaded_as_one(team: Team, tmp_path: Path) -> None:
    team.network.save(tmp_path)
    assert isinstance(load_forecaster(tmp_path), Forecaster)


@pytest.mark.parametrize("file", ["blend.json", "trees-single-0.5.txt", "weights.safetensors"])
def test_a_damaged_artifact_is_refused(team: Team, tmp_path: Path, file: str) -> None:
    team.save(tmp_path)
    (tmp_path / file).write_text("nothing")
    with pytest.raises(ArtifactError, match="train it again"):
        load_forecaster(tmp_path)


def test_another_format_is_refused(team: Team, tmp_path: Path) -> None:
    team.save(tmp_path)
    document = json.loads((tmp_path / "blend.json").read_text())
    (tmp_path / "blend.json").write_text(json.dumps(document | {"format": 99}))
    with pytest.raises(ArtifactError, match="format 99"):
        load_forecaster(tmp_path)


def test_without_lightgbm_a_team_is_fitted_without_trees(
    panel: DemandPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecasting.team_fit, "find_spec", lambda name: None)
    fewer = fit_team(panel.until(ORIGIN), settings=small_settings())
    assert fewer.blend.members == (NETWORK, WEEKDAY, CROSTON)
    fewer.save(tmp_path)
    loaded = load_forecaster(tmp_path)
    np.testing.assert_array_equal(
        loaded.predict(panel.until(ORIGIN)).cumulative_SHQ, fewer.predict(panel.until(ORIGIN)).cumulative_SHQ
    )


def test_stored_trees_forecast_without_lightgbm(
    team: Team, panel: DemandPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.save(tmp_path)
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    loaded = load_forecaster(tmp_path)
    assert isinstance(loaded, Team)
    np.testing.assert_array_equal(
        forecast_of(loaded, panel, TREES).cumulative_SHQ, forecast_of(team, panel, TREES).cumulative_SHQ
    )


def test_a_history_too_short_to_hold_back_gives_equal_weights(panel: DemandPanel) -> None:
    short = fit_team(panel.until(10), settings=small_settings())
    np.testing.assert_allclose(short.blend.single_GW, 0.25)
    assert np.isfinite(short.predict(panel.until(10)).cumulative_SHQ).all()


@pytest.mark.parametrize("periods", [1, 5, 7])
def test_an_explanation_adds_up_to_what_is_served(team: Team, panel: DemandPanel, periods: int) -> None:
    view = panel.until(ORIGIN)
    attribution = explain_served(team, view, periods=periods)
    served_S = team.predict(view).mean_over_S(np.full(view.num_series, periods))
    np.testing.assert_allclose(attribution.forecast_S, served_S, rtol=1e-4, atol=1e-3)
    assert attribution.groups == GROUPS


def test_periods_may_differ_between_series(team: Team, panel: DemandPanel) -> None:
    view = panel.until(ORIGIN)
    periods_S = 1 + np.arange(view.num_series) % 7
    served_S = team.predict(view).mean_over_S(periods_S)
    np.testing.assert_allclose(explain_served(team, view, periods=periods_S).forecast_S, served_S, rtol=1e-4, atol=1e-3)


def only(team: Team, member: str) -> Team:
    """All weight on one member."""
    weight_GW = np.tile(np.array(team.blend.members) == member, (len(SEGMENTS), 1)).astype(float)
    return Team(
        network=team.network, trees=team.trees, blend=replace(team.blend, single_GW=weight_GW, calibration=None)
    )


def test_a_member_with_all_weight_is_explained_as_itself(team: Team, panel: DemandPanel) -> None:
    view = panel.until(ORIGIN)
    network = explain_forecast(team.network, view, periods=7)
    np.testing.assert_allclose(explain_served(only(team, NETWORK), view, periods=7).units_SG, network.units_SG)
    croston = explain_served(only(team, CROSTON), view, periods=7).units_SG
    moved = croston.any(axis=0)
    assert moved[GROUPS.index(RECENT_SALES)]
    assert moved.sum() == 1
    weekday = explain_served(only(team, WEEKDAY), view, periods=7).units_SG
    # A whole week holds every weekday once.
    np.testing.assert_allclose(weekday[:, GROUPS.index(CALENDAR)], 0.0, atol=1e-3)


def test_trees_are_moved_by_announced_promotions_only_where_there_are_any(team: Team, panel: DemandPanel) -> None:
    trees = only(team, TREES)
    promotion_SXP = panel.promotion_SXP.copy()
    promotion_SXP[:, ORIGIN:] = 0.0
    promotion_SXP[:6, ORIGIN:] = 1.0
    attribution = explain_served(trees, replace(panel, promotion_SXP=promotion_SXP).until(ORIGIN), periods=7)
    promoted_S = attribution.units_SG[:, GROUPS.index(PROMOTIONS)]
    assert promoted_S[:6].sum() > 0
    np.testing.assert_allclose(promoted_S[6:], 0.0, atol=1e-4)
