"""A learned policy against the exact optimum, judged as a table: the pathwise policy on a small instance."""

import pytest

from benchmarks.instances import INSTANCE_SETTINGS, make_job, orders_of, train
from cluster.settings.models import PolicySettings
from rl.demand import DemandLaw
from rl.exact import LostSalesProblem, judge, solve
from rl.exact_rules import best_base_stock, best_capped_base_stock

SHORT = {"budget_steps_direct": 700_000, "evaluations": 2, "hidden": 32, "num_rows": 256}


def test_direct_learns_what_no_base_stock_rule_can_do(tmp_path):
    problem = LostSalesProblem(law=DemandLaw(name="negative_binomial", mean=4, variance=10), lead_time=3, penalty=9.0)
    settings = PolicySettings(**(INSTANCE_SETTINGS | SHORT))
    job = make_job([problem], algorithm="direct", seed=0, settings=settings, folder=tmp_path / "trial")
    policy, progress = train(job, max_cpu_s=float("inf"))
    cost = judge(problem, orders_of(policy, problem)).cost
    assert progress.curve[0].score == pytest.approx(1, abs=0.01), "it starts as the tuned base-stock rule"
    assert cost < best_base_stock(problem).table.cost
    assert cost < best_capped_base_stock(problem).table.cost
    assert cost < 1.01 * solve(problem).cost
