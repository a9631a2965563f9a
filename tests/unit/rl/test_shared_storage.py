"""Orders under shared storage against one pack at a time, and what must hold whatever is ordered."""

from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inventory_cases import make_index, make_scenario, make_state, make_terms, poisson_forecast, random_scenario

from cluster.panel import Calendar
from rl.constraints import Reason, feasible_quantity_S, feasible_steps
from rl.evaluate import replay
from rl.inventory import SharedStorage
from rl.ordering import ask_policies, make_order_plan
from rl.policies.classical import BaseStock, CappedBaseStock
from rl.tuning import candidate_cost_CS

SHARED = list(Reason).index(Reason.SHARED_STORAGE)


def make_shared(groups, capacities):
    return SharedStorage(group_S=np.asarray(groups), capacity_G=np.float32(capacities))


def random_case(seed, *, rows, groups):
    """Terms, state and wishes; every tenth capacity is none, and some groups are over theirs already."""
    rng = np.random.default_rng(seed)
    terms = make_terms(
        rows,
        minimum=rng.choice([0, 0, 10, 40], rows),
        pack=rng.choice([1, 2, 5, 12], rows),
        cap=rng.choice([25, 80, np.inf], rows),
        storage=rng.choice([60, np.inf], rows),
        mean=rng.choice([0, 0.5, 1, 3, 8], rows),
    )
    state = make_state(
        rows,
        on_hand=rng.integers(0, 12, rows),
        on_order=rng.integers(0, 6, (rows, 2)),
        backorder=rng.integers(0, 3, rows),
        reserved=rng.integers(0, 3, rows),
    )
    wish_S = (rng.choice([0.0, 1.0, 1.0], rows) * rng.uniform(0, 60, rows)).astype(np.float32)
    capacity_G = np.where(rng.random(groups) < 0.1, np.inf, rng.uniform(0.3, 2.5, groups) * 20 * rows / groups)
    shared = make_shared(rng.integers(-1, groups, rows), np.floor(capacity_G))
    return wish_S, state, terms, shared


def one_pack_at_a_time(own_S, *, state, terms, shared):
    """The rule as it is told: the neediest order that still fits gets its next pack."""
    quantity_S = np.where(shared.group_S < 0, own_S, 0.0)
    mean_S = np.maximum(terms.mean_demand_S.astype(np.float64), 1e-3)
    for group, capacity in enumerate(shared.capacity_G):
        members = np.flatnonzero(shared.group_S == group)
        room = capacity - state.owned_S[members].sum()
        if own_S[members].sum() <= room:
            quantity_S[members] = own_S[members]
            continue
        while True:
            steps = {}
            for row in members:
                least = max(np.ceil(terms.min_order_qty_S[row] / terms.pack_size_S[row]), 1) * terms.pack_size_S[row]
                step = terms.pack_size_S[row] if quantity_S[row] else least
                if quantity_S[row] < own_S[row] and step <= room:
                    steps[(state.inventory_position_S[row] + quantity_S[row]) / mean_S[row], row] = step
            if not steps:
                break
            _, row = first = min(steps)
            quantity_S[row] += steps[first]
            room -= steps[first]
    return quantity_S


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), groups=st.integers(1, 5))
def test_is_the_rule_one_pack_at_a_time(seed, groups):
    wish_S, state, terms, shared = random_case(seed, rows=25, groups=groups)
    own_S = feasible_quantity_S(wish_S, state=state, terms=terms)
    quantity_S = feasible_quantity_S(wish_S, state=state, terms=terms, shared_storage=shared)
    np.testing.assert_array_equal(quantity_S, one_pack_at_a_time(own_S, state=state, terms=terms, shared=shared))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_never_over_capacity_never_infeasible_and_unchanged_where_it_fits(seed):
    wish_S, state, terms, shared = random_case(seed, rows=2_000, groups=60)
    own_S = feasible_quantity_S(wish_S, state=state, terms=terms)
    quantity_S = feasible_quantity_S(wish_S, state=state, terms=terms, shared_storage=shared)
    assert (quantity_S <= own_S).all()
    assert (quantity_S % terms.pack_size_S == 0).all()
    assert ((quantity_S == 0) | (quantity_S >= terms.min_order_qty_S)).all()
    for group, capacity in enumerate(shared.capacity_G):
        members = shared.group_S == group
        owned, ordered = state.owned_S[members].sum(), quantity_S[members].sum()
        assert ordered == 0 or owned + ordered <= capacity
        if owned + own_S[members].sum() <= capacity:
            np.testing.assert_array_equal(quantity_S[members], own_S[members])
    np.testing.assert_array_equal(quantity_S[shared.group_S < 0], own_S[shared.group_S < 0])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_ledger_names_it_and_sums_to_the_quantity_exactly(seed):
    wish_S, state, terms, shared = random_case(seed, rows=300, groups=6)
    own_S = feasible_quantity_S(wish_S, state=state, terms=terms)
    steps = feasible_steps(wish_S, state=state, terms=terms, shared_storage=shared)
    quantity_S = feasible_quantity_S(wish_S, state=state, terms=terms, shared_storage=shared)
    np.testing.assert_array_equal(steps.quantity_S, quantity_S)
    np.testing.assert_array_equal(steps.change_SR.sum(axis=1), quantity_S)
    np.testing.assert_array_equal(steps.change_SR[:, SHARED], quantity_S - own_S)


@pytest.mark.parametrize(
    ("position", "terms", "capacity", "quantity"),
    [
        ([0, 0], {}, 20, [10, 10]),  # equal need, equal share
        ([8, 0], {}, 20, [2, 10]),  # first those who cover less
        ([0, 0], {"mean": np.array([1, 3])}, 24, [6, 18]),  # cover counts in periods, not in units
        ([0, 0], {"pack": np.array([6, 4])}, 15, [6, 8]),  # whole packs; the rest stays empty
        ([0, 5], {"minimum": np.array([30, 0])}, 25, [0, 20]),  # a minimum that does not fit blocks nobody
        ([3, 9], {}, 10, [0, 0]),  # over capacity already
    ],
)
def test_rule_by_hand(position, terms, capacity, quantity):
    state, wish_S = make_state(2, on_hand=np.array(position)), np.float32([40, 40])
    found = feasible_quantity_S(
        wish_S, state=state, terms=make_terms(2, **terms), shared_storage=make_shared([0, 0], [capacity])
    )
    assert found.tolist() == quantity


def test_fractional_packs_fill_the_room():
    state, terms = make_state(2, on_hand=np.array([0.4, 0.3])), make_terms(2, pack=0.1)
    found = feasible_quantity_S(
        np.float32([1, 1]), state=state, terms=terms, shared_storage=make_shared([0, 0], [1.35])
    )
    assert found.tolist() == pytest.approx([0.3, 0.3])


def test_copies_of_a_row_share_nothing_with_each_other():
    shared = make_shared([0, -1, 1, 0], [10, 20])
    taken = shared.take(np.tile([0, 1, 3], 2))
    assert taken.group_S.tolist() == [0, -1, 0, 2, -1, 2]
    assert taken.capacity_G.tolist() == [10, 20, 10, 20]
    assert shared.take(np.array([False, False, True, True])).group_S.tolist() == [1, 0]


def test_groups_and_capacities_are_checked():
    with pytest.raises(ValueError, match=r"group_S must be in 0\.\.0"):
        make_shared([0, 1], [5])
    with pytest.raises(ValueError, match="capacity_G must hold one capacity"):
        make_shared([0, 0], [np.nan])
    with pytest.raises(ValueError, match="for each of 20 rows"):
        replace(random_scenario(0), shared_storage=make_shared([0], [5]))


def scenario_with_everything(seed):
    """Packs, minimums, caps, storage of its own and shared, reserves, debts, salvage, crossing lead times, some 0."""
    scenario, rng = random_scenario(seed), np.random.default_rng(seed)
    costs = replace(scenario.costs, salvage_S=0.5 * scenario.costs.unit_cost_S)
    owed_S = rng.integers(0, 4, scenario.num_rows).astype(np.float32)
    return replace(
        scenario,
        start=replace(scenario.start, backorder_S=owed_S),
        terms=replace(scenario.terms, costs=costs),
        shared_storage=make_shared(rng.integers(-1, 3, scenario.num_rows), [60, 90, np.inf]),
    )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), unmet=st.sampled_from(["lost", "backorder"]))
def test_a_replay_keeps_to_it_and_conserves_units_to_the_last_one(seed, unmet):
    scenario = scenario_with_everything(seed)
    start, group_S = scenario.start, scenario.shared_storage.group_S
    result = replay(BaseStock(cycle_service_level=0.95), scenario, unmet=unmet)
    np.testing.assert_array_equal(result.end.owned_S, start.owned_S + result.ordered_S - result.sold_S)
    left_S = 0 if unmet == "backorder" else result.unmet_S
    np.testing.assert_array_equal(result.end.backorder_S, start.backorder_S + result.demand_S - result.sold_S - left_S)
    np.testing.assert_allclose(result.salvage_value_S, scenario.costs.salvage_S * result.end.owned_S, rtol=1e-6)
    for group, capacity in enumerate(scenario.shared_storage.capacity_G):
        members = group_S == group
        assert result.end.owned_S[members].sum() <= max(capacity, start.owned_S[members].sum())


@dataclass
class Watched:
    """Wishes a hundred of everything, and writes down what is owned in each period."""

    owned_T: list[float]
    name: str = "watched"

    def order_quantity_S(self, state, forecast, terms):
        self.owned_T.append(float(state.owned_S.sum()))
        return np.full(len(terms), 100, dtype=np.float32)


def test_a_shared_shelf_is_full_and_never_fuller():
    scenario, policy = random_scenario(4), Watched([])
    shared = make_shared(np.zeros(scenario.num_rows, dtype=np.int64), [75])
    replay(policy, replace(scenario, start=make_state(scenario.num_rows), shared_storage=shared))
    assert policy.owned_T[0] == 0
    assert max(policy.owned_T) <= 75
    assert np.mean(policy.owned_T[1:]) > 25


def test_tuning_replays_candidates_in_storage_of_their_own():
    scenario = random_scenario(1)
    shared = make_shared(np.arange(scenario.num_rows) % 3, [40, 60, 80])
    scenario = replace(scenario, shared_storage=shared)
    candidates = [BaseStock(cycle_service_level=0.6), CappedBaseStock(cycle_service_level=0.9, cap_periods=2.0)]
    alone = [replay(policy, scenario).cost_S for policy in candidates]
    np.testing.assert_array_equal(candidate_cost_CS(candidates, scenario), alone)


def test_storage_that_is_never_full_changes_nothing():
    scenario = random_scenario(2)
    shared = make_shared(np.zeros(scenario.num_rows, dtype=np.int64), [np.inf])
    policy = BaseStock(cycle_service_level=0.9)
    np.testing.assert_array_equal(
        replay(policy, replace(scenario, shared_storage=shared)).cost_S, replay(policy, scenario).cost_S
    )


@dataclass(frozen=True)
class Dozens:
    """Wishes a dozen of everything."""

    name: str = "dozens"

    def order_quantity_S(self, state, forecast, terms):
        return np.full(len(terms), 12, dtype=np.float32)


def test_plan_says_what_shared_storage_cut():
    state, forecast = make_state(2, on_hand=np.array([0, 6])), poisson_forecast(2, rows=2)
    terms = make_terms(2, pack=6)
    lines = make_order_plan(
        index=make_index("dairy", "dairy"),
        state=state,
        forecast=forecast,
        terms=terms,
        wishes=ask_policies([Dozens()] * 2, state=state, forecast=forecast, terms=terms),
        on_date=date(2024, 1, 11),
        calendar=Calendar(start_on=date(2024, 1, 1), period_days=1),
        shared_storage=make_shared([0, 0], [13]),
    ).lines
    assert [line.reason for line in lines] == [
        "Order 6 units: 0 units on hand against 2 expected in the 1-day protection interval; the dozens policy wishes "
        "12, cut to its part of the storage that series share, the lowest cover first.",
        "No order: 12 wished, but the storage that series share has no room left for it; 6 units on hand against 2 "
        "expected in the 1-day protection interval.",
    ]
    assert [(entry.reason, entry.change_qty) for entry in lines[1].ledger] == [
        (Reason.WISH, 12),
        (Reason.SHARED_STORAGE, -12),
    ]


def test_scenarios_without_it_replay_as_before():
    terms = make_terms(2, lead_time=1)
    scenario = make_scenario([[2, 2], [1, 1]], terms=terms, forecast=poisson_forecast(2, rows=2))
    assert scenario.shared_storage is None
    assert scenario.take(np.array([1])).shared_storage is None
