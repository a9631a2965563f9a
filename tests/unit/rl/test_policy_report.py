"""The paired interval, and policies side by side."""

import json

import numpy as np
import pytest
from inventory_cases import random_scenario

from rl.evaluate import perfect_foresight_cost_S, replay
from rl.policies.classical import BaseStock, CappedBaseStock, Newsvendor
from rl.policy_report import make_policy_report, paired_interval


def test_paired_interval_of_a_known_difference():
    rng = np.random.default_rng(0)
    cost_S = rng.gamma(2, 50, 400)
    same = paired_interval(cost_S, cost_S, seed=1)
    assert (same.estimate, same.low, same.high, same.is_cheaper) == (0, 0, 0, False)
    cheaper = paired_interval(0.9 * cost_S + rng.normal(0, 1, 400), cost_S, seed=1)
    assert cheaper.low < cheaper.estimate < cheaper.high < 0
    assert cheaper.estimate == pytest.approx(-0.1, abs=0.005)
    assert cheaper.is_cheaper


def test_paired_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        base_S = rng.gamma(4, 10, 60)
        other_S = base_S * rng.normal(1.05, 0.2, 60)
        interval = paired_interval(other_S, base_S, seed=trial, samples=400, confidence=0.9)
        hits += interval.low <= 0.05 <= interval.high
    assert 0.84 <= hits / 300 <= 0.95


def test_paired_interval_does_not_depend_on_how_it_is_chunked(monkeypatch):
    rng = np.random.default_rng(0)
    a_S, b_S = rng.gamma(2, 50, (2, 30))
    whole = paired_interval(a_S, b_S, seed=3, samples=200)
    monkeypatch.setattr("rl.policy_report._BOOTSTRAP_CHUNK", 30 * 7)
    assert paired_interval(a_S, b_S, seed=3, samples=200) == whole


def test_paired_interval_of_costs_of_nothing():
    nothing = np.zeros(5)
    assert paired_interval(nothing, nothing, seed=0).estimate == 0
    with pytest.raises(ValueError, match="one entry per series"):
        paired_interval(nothing, np.zeros(4), seed=0)


def test_policy_report():
    scenario = random_scenario(5)
    policies = [
        Newsvendor(),
        BaseStock(cycle_service_level=0.5),
        CappedBaseStock(cycle_service_level=0.95, cap_periods=1.5),
    ]
    results = {policy.name: replay(policy, scenario) for policy in policies}
    bound_S = perfect_foresight_cost_S(scenario)
    report = make_policy_report(
        results, category_id="dairy", baseline="base_stock", bound_cost_S=bound_S, seed=0, samples=100
    )
    costs = [score.cost for score in report.scores]
    assert costs == sorted(costs)
    assert report.bound_cost <= costs[0]
    assert report.score("base_stock").against_baseline is None
    relative = report.score("newsvendor").cost / report.score("base_stock").cost - 1
    assert report.score("newsvendor").against_baseline.estimate == pytest.approx(relative)
    for score in report.scores:
        assert score.cost == pytest.approx(score.holding_cost + score.lost_sale_cost + score.fixed_cost)
    assert json.loads(json.dumps(report.to_dict()))["scores"][0]["name"] == report.scores[0].name
