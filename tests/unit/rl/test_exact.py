"""The exact judge against published optima (Zipkin 2008), the simulator, and itself."""

import numpy as np
import pytest

from rl.demand import DemandLaw
from rl.exact import LostSalesProblem, judge, solve
from rl.exact_rules import RULES, base_stock_orders, best_base_stock, best_capped_base_stock
from rl.inventory import CostRates, InventoryState
from rl.simulator import Simulator

PUBLISHED = {
    ("poisson", 4): (4.04, 4.40, 4.60),
    ("poisson", 9): (5.44, 6.09, 6.53),
    ("poisson", 19): (6.68, 7.66, 8.36),
    ("poisson", 39): (7.84, 9.11, 10.04),
    ("geometric", 4): (9.82, 10.24, 10.47),
    ("geometric", 9): (14.51, 15.50, 16.14),
    ("geometric", 19): (19.22, 20.89, 22.06),
    ("geometric", 39): (23.87, 26.21, 27.96),
}


def problem(law="poisson", *, penalty=4.0, lead_time=2, **lots):
    return LostSalesProblem(law=DemandLaw(name=law, mean=5), lead_time=lead_time, penalty=penalty, **lots)


@pytest.mark.parametrize(("law", "penalty"), PUBLISHED)
def test_published_optima(law, penalty):
    for lead_time, published in enumerate(PUBLISHED[law, penalty], start=1):
        one = problem(law, penalty=penalty, lead_time=lead_time)
        optimum = solve(one)
        assert optimum.cost == pytest.approx(published, abs=0.0051)
        assert judge(one, optimum.order_of).cost == pytest.approx(optimum.cost, rel=1e-6)


def test_the_optimum_at_lead_time_four():
    assert solve(problem(lead_time=4)).cost == pytest.approx(4.72853, abs=1e-5)


@pytest.mark.parametrize(
    ("lots", "optima"),
    [
        ({"pack_size": 3}, (5.59512, 6.25012, 7.84911)),
        ({"pack_size": 6}, (5.97415, 6.62731, 8.22968)),
        ({"min_order_qty": 8}, (6.77946, 7.67561, 9.15308)),
        ({"min_order_qty": 12}, (8.18493, 8.80978, 10.44024)),
        ({"order_cap": 6}, (5.48123, 6.09901, 7.74821)),
        ({"fixed_cost": 5.0, "pack_size": 6}, (9.82645, 10.55864, 12.18202)),
    ],
    ids=str,
)
def test_optima_under_constraints(lots, optima):
    for (lead_time, penalty), optimum in zip(((1, 9), (2, 9), (2, 19)), optima, strict=True):
        assert solve(problem(penalty=penalty, lead_time=lead_time, **lots)).cost == pytest.approx(optimum, abs=2e-5)


@pytest.mark.parametrize("lots", [{}, {"pack_size": 3}, {"min_order_qty": 8}, {"order_cap": 6}], ids=str)
def test_no_rule_beats_the_optimum_and_the_cap_helps(lots):
    one = problem(penalty=9.0, **lots)
    optimum = solve(one).cost
    cost_of = {name: rule(one).table.cost for name, rule in RULES.items()}
    assert min(cost_of.values()) >= optimum * (1 - 1e-6)
    assert cost_of["capped_base_stock"] <= cost_of["base_stock"]


def test_the_best_level_is_the_cheapest_of_all_levels():
    one = problem("geometric", penalty=9.0)
    levels = range(5, 40)
    costs = [judge(one, base_stock_orders(one, level=level)).cost for level in levels]
    best = best_base_stock(one)
    assert best.parameters == {"level": levels[int(np.argmin(costs))]}
    assert best.table.cost == pytest.approx(min(costs))


@pytest.mark.parametrize("lead_time", [1, 2, 4])
def test_the_judge_agrees_with_the_simulator(lead_time):
    one = problem("geometric", penalty=9.0, lead_time=lead_time)
    order_of = base_stock_orders(one, level=7 * lead_time + 5)
    num_rows, num_periods = 4_000, 300
    zeros_N = np.zeros(num_rows, dtype=np.float32)
    costs = CostRates(holding_S=zeros_N + 1, lost_sale_S=zeros_N + 9, fixed_order_S=zeros_N, unit_cost_S=zeros_N + 1)
    start = InventoryState(
        on_hand_S=zeros_N,
        on_order_SL=np.zeros((num_rows, lead_time), dtype=np.float32),
        backorder_S=zeros_N,
        reserved_S=zeros_N,
    )
    simulator = Simulator(start, costs=costs, max_lead_time=lead_time)
    random, total = np.random.default_rng(0), 0.0
    for period in range(num_periods):
        state = simulator.observe()
        state_NL = np.concatenate([state.on_hand_S[:, None], state.on_order_SL[:, : lead_time - 1]], axis=1)
        order_N = order_of(state_NL.astype(np.int64)).astype(np.float32)
        demand_N = one.law.draw(random, size=(num_rows,))
        cost_N = simulator.step(order_N, demand_N=demand_N, lead_time_N=lead_time).cost_N
        total += float(cost_N.mean()) if period >= 50 else 0.0
    assert judge(one, order_of).cost == pytest.approx(total / 250, rel=0.01)


def test_a_table_holds_every_state_that_can_follow():
    one = problem(penalty=9.0, lead_time=3)
    table = best_capped_base_stock(one).table
    known = {tuple(state) for state in table.state_ML.tolist()}
    assert (0, 0, 0) in known
    for state, order in zip(table.state_ML.tolist(), table.order_M.tolist(), strict=True):
        for left in range(state[0] + 1):
            assert (left + state[1], state[2], order) in known


def test_an_order_that_cannot_be_placed_is_refused():
    one = problem(pack_size=3)
    with pytest.raises(ValueError, match="4 units cannot be ordered"):
        judge(one, lambda state_ML: np.full(len(state_ML), 4))


def test_a_policy_that_piles_up_stock_is_refused():
    one = problem(lead_time=1)
    with pytest.raises(ValueError, match="lets stock grow past"):
        judge(one, lambda state_ML: np.full(len(state_ML), 200))


@pytest.mark.parametrize("wrong", [{"lead_time": 0}, {"lead_time": 7}, {"penalty": 0}, {"pack_size": 0}])
def test_impossible_problems_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        problem(**wrong)


def test_a_cap_below_the_smallest_order_is_refused():
    with pytest.raises(ValueError, match="the smallest is 12, the cap 6"):
        problem(min_order_qty=12, order_cap=6)
