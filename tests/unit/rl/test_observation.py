"""What a learned policy sees and may order: the arrays against the forecast's own arithmetic, the formulas by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from inventory_cases import make_forecast, make_state, make_terms, normal_forecast, poisson_forecast
from scipy.special import ndtr, ndtri

from rl.network import (
    NUM_PROFILE_POINTS,
    OBSERVATION_NAMES,
    ContextMaker,
    nearest_action,
    observe,
    order_wish,
)
from rl.observation import ActionGrid, anchored_grid, make_forecast_inputs, make_score_weights_QZ, make_state_inputs
from rl.policies.classical import BaseStock, Newsvendor, ReorderPoint, StaticMinMax


def context_of(forecast, terms, grid):
    inputs = make_forecast_inputs(forecast, terms, grid=grid)
    return ContextMaker(grid)(**{name: torch.tensor(value) for name, value in inputs.items()})


def observation_of(state, forecast, terms, grid=None):
    grid = grid or ActionGrid()
    inputs = {name: torch.tensor(value) for name, value in make_state_inputs(state).items()}
    seen_SF = observe(context_of(forecast, terms, grid), **inputs).numpy()
    return [dict(zip(OBSERVATION_NAMES, row, strict=True)) for row in seen_SF]


@settings(deadline=None)
@given(level=st.floats(0.01, 0.999), interval=st.integers(1, 8))
def test_score_weights_are_the_forecasts_own_interpolation(level, interval):
    forecast = normal_forecast(20, 4)
    weights_QZ = make_score_weights_QZ(forecast.levels_Q, (float(ndtri(level)),))
    expected = forecast.quantile_over_S(np.array([interval]), level_S=level)
    assert (forecast.cumulative_SHQ[:, interval - 1] @ weights_QZ)[0] == pytest.approx(expected, rel=1e-4)


def test_the_grid_counts_its_actions():
    grid = ActionGrid(scores=(0.0, 1.0), batches=(0.0, 1.0, 2.0))
    assert grid.num_actions == 8
    assert grid.anchor_action == 7
    assert ActionGrid.from_dict(grid.to_dict()) == grid
    assert ActionGrid(scores=(), units=(1.0, 2.0), fractions=(0.5,)).num_actions == 4


@pytest.mark.parametrize("field", ["scores", "batches", "units", "fractions"])
def test_a_grid_that_does_not_increase_is_refused(field):
    with pytest.raises(ValueError, match=f"{field} must increase"):
        ActionGrid(**{field: (1.0, 1.0)})


def test_a_grid_with_a_quantity_of_nothing_is_refused():
    with pytest.raises(ValueError, match="quantities must be > 0"):
        ActionGrid(units=(0.0, 1.0))


def test_quantities_are_ordered_whatever_the_stock():
    forecast, terms = normal_forecast(10, 2), make_terms(lead_time=3, review=2)
    grid = ActionGrid(scores=(0.0,), batches=(0.0,), units=(1.0, 7.0), fractions=(0.5, 1.5))
    context = context_of(forecast, terms, grid)
    assert grid.num_actions == 7
    for position in (0.0, 33.0, 1e6):
        wishes = [float(order_wish(context, torch.tensor([a]), torch.tensor([position]))) for a in range(5)]
        assert wishes == pytest.approx([0, 1, 7, 10, 30])
    assert float(order_wish(context, torch.tensor([5]), torch.tensor([33.0]))) == pytest.approx(17, rel=1e-3)
    assert int(nearest_action(context, torch.tensor([7.4]), torch.tensor([33.0]), num_actions=grid.num_actions)) == 2


def test_levels_of_the_grid_by_hand():
    # Normal demand 10 +- 2 a period, L + R = 4: mean 40, deviation 4. EOQ = sqrt(2 * 5 * 10 / 0.25) = 20.
    forecast, terms = normal_forecast(10, 2), make_terms(lead_time=3, fixed=5, holding=0.25)
    grid = ActionGrid(scores=(0.0, 1.0), batches=(0.0, 0.5), anchor_score=2.0, anchor_periods=3.0)
    context = context_of(forecast, terms, grid)
    assert context.level_SA[0].tolist() == pytest.approx([40, 50, 44, 54, 78], rel=1e-3)
    position = torch.tensor([45.0])
    wishes = [float(order_wish(context, torch.tensor([a]), position)) for a in range(grid.num_actions)]
    assert wishes == pytest.approx([0, 0, 5, 0, 9, 33], rel=1e-2)


def test_a_batch_is_at_least_one_review_period_and_at_most_sixty():
    forecast = normal_forecast(10, 2, rows=2)
    terms = make_terms(2, lead_time=1, review=2, fixed=[0, 5], holding=[0.25, 1e-7])
    grid = ActionGrid(scores=(0.0,), batches=(0.0, 1.0))
    level_SA = context_of(forecast, terms, grid).level_SA
    assert (level_SA[:, 1] - level_SA[:, 0]).tolist() == pytest.approx([20, 600], rel=1e-3)


@pytest.mark.parametrize("review", [1, 2])
@pytest.mark.parametrize(
    "rule",
    [BaseStock(cycle_service_level=0.9), ReorderPoint(cycle_service_level=0.8, order_periods=3.0)],
    ids=lambda rule: rule.name,
)
def test_the_anchor_is_the_tuned_rule(rule, review):
    rows = 60
    terms = make_terms(rows, lead_time=2, review=review, fixed=1)
    forecast = poisson_forecast(3.0, rows=rows)
    state = make_state(rows, on_hand=np.arange(rows) / 3, on_order=np.ones((rows, 2)))
    context = context_of(forecast, terms, anchored_grid(rule, terms))
    position_S = torch.tensor(state.inventory_position_S)
    expected_S = rule.order_quantity_S(state, forecast, terms)
    # What imitation is taught orders the same, through the grid.
    num_actions = anchored_grid(rule, terms).num_actions
    action_S = nearest_action(context, torch.tensor(expected_S), position_S, num_actions=num_actions)
    assert order_wish(context, action_S, position_S).numpy() == pytest.approx(expected_S, abs=1e-3)
    assert set(action_S.tolist()) == {0, anchored_grid(rule, terms).anchor_action}


def test_anchors_of_rules_without_parameters():
    terms = make_terms(3, lost=9, holding=1)
    assert ndtr(anchored_grid(Newsvendor(), terms).anchor_score) == pytest.approx(0.9)
    assert anchored_grid(StaticMinMax(safety_periods=1, order_periods=2), terms) == ActionGrid()
    assert anchored_grid(None, terms) == ActionGrid()


def test_the_observation_by_hand():
    # Mean 10 a period, L = 2, R = 1; 15 on the shelf of which 2 reserved, 1 owed, 7 and 4 arrive next.
    forecast = normal_forecast(10, 2)
    terms = make_terms(lead_time=2, pack=6, storage=60, mean=5, holding=0.5, lost=8, fixed=4, minimum=12, cap=24)
    state = make_state(on_hand=15, on_order=[[7, 4]], backorder=1, reserved=2)
    (seen,) = observation_of(state, forecast, terms)
    scale = 30 + 2 * 3**0.5  # the quantile at score 1
    # Net 12; after one period 12 + 7 - 10 = 9, after two 9 + 4 - 10 = 3; L = 2 is spread over eight points.
    assert [seen[f"position_at_{k}"] * scale for k in range(NUM_PROFILE_POINTS)] == pytest.approx(
        [9] * 4 + [3] * 4, abs=0.05
    )
    assert [seen[f"pipeline_{k}_centred"] * scale for k in (0, 1, 4)] == pytest.approx([-3, 0, -6], abs=0.05)
    assert seen["net_minus_next_period"] * scale == pytest.approx(2, abs=0.05)
    assert seen["position_minus_interval"] * scale == pytest.approx(23 - 30, abs=0.05)
    assert seen["position_minus_quantile_+1"] * scale == pytest.approx(23 - scale, abs=0.05)
    assert seen["room"] * scale == pytest.approx(24, abs=0.05)
    assert seen["net_cover"] == pytest.approx(12 / 10 / 8)
    assert seen["position_cover"] == pytest.approx((23 / 5 - 3) / 8)
    assert seen["next_period_over_rate"] == seen["interval_over_rate"] == pytest.approx(1)
    assert seen["after_interval_over_rate"] == pytest.approx(1)
    assert seen["log_cost_ratio"] == pytest.approx(np.log(16) / 4, rel=1e-3)
    assert seen["pack_size"] * scale == pytest.approx(6, abs=0.01)
    assert seen["min_order_qty"] * scale == pytest.approx(12, abs=0.01)
    assert seen["log_rate_change"] == pytest.approx(np.log(2), rel=1e-4)
    assert (seen["lead_time"], seen["review_period"]) == (2 / 8, 1 / 8)


@settings(deadline=None)
@given(factor=st.floats(2, 50))
def test_most_of_the_observation_does_not_depend_on_the_unit(factor):
    terms = make_terms(lead_time=3, mean=10, holding=0.5, fixed=2)
    large = make_terms(lead_time=3, mean=10 * factor, pack=factor, holding=0.5 / factor, lost=4 / factor, fixed=2)
    (seen,) = observation_of(make_state(on_hand=30, on_order=[[5, 0, 6]]), normal_forecast(10, 2), terms)
    (scaled,) = observation_of(
        make_state(on_hand=30 * factor, on_order=[[5 * factor, 0, 6 * factor]]),
        normal_forecast(10 * factor, 2 * factor),
        large,
    )
    absolute = {"log_scale", "log_rate"}
    for name in set(OBSERVATION_NAMES) - absolute:
        assert scaled[name] == pytest.approx(seen[name], rel=1e-3, abs=1e-3), name


@pytest.mark.parametrize("lead_time", [0, 1, 5, 8, 30])
def test_the_profile_fits_any_lead_time(lead_time):
    terms = make_terms(lead_time=lead_time)
    arrival_K = context_of(poisson_forecast(2, horizon=40), terms, ActionGrid()).arrival_SK[0].tolist()
    assert arrival_K[-1] == lead_time
    assert arrival_K == sorted(arrival_K)
    if lead_time <= NUM_PROFILE_POINTS:
        assert set(range(1, lead_time + 1)) <= set(arrival_K)


def test_a_pipeline_shorter_than_the_lead_time_is_as_one_with_empty_periods():
    terms, forecast = make_terms(lead_time=5), poisson_forecast(2)
    (short,) = observation_of(make_state(on_hand=4, on_order=[[3, 1]]), forecast, terms)
    (padded,) = observation_of(make_state(on_hand=4, on_order=[[3, 1, 0, 0, 0, 0]]), forecast, terms)
    assert short == padded


def test_extreme_states_stay_within_bounds():
    terms = make_terms(2, lead_time=2, storage=[np.inf, 5], holding=[0, 1], lost=[0, 1e4])
    forecast = make_forecast(np.zeros((8, 12)), np.zeros(8), rows=2)
    for seen in observation_of(make_state(2, on_hand=[1e7, 0], on_order=[[0.0], [1e6]]), forecast, terms):
        assert all(np.isfinite(value) and abs(value) <= 10 for value in seen.values())


def test_an_interval_beyond_the_horizon_is_refused_with_the_next_step():
    with pytest.raises(ValueError, match=r"is 9 periods, the forecast covers 8; raise forecast.horizon"):
        make_forecast_inputs(poisson_forecast(2, horizon=8), make_terms(lead_time=8), grid=ActionGrid())
