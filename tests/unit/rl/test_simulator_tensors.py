"""The simulator on torch tensors: the same outcomes as on arrays, and gradients that are those of the arithmetic."""

import numpy as np
import pytest
import torch
from fresh_process import loaded_by
from hypothesis import given, settings
from hypothesis import strategies as st
from inventory_cases import make_state, make_terms

from rl.inventory import CostRates, InventoryState
from rl.simulator import Simulator

N, T, LONGEST = 24, 12, 5
GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))


def tensors_of(state, device="cpu"):
    names = [name for name in type(state).__dataclass_fields__ if getattr(state, name) is not None]
    return type(state)(**{name: torch.from_numpy(getattr(state, name)).to(device) for name in names})


def random_case(seed, *, whole=True):
    """Start, cost rates, orders, demands and lead times (None where they are of one int) of N rows."""
    rng = np.random.default_rng(seed)
    has_debts, has_reserves, has_fixed = rng.integers(0, 2, 3)
    start = make_state(
        N,
        on_hand=rng.integers(0, 20, N),
        on_order=rng.integers(0, 9, (N, 3)),
        backorder=has_debts * rng.integers(0, 5, N),
        reserved=has_reserves * rng.integers(0, 5, N),
    )
    costs = make_terms(
        N, holding=rng.uniform(0, 2, N), lost=rng.uniform(0, 9, N), fixed=has_fixed * rng.uniform(0, 5, N)
    ).costs
    order_TN = rng.integers(0, 9, (T, N)) if whole else rng.uniform(0.1, 9, (T, N))
    demand_TN = rng.integers(0, 9, (T, N)) if whole else rng.uniform(0, 9, (T, N))
    lead_time_TN = rng.integers(0, LONGEST + 1, (T, N))
    return start, costs, order_TN.astype(np.float32), demand_TN.astype(np.float32), lead_time_TN


def assert_equal(tensors, arrays):
    for name in type(arrays).__dataclass_fields__:
        np.testing.assert_allclose(getattr(tensors, name).cpu().numpy(), getattr(arrays, name), rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("device", ["cpu", GPU])
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    unmet=st.sampled_from(["lost", "backorder"]),
    common=st.sampled_from([None, 0, 1, 3, LONGEST]),
)
def test_tensors_and_arrays_have_the_same_outcomes(device, seed, unmet, common):
    start, costs, order_TN, demand_TN, lead_time_TN = random_case(seed)
    arrays = Simulator(start, costs=costs, max_lead_time=LONGEST, unmet=unmet)
    tensors = Simulator(tensors_of(start, device), costs=tensors_of(costs, device), max_lead_time=LONGEST, unmet=unmet)
    for order_N, demand_N, drawn_N in zip(order_TN, demand_TN, lead_time_TN, strict=True):
        lead_time_N = drawn_N if common is None else np.full(N, common)
        expected = arrays.step(order_N, demand_N=demand_N, lead_time_N=lead_time_N)
        found = tensors.step(
            torch.from_numpy(order_N).to(device),
            demand_N=torch.from_numpy(demand_N).to(device),
            lead_time_N=torch.from_numpy(drawn_N).to(device) if common is None else common,
        )
        assert_equal(found, expected)
        assert_equal(tensors.observe(), arrays.observe())
        assert found.cost_N.dtype == torch.float32


def total_cost(order_TN, *, case, unmet, common):
    start, costs, _, demand_TN, lead_time_TN = case
    simulator = Simulator(tensors_of(start), costs=tensors_of(costs), max_lead_time=LONGEST, unmet=unmet)
    total_N = torch.zeros(N)
    for order_N, demand_N, drawn_N in zip(order_TN, demand_TN, lead_time_TN, strict=True):
        lead_time_N = torch.from_numpy(drawn_N) if common is None else common
        total_N = total_N + simulator.step(order_N, demand_N=torch.from_numpy(demand_N), lead_time_N=lead_time_N).cost_N
    return total_N


@pytest.mark.parametrize("unmet", ["lost", "backorder"])
@pytest.mark.parametrize("common", [None, 0, 2])
@pytest.mark.parametrize("seed", range(4))
def test_gradients_are_those_of_finite_differences_away_from_kinks(seed, unmet, common):
    case, step = random_case(seed, whole=False), 0.02
    order_TN = torch.from_numpy(case[2]).requires_grad_()
    cost_N = total_cost(order_TN, case=case, unmet=unmet, common=common)
    (gradient_TN,) = torch.autograd.grad(cost_N.sum(), order_TN)
    checked = 0
    with torch.no_grad():
        for t in range(T):
            change_TN = torch.zeros(T, N)
            change_TN[t] = step
            up_N = (total_cost(order_TN + change_TN, case=case, unmet=unmet, common=common) - cost_N) / step
            down_N = (cost_N - total_cost(order_TN - change_TN, case=case, unmet=unmet, common=common)) / step
            is_straight_N = (up_N - down_N).abs() < 0.02  # cost is linear between kinks
            checked += int(is_straight_N.sum())
            torch.testing.assert_close(gradient_TN[t][is_straight_N], up_N[is_straight_N], atol=0.02, rtol=0)
    assert checked > 0.9 * T * N
    assert (gradient_TN != 0).float().mean() > 0.3


def test_gradients_reach_the_opening_stock():
    on_hand_N = torch.tensor([5.0, 1.0], requires_grad=True)
    none_N = torch.zeros(2)
    start = InventoryState(on_hand_S=on_hand_N, on_order_SL=none_N[:, None], backorder_S=none_N, reserved_S=none_N)
    one_N = torch.ones(2)
    costs = CostRates(holding_S=one_N, lost_sale_S=4 * one_N, fixed_order_S=none_N, unit_cost_S=one_N)
    outcome = Simulator(start, costs=costs, max_lead_time=1).step(none_N, demand_N=3 * one_N, lead_time_N=1)
    outcome.cost_N.sum().backward()
    assert on_hand_N.grad.tolist() == [1.0, -4.0]


def test_cost_rates_of_tensors_are_checked_and_taken():
    costs = tensors_of(make_terms(3, holding=np.array([0, 1, 2]), lost=np.array([0, 1, 6])).costs)
    assert costs.critical_ratio_S.tolist() == [0.0, 0.5, 0.75]
    assert costs.take(torch.tensor([2, 0])).holding_S.tolist() == [2.0, 0.0]
    with pytest.raises(ValueError, match="holding_S must hold one finite rate"):
        tensors_of(make_terms(2, holding=np.array([1, np.nan])).costs)


def test_salvage_of_tensors():
    terms = make_terms(2, unit_cost=4, salvage=np.array([1, 3]))
    state = make_state(2, on_hand=5, on_order=np.array([[1, 2], [0, 0]]))
    costs = tensors_of(terms.costs)
    assert tensors_of(state).salvage_value_S(costs).tolist() == [8.0, 15.0]
    assert tensors_of(state).write_down_S(costs.take(torch.tensor([0, 1]))).tolist() == [24.0, 5.0]


def test_salvage_above_the_unit_cost_is_refused():
    with pytest.raises(ValueError, match="at most unit_cost_S"):
        make_terms(2, unit_cost=4, salvage=np.array([4, 5]))


def test_does_not_import_torch():
    assert loaded_by("import rl.simulator", among=["torch", "ray"]) == []
