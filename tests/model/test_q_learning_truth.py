"""Q-learning finds what is known to be best: in a tiny problem, in lost-sales inventory, among ten garments."""

import doctest
from dataclasses import replace

import numpy as np
import pytest
from table_cases import BEST_ACTION_X, DISCOUNT, TinyTask, exact_value_XA

from rl import garments
from rl.demand import DemandLaw
from rl.exact import LostSalesProblem, judge, solve
from rl.garments import (
    EXAMPLE,
    GARMENTS,
    judge_garments,
    learn_garment_table,
    make_garment_days,
    make_garment_policy,
    make_garment_task,
)
from rl.lost_sales_table import learn_lost_sales
from rl.policies.q_learning import QSettings, learn_table


@pytest.mark.parametrize("seed", range(3))
def test_values_of_a_tiny_problem_are_the_exact_ones(seed):
    settings = QSettings(discount=DISCOUNT, epsilon=0.3, learning_rate=1.0, visit_power=0.55, seed=seed)
    table, curve = learn_table(TinyTask(rows=100, seed=seed), settings=settings, num_periods=2_000)
    assert table.value_XA == pytest.approx(exact_value_XA(), rel=0.02)
    assert table.greedy_X.tolist() == BEST_ACTION_X
    assert curve[-1].td_error_abs_mean < curve[0].td_error_abs_mean


@pytest.mark.parametrize(("lead_time", "tolerance"), [(1, 0.01), (2, 0.02)])
@pytest.mark.parametrize("seed", range(2))
def test_a_table_learns_lost_sales_inventory_almost_to_the_optimum(lead_time, tolerance, seed):
    problem = LostSalesProblem(law=DemandLaw(name="poisson", mean=5), lead_time=lead_time, penalty=4)
    optimum = solve(problem).cost
    cost = judge(problem, learn_lost_sales(problem, seed=seed)).cost
    assert optimum <= cost * (1 + 1e-6)
    assert cost < optimum * (1 + tolerance)


def test_a_table_orders_what_can_be_ordered():
    problem = LostSalesProblem(
        law=DemandLaw(name="poisson", mean=5), lead_time=1, penalty=4, fixed_cost=5, pack_size=3, min_order_qty=6
    )
    table = judge(problem, learn_lost_sales(problem, copies=500, num_periods=300))
    assert set(table.order_M.tolist()) <= {0, 6, 9}
    assert len(set(table.order_M.tolist())) > 1


@pytest.fixture(scope="module")
def garment_scores():
    """What tables of five seeds do on the same held-out days, by reward."""
    days = make_garment_days(copies=10, num_days=200, seed=99)

    def score(reward, seed):
        value_SXA = learn_garment_table(reward=reward, settings=replace(EXAMPLE, seed=seed), copies=50, num_days=800)
        return judge_garments(make_garment_policy(value_SXA, copies=10), days)

    return {reward: [score(reward, seed) for seed in range(5)] for reward in ("tiered", "cost")}


def test_each_reward_teaches_to_earn_it(garment_scores):
    for tiered in garment_scores["tiered"]:
        for cost in garment_scores["cost"]:
            assert tiered.tiered_reward > cost.tiered_reward + 1
            assert tiered.cost > 3 * cost.cost


def test_the_tiered_reward_empties_the_shelf(garment_scores):
    assert max(score.fill_rate for score in garment_scores["tiered"]) < 0.7
    assert min(score.fill_rate for score in garment_scores["cost"]) > 0.95
    assert max(score.stock for score in garment_scores["tiered"]) < min(score.stock for score in garment_scores["cost"])


def test_the_garments_differ_and_every_one_outsells_the_smallest_order():
    assert len({garment.name for garment in GARMENTS}) == 10
    assert min(garment.mean for garment in GARMENTS) > min(garments.ORDER_QTY)
    assert max(garment.mean for garment in GARMENTS) < max(garments.ORDER_QTY)


def test_the_garments_are_paid_by_both_rewards():
    tiered, cost = (make_garment_task(reward=reward, copies=20, seed=0) for reward in ("tiered", "cost"))
    action_N = np.zeros(200, dtype=np.int64)
    assert set(tiered.step(action_N)) == {-1, 1, 2}
    assert (cost.step(action_N) <= 0).all()


@pytest.mark.parametrize("page", ["garments.md", "policies/q_learning.md"])
def test_the_examples_of_the_pages_run_as_they_are_printed(page):
    failed, tried = doctest.testfile(f"../../docs/{page}")
    assert (failed, tried > 5) == (0, True)
