"""The event order against a loop over single units, conservation, and published costs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inventory_cases import make_state, make_terms
from scipy import stats

from rl.simulator import Simulator

POISSON_5 = stats.poisson(5).pmf(np.arange(40))


def unit_by_unit(start, *, orders, demands, lead_times, unmet):
    """One row's periods, unit by unit, with nothing shared with the simulator: units are due dates in a list."""
    shelf, reserved, owed = int(start.on_hand_S[0]), int(start.reserved_S[0]), int(start.backorder_S[0])
    coming = [ahead + 1 for ahead, units in enumerate(start.on_order_SL[0]) for _ in range(int(units))]
    history = []
    for t, (order, demand, lead_time) in enumerate(zip(orders, demands, lead_times, strict=True)):
        arrived = [due for due in coming if due == t]
        coming = [due for due in coming if due != t]
        shelf += len(arrived) if t else 0
        coming += [t + lead_time] * order
        if lead_time == 0:
            shelf += coming.count(t)
            coming = [due for due in coming if due != t]
        sold = served_owed = 0
        for is_owed in [True] * owed + [False] * demand:
            if shelf > reserved:
                shelf -= 1
                sold += 1
                served_owed += is_owed
        turned_away = demand - (sold - served_owed)
        waiting = owed - served_owed
        owed = waiting + turned_away if unmet == "backorder" else waiting
        history.append((sold, owed if unmet == "backorder" else turned_away, shelf))
    return history


@st.composite
def single_rows(draw):
    length = draw(st.integers(1, 12))
    small = st.integers(0, 6)
    start = make_state(
        on_hand=draw(small),
        on_order=draw(st.lists(small, min_size=1, max_size=3)),
        backorder=draw(small),
        reserved=draw(st.integers(0, 2)),
    )
    periods = st.lists(st.integers(0, 5), min_size=length, max_size=length)
    return start, draw(periods), draw(periods), draw(periods)


@settings(max_examples=300, deadline=None)
@given(case=single_rows(), unmet=st.sampled_from(["lost", "backorder"]))
def test_equals_a_loop_over_single_units(case, unmet):
    start, orders, demands, lead_times = case
    costs = make_terms(holding=0.5, lost=3, fixed=2).costs
    simulator = Simulator(start, costs=costs, max_lead_time=5, unmet=unmet)
    expected = unit_by_unit(start, orders=orders, demands=demands, lead_times=lead_times, unmet=unmet)
    for order, demand, lead_time, (sold, unmet_units, shelf) in zip(orders, demands, lead_times, expected, strict=True):
        outcome = simulator.step(np.float32([order]), demand_N=np.float32([demand]), lead_time_N=np.array([lead_time]))
        assert (outcome.sold_N[0], outcome.unmet_N[0], outcome.on_hand_N[0]) == (sold, unmet_units, shelf)
        assert outcome.cost_N[0] == pytest.approx(0.5 * shelf + 3 * unmet_units + 2 * (order > 0))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), unmet=st.sampled_from(["lost", "backorder"]))
def test_units_are_conserved_to_the_last_one(seed, unmet):
    rng = np.random.default_rng(seed)
    N, T = 50, 40
    start = make_state(
        N,
        on_hand=rng.integers(0, 20, N),
        on_order=rng.integers(0, 9, (N, 4)),
        backorder=rng.integers(0, 5, N),
        reserved=rng.integers(0, 5, N),
    )
    simulator = Simulator(start, costs=make_terms(N).costs, max_lead_time=7, unmet=unmet)
    supplied_N = start.on_hand_S + start.on_order_SL.sum(axis=1)
    owed_N = start.backorder_S.copy()
    for _ in range(T):
        order_N = rng.integers(0, 9, N).astype(np.float32)
        demand_N = rng.integers(0, 9, N).astype(np.float32)
        outcome = simulator.step(order_N, demand_N=demand_N, lead_time_N=rng.integers(0, 8, N))
        supplied_N += order_N - outcome.sold_N
        owed_N += demand_N - outcome.sold_N - (outcome.unmet_N if unmet == "lost" else 0)
        state = simulator.observe()
        np.testing.assert_array_equal(supplied_N, state.on_hand_S + state.on_order_SL.sum(axis=1))
        np.testing.assert_array_equal(owed_N, state.backorder_S)
        assert (outcome.sold_N >= 0).all()
        assert (outcome.unmet_N >= 0).all()


def test_without_a_lead_time_an_order_serves_the_same_period():
    simulator = Simulator(make_state(), costs=make_terms().costs, max_lead_time=0)
    outcome = simulator.step(np.float32([3]), demand_N=np.float32([5]), lead_time_N=np.array([0]))
    assert (outcome.sold_N[0], outcome.unmet_N[0]) == (3, 2)


def test_orders_may_cross():
    simulator = Simulator(make_state(), costs=make_terms().costs, max_lead_time=4)
    nothing = np.float32([0])
    simulator.step(np.float32([10]), demand_N=nothing, lead_time_N=np.array([4]))
    simulator.step(np.float32([1]), demand_N=nothing, lead_time_N=np.array([1]))
    assert simulator.observe().on_hand_S[0] == 1
    simulator.step(nothing, demand_N=nothing, lead_time_N=np.array([1]))
    simulator.step(nothing, demand_N=nothing, lead_time_N=np.array([1]))
    assert simulator.observe().on_hand_S[0] == 11


def test_reserved_units_are_never_sold():
    simulator = Simulator(make_state(on_hand=5, reserved=2), costs=make_terms().costs, max_lead_time=1)
    outcome = simulator.step(np.float32([0]), demand_N=np.float32([9]), lead_time_N=np.array([1]))
    assert (outcome.sold_N[0], outcome.on_hand_N[0]) == (3, 2)


def test_what_callers_do_to_their_arrays_changes_nothing():
    simulator = Simulator(make_state(on_hand=5, on_order=[[2, 0]]), costs=make_terms().costs, max_lead_time=2)
    order_N, nothing = np.float32([3]), np.float32([0])
    outcome = simulator.step(order_N, demand_N=nothing, lead_time_N=2)
    order_N[:] = 9
    for result in (simulator.observe(), outcome):
        for name in type(result).__dataclass_fields__:
            getattr(result, name)[:] = 9
    state = simulator.observe()
    assert (state.on_hand_S.tolist(), state.on_order_SL.tolist()) == ([7], [[3, 0]])
    assert (state.backorder_S.tolist(), state.reserved_S.tolist()) == ([0], [0])


def test_one_lead_time_for_all_rows_is_an_array_of_it():
    rng = np.random.default_rng(0)
    start = make_state(30, on_hand=rng.integers(0, 9, 30))
    one, many = (Simulator(start, costs=make_terms(30).costs, max_lead_time=3) for _ in range(2))
    for lead_time in (0, 3, 1, 3, 2):
        order_N, demand_N = rng.integers(0, 9, (2, 30)).astype(np.float32)
        one.step(order_N, demand_N=demand_N, lead_time_N=lead_time)
        many.step(order_N, demand_N=demand_N, lead_time_N=np.full(30, lead_time))
        np.testing.assert_array_equal(one.observe().on_order_SL, many.observe().on_order_SL)
        np.testing.assert_array_equal(one.observe().on_hand_S, many.observe().on_hand_S)


def test_no_rows_are_stepped_too():
    simulator = Simulator(make_state(0), costs=make_terms(0).costs, max_lead_time=2)
    nothing = np.zeros(0, dtype=np.float32)
    outcome = simulator.step(nothing, demand_N=nothing, lead_time_N=np.zeros(0, dtype=np.int64))
    assert outcome.cost_N.shape == (0,)
    assert simulator.observe().on_order_SL.shape == (0, 2)


def test_a_longer_lead_time_than_announced_is_refused():
    simulator = Simulator(make_state(2), costs=make_terms(2).costs, max_lead_time=2)
    for lead_time in (3, np.array([1, 3])):
        with pytest.raises(IndexError):
            simulator.step(np.float32([1, 1]), demand_N=np.float32([0, 0]), lead_time_N=lead_time)


def expected_cost_X(levels, *, penalty):
    """Expected cost of a period that starts with each number of units, holding cost 1."""
    demand = np.arange(len(POISSON_5))
    left = levels[:, None] - demand
    return (np.maximum(left, 0) + penalty * np.maximum(-left, 0)) @ POISSON_5


def optimal_orders_X(*, penalty, most=25):
    """Optimal average cost and order by units on the shelf, lead time 1: relative value iteration."""
    units = np.arange(most + 1)
    cost_X = expected_cost_X(units, penalty=penalty)
    left_XD = np.maximum(units[:, None] - np.arange(len(POISSON_5)), 0)
    value_X = np.zeros(most + 1)
    for _ in range(400):
        later_XA = np.stack([value_X[np.minimum(left_XD + order, most)] @ POISSON_5 for order in range(13)], axis=1)
        following_X = cost_X + later_XA.min(axis=1)
        average, value_X = following_X[0], following_X - following_X[0]
    return average, later_XA.argmin(axis=1)


def base_stock_cost(level, *, penalty):
    """Exact average cost of a base-stock level, lead time 1: tomorrow starts with level - sales of today."""
    units = np.arange(level + 1)
    chain_XX = np.zeros((level + 1, level + 1))
    for x in units:
        np.add.at(chain_XX[x], level - np.minimum(x, np.arange(len(POISSON_5))), POISSON_5)
    share_X = np.linalg.matrix_power(chain_XX / chain_XX.sum(axis=1, keepdims=True), 4_096)[0]
    return share_X @ expected_cost_X(units, penalty=penalty)


def simulated_cost(order_of_X, *, penalty, N=4_000, T=400):
    rng = np.random.default_rng(1)
    simulator = Simulator(make_state(N, on_hand=5), costs=make_terms(N, holding=1, lost=penalty).costs, max_lead_time=1)
    one_N, total = np.ones(N, dtype=np.int64), 0.0
    for t in range(T + 50):
        order_N = order_of_X[simulator.observe().on_hand_S.astype(int)].astype(np.float32)
        outcome = simulator.step(order_N, demand_N=rng.poisson(5, N).astype(np.float32), lead_time_N=one_N)
        total += float(outcome.cost_N.mean()) if t >= 50 else 0.0
    return total / T


def test_published_lost_sales_optimum():
    """Zipkin (2008), Poisson(5), p = 4, h = 1, L = 1: 4.04."""
    average, order_X = optimal_orders_X(penalty=4)
    assert round(average, 2) == 4.04
    assert simulated_cost(order_X, penalty=4) == pytest.approx(average, rel=0.002)


def test_best_base_stock_of_the_published_instance():
    costs = {level: base_stock_cost(level, penalty=4) for level in range(5, 20)}
    best = min(costs, key=costs.get)
    average, _ = optimal_orders_X(penalty=4)
    assert average < costs[best] < 1.05 * average
    order_X = np.maximum(best - np.arange(best + 1), 0)
    assert simulated_cost(order_X, penalty=4) == pytest.approx(costs[best], rel=0.002)
