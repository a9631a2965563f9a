"""The replay by hand, and the foresight bound by brute force."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inventory_cases import make_scenario, make_state, make_terms, poisson_forecast, random_scenario

from rl.evaluate import perfect_foresight_cost_S, replay
from rl.policies.classical import BaseStock, CappedBaseStock, NegativeBinomial, Newsvendor, ReorderPoint, StaticMinMax
from rl.simulator import Simulator

POLICIES = [
    Newsvendor(),
    BaseStock(cycle_service_level=0.5),
    CappedBaseStock(cycle_service_level=0.95, cap_periods=1.5),
    ReorderPoint(cycle_service_level=0.7, order_periods=4.0),
    NegativeBinomial(),
    StaticMinMax(safety_periods=-1.0, order_periods=2.0),
]


@dataclass(frozen=True)
class Constant:
    """Wishes the same in every period."""

    quantity: float
    name: str = "constant"

    def order_quantity_S(self, state, forecast, terms):
        return np.full(len(terms), self.quantity, dtype=np.float32)


def test_a_replay_by_hand():
    terms = make_terms(lead_time=1, pack=3, review=2, phase=1, holding=0.5, lost=2, fixed=1, unit_cost=4)
    scenario = make_scenario(
        [[2, 4, 0, 5]], terms=terms, forecast=poisson_forecast(2), start=make_state(on_hand=5), first=4
    )
    result = replay(Constant(4.0), scenario)
    # Orders of 6 in periods 5 and 7; shelf at the end 3, 0, 6, 1; one unit lost in period 5.
    assert result.holding_cost_S.tolist() == [5.0]
    assert result.lost_sale_cost_S.tolist() == [2.0]
    assert result.fixed_cost_S.tolist() == [2.0]
    assert result.cost_S.tolist() == [9.0]
    assert result.cost_T.tolist() == [1.5, 3.0, 3.0, 1.5]
    assert (result.demand_S[0], result.sold_S[0], result.unmet_S[0]) == (11, 10, 1)
    assert result.fill_rate_S[0] == result.fill_rate == pytest.approx(10 / 11)
    assert result.in_stock_rate_S.tolist() == [0.75]
    assert result.stock_value_S.tolist() == [10.0]
    assert (result.num_orders_S[0], result.ordered_S[0]) == (2, 12)
    assert result.ordered_T.tolist() == [0, 6, 0, 6]
    assert result.on_hand_T.tolist() == [3, 0, 6, 1]
    assert result.unmet_T.tolist() == [0, 1, 0, 0]


def test_in_stock_needs_units_on_the_shelf_and_nobody_turned_away():
    terms = make_terms(4, lead_time=1)
    start = make_state(4, on_hand=np.array([0, 2, 2, 2]), reserved=np.array([0, 0, 0, 2]))
    scenario = make_scenario([[0], [2], [3], [0]], terms=terms, forecast=poisson_forecast(1, rows=4), start=start)
    assert replay(Constant(0.0), scenario).in_stock_rate_S.tolist() == [0, 1, 0, 0]


def test_a_series_replays_alone_as_among_others():
    scenario = random_scenario(3)
    together = replay(POLICIES[3], scenario).cost_S
    alone = [replay(POLICIES[3], scenario.take(np.array([row]))).cost_S[0] for row in range(scenario.num_rows)]
    np.testing.assert_array_equal(together, alone)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_no_policy_beats_perfect_foresight(seed):
    scenario = random_scenario(seed)
    bound_S = perfect_foresight_cost_S(scenario)
    for policy in [*POLICIES, Constant(0.0), Constant(3.0)]:
        assert (bound_S <= replay(policy, scenario).cost_S * (1 + 1e-6) + 1e-4).all()


def cheapest_of_all_order_sequences(scenario, *, most):
    """Every sequence of orders 0..most, simulated: the true optimum of one row."""
    T = scenario.num_periods
    sequences = np.array(list(itertools.product(range(most + 1), repeat=T)), dtype=np.float32)
    rows = np.zeros(len(sequences), dtype=np.int64)
    simulator = Simulator(
        scenario.start.take(rows), costs=scenario.costs.take(rows), max_lead_time=scenario.max_lead_time
    )
    cost_N = np.zeros(len(sequences))
    for t in range(T):
        cost_N += simulator.step(
            sequences[:, t], demand_N=scenario.demand_NT[rows, t], lead_time_N=scenario.lead_time_NT[rows, t]
        ).cost_N
    cost_N += simulator.observe().write_down_S(scenario.costs.take(rows))
    return cost_N.min()


@pytest.mark.parametrize("salvage", [None, 0.3])
@pytest.mark.parametrize("seed", range(25))
def test_bound_is_the_optimum_of_a_tiny_problem(seed, salvage):
    rng = np.random.default_rng(seed)
    terms = make_terms(
        lead_time=1,
        holding=rng.choice([0.2, 0.5, 1.0]),
        lost=rng.choice([0.7, 1.0, 3.0]),
        fixed=rng.choice([0.0, 0.5, 2.0]),
        salvage=salvage,
    )
    start = make_state(on_hand=rng.integers(0, 3), on_order=rng.integers(0, 2, (1, 2)), reserved=rng.integers(0, 2))
    scenario = make_scenario(
        rng.integers(0, 3, (1, 5)),
        terms=terms,
        forecast=poisson_forecast(1.0),
        start=start,
        lead_time_NT=rng.integers(0, 3, (1, 5)),
    )
    optimum = cheapest_of_all_order_sequences(scenario, most=6)
    assert perfect_foresight_cost_S(scenario)[0] == pytest.approx(optimum, abs=1e-5)


@dataclass(frozen=True)
class OrdersOnce:
    """Orders the given quantities in the first period."""

    quantity_S: np.ndarray
    name: str = "once"

    def order_quantity_S(self, state, forecast, terms):
        return self.quantity_S * (state.owned_S == 0)


def test_salvage_makes_one_period_the_newsvendor():
    """Overage costs unit cost less salvage, underage the lost margin (Snyder & Shen 2019, section 4.3)."""
    demand_S, quantity_S = np.float32([0, 3, 7, 9]), np.float32([4, 4, 4, 4])
    terms = make_terms(4, holding=0, lost=3, unit_cost=2, salvage=0.5)
    scenario = make_scenario(demand_S[:, None], terms=terms, forecast=poisson_forecast(5.0, rows=4))
    result = replay(OrdersOnce(quantity_S), scenario)
    over_S = np.maximum(quantity_S - demand_S, 0)
    np.testing.assert_allclose(result.cost_S, 1.5 * over_S + 3 * np.maximum(demand_S - quantity_S, 0))
    np.testing.assert_allclose(result.salvage_value_S, 0.5 * over_S)


def test_units_that_are_still_coming_are_written_down_too():
    terms = make_terms(lead_time=3, unit_cost=2, salvage=0.5)
    scenario = make_scenario([[0, 0]], terms=terms, forecast=poisson_forecast(5.0))
    result = replay(OrdersOnce(np.float32([4])), scenario)
    assert (result.write_down_S[0], result.cost_S[0]) == (6, 6)


def test_without_salvage_rates_the_end_costs_nothing():
    scenario = random_scenario(3)
    result = replay(POLICIES[0], scenario)
    assert not result.write_down_S.any()
    assert not result.salvage_value_S.any()
    np.testing.assert_allclose(result.cost_S, result.holding_cost_S + result.lost_sale_cost_S + result.fixed_cost_S)
