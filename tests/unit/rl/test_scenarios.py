"""Replays of history: which periods, which lead times, which opening stock."""

import numpy as np
import pytest
from inventory_cases import make_panel, make_state, make_terms, normal_forecast, poisson_forecast

from rl.policies.classical import Newsvendor
from rl.scenarios import draw_lead_times_ST, make_replay, make_start_state


def replay_of(panel, *, first, num_periods, seed=0, **options):
    terms = make_terms(panel.num_series, lead_time=3)
    forecasts = [poisson_forecast(2.0, rows=panel.num_series)] * num_periods
    return make_replay(
        panel, first=first, num_periods=num_periods, forecasts=forecasts, terms=terms, seed=seed, **options
    )


def test_demand_is_the_history_of_its_periods():
    panel = make_panel(np.arange(60).reshape(3, 20))
    scenario = replay_of(panel, first=5, num_periods=8)
    np.testing.assert_array_equal(scenario.demand_NT, panel.sales_ST[:, 5:13])
    assert (scenario.first_period, scenario.num_rows, scenario.num_periods) == (5, 3, 8)
    assert scenario.costs is scenario.terms.costs


def test_a_period_has_the_same_lead_times_in_every_scenario_of_a_seed():
    panel = make_panel(np.ones((3, 40)))
    long = replay_of(panel, first=4, num_periods=30, jitter_periods=2)
    late = replay_of(panel, first=14, num_periods=10, jitter_periods=2)
    np.testing.assert_array_equal(long.lead_time_NT[:, 10:20], late.lead_time_NT)
    other = replay_of(panel, first=14, num_periods=10, jitter_periods=2, seed=1)
    assert (other.lead_time_NT != late.lead_time_NT).any()


def test_lead_times_stay_within_the_jitter_and_above_zero():
    terms = make_terms(3, lead_time=np.array([0, 1, 4]))
    drawn_ST = draw_lead_times_ST(terms, num_periods=3_000, seed=0, jitter_periods=1)
    assert set(drawn_ST[0]) == {0}
    assert set(drawn_ST[1]) == {1, 2}
    assert set(drawn_ST[2]) == {3, 4, 5}
    np.testing.assert_allclose(np.bincount(drawn_ST[2])[3:] / 3_000, 1 / 3, atol=0.03)
    without_ST = draw_lead_times_ST(terms, num_periods=5, seed=0, jitter_periods=0)
    np.testing.assert_array_equal(without_ST, np.repeat([[0], [1], [4]], 5, axis=1))


def test_take_keeps_rows_together():
    panel = make_panel(np.arange(60).reshape(3, 20))
    scenario = replay_of(panel, first=5, num_periods=8, jitter_periods=1)
    part = scenario.take(np.array([2, 0]))
    np.testing.assert_array_equal(part.demand_NT, scenario.demand_NT[[2, 0]])
    np.testing.assert_array_equal(part.lead_time_NT, scenario.lead_time_NT[[2, 0]])
    np.testing.assert_array_equal(part.start.on_hand_S, scenario.start.on_hand_S[[2, 0]])
    assert len(part.terms) == part.forecasts[3].mean_SH.shape[0] == 2
    assert part.first_period == 5


def test_opening_stock_is_one_period_of_demand_below_the_newsvendor_level():
    terms = make_terms(4, lead_time=np.array([0, 1, 3, 5]))
    forecast = normal_forecast(10, 3, rows=4)
    state = make_start_state(forecast, terms)
    np.testing.assert_array_equal(state.on_order_SL.sum(axis=1), [0, 0, 20, 40])
    np.testing.assert_array_equal(state.on_order_SL[3], [10, 10, 10, 10])
    np.testing.assert_array_equal(state.on_order_SL[2], [10, 10, 0, 0])
    wish_S = Newsvendor().order_quantity_S(state, forecast, terms)
    assert ((wish_S > 9) & (wish_S <= 10)).all()
    assert (state.on_hand_S == np.round(state.on_hand_S)).all()


def test_opening_stock_of_a_slow_seller_is_in_whole_units_and_fits_the_storage():
    terms = make_terms(1, lead_time=6, storage=5)
    state = make_start_state(poisson_forecast(0.4), terms)
    assert state.on_order_SL.tolist() == [[0, 1, 0, 1, 0]]
    assert state.inventory_position_S[0] <= 5


def test_known_opening_stock_is_taken_as_it_is():
    panel = make_panel(np.ones((2, 20)))
    start = make_state(2, on_hand=7)
    assert replay_of(panel, first=3, num_periods=4, start=start).start is start


@pytest.mark.parametrize(("first", "num_periods"), [(-1, 3), (15, 6), (3, 0)])
def test_periods_outside_the_history(first, num_periods):
    with pytest.raises(ValueError, match="not within"):
        replay_of(make_panel(np.ones((2, 20))), first=first, num_periods=num_periods)


def test_parts_of_other_shapes_are_refused():
    scenario = replay_of(make_panel(np.ones((2, 20))), first=3, num_periods=4)
    with pytest.raises(ValueError, match="one forecast for each"):
        type(scenario)(**{name: getattr(scenario, name) for name in scenario.__slots__} | {"forecasts": []})
    with pytest.raises(ValueError, match="same 2 rows"):
        type(scenario)(**{name: getattr(scenario, name) for name in scenario.__slots__} | {"terms": make_terms(3)})
