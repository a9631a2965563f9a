"""Drawn demand: what a bootstrap keeps together, and what forecasts think possible."""

from dataclasses import replace

import numpy as np
import pytest
from inventory_cases import make_panel, make_terms, poisson_forecast

from rl.demand import DemandLaw, forecast_of_laws
from rl.draws import add_copies, bootstrap_replay, draw_from_forecasts
from rl.inventory import SharedStorage
from rl.scenarios import make_law_scenario, make_replay

LEVELS = np.array([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99], dtype=np.float32)


def weekly_replay(num_periods=84):
    """Demand is the number of its period, forecasts have it as their mean: so each says where it comes from."""
    panel = make_panel(np.arange(2 * 100).reshape(2, 100))
    forecasts = [poisson_forecast(float(period) + 0.5, rows=2) for period in range(num_periods)]
    return make_replay(
        panel,
        first=0,
        num_periods=num_periods,
        forecasts=forecasts,
        terms=make_terms(2, lead_time=3),
        seed=0,
        jitter_periods=1,
    )


def test_a_bootstrapped_period_keeps_its_weekday_forecast_lead_time_and_its_series_together():
    scenario = weekly_replay()
    drawn = bootstrap_replay(scenario, season_periods=7, seed=3)
    source_T = drawn.demand_NT[0].astype(int)
    assert (source_T != np.arange(84)).any()
    np.testing.assert_array_equal(source_T % 7, np.arange(84) % 7)
    np.testing.assert_array_equal(drawn.demand_NT[1], 100 + source_T)
    np.testing.assert_array_equal(drawn.lead_time_NT, scenario.lead_time_NT[:, source_T])
    assert [int(forecast.mean_SH[0, 0]) for forecast in drawn.forecasts] == source_T.tolist()
    np.testing.assert_array_equal(np.flatnonzero(np.diff(source_T) != 1) % 28, 27)  # whole blocks of four weeks


def test_a_bootstrap_draws_every_block_alike_and_a_seed_repeats_it():
    scenario = weekly_replay()
    starts = np.concatenate(
        [bootstrap_replay(scenario, season_periods=7, seed=seed).demand_NT[0, ::28] for seed in range(900)]
    )
    values, counts = np.unique(starts, return_counts=True)
    assert values.tolist() == list(range(0, 57, 7))
    np.testing.assert_allclose(counts / counts.sum(), 1 / 9, atol=0.02)
    first, second = (bootstrap_replay(scenario, season_periods=7, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.demand_NT, second.demand_NT)


def test_less_than_a_season_of_history_stays_in_order():
    scenario = weekly_replay(num_periods=5)
    np.testing.assert_array_equal(bootstrap_replay(scenario, season_periods=7, seed=1).demand_NT, scenario.demand_NT)


@pytest.mark.parametrize(
    ("law", "tolerance"),
    # Spreads stand for variances: of a skewed law's sums only nearly.
    [(DemandLaw(name="poisson", mean=6.0), 0.15), (DemandLaw(name="geometric", mean=4.0), 0.3)],
)
def test_draws_from_a_forecast_that_knows_the_law_follow_the_law(law, tolerance):
    terms = make_terms(40, lead_time=4)
    forecast = forecast_of_laws([law] * 40, horizon=6, levels_Q=LEVELS)
    scenario = make_law_scenario([law] * 40, terms, num_periods=400, forecast=forecast, seed=1)
    drawn = draw_from_forecasts(scenario, seed=2).demand_NT
    assert (drawn == np.round(drawn)).all()
    assert drawn.min() >= 0
    assert drawn.mean() == pytest.approx(law.mean, rel=0.06)
    # The law's periods are independent; so are those drawn, and sums spread no wider.
    sums = drawn.reshape(40, -1, 5).sum(axis=2)
    assert sums.var() == pytest.approx(5 * law.variance_per_period, rel=tolerance)


def test_draws_spread_over_the_interval_as_wide_as_the_forecasts_sums():
    """Errors that go together: sums of five periods have three times the variance of independent ones."""
    law = DemandLaw(name="poisson", mean=30.0)
    plain = forecast_of_laws([law] * 40, horizon=6, levels_Q=LEVELS)
    middle_SH1 = plain.cumulative_SHQ[:, :, 3:4]
    factor_H1 = np.sqrt(1 + 2 * np.arange(6) / 4)[:, None]
    wide = replace(plain, cumulative_SHQ=middle_SH1 + factor_H1 * (plain.cumulative_SHQ - middle_SH1))
    scenario = make_law_scenario([law] * 40, make_terms(40, lead_time=4), num_periods=500, forecast=wide, seed=1)
    sums = draw_from_forecasts(scenario, seed=2).demand_NT.reshape(40, -1, 5).sum(axis=2)
    assert sums.var() == pytest.approx(3 * 5 * 30, rel=0.15)


@pytest.mark.parametrize("draws", ["bootstrap", "forecast"])
def test_copies_stand_beside_history_with_the_same_terms_and_their_own_demand(draws):
    shared = SharedStorage(group_S=np.array([0, 0]), capacity_G=np.array([500.0], dtype=np.float32))
    scenario = replace(weekly_replay(), shared_storage=shared)
    whole = add_copies(scenario, copies=2, draws=draws, season_periods=7, seed=0)
    assert whole.num_rows == 6
    np.testing.assert_array_equal(whole.demand_NT[:2], scenario.demand_NT)
    np.testing.assert_array_equal(whole.terms.lead_time_S, np.tile(scenario.terms.lead_time_S, 3))
    assert (whole.demand_NT[2:4] != whole.demand_NT[4:]).any()
    assert whole.shared_storage is not None
    assert whole.shared_storage.group_S.tolist() == [0, 0, 1, 1, 2, 2]
    assert all(len(forecast.mean_SH) == 6 for forecast in whole.forecasts)
    assert add_copies(scenario, copies=0, draws=draws, season_periods=7, seed=0) is scenario
