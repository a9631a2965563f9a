"""The gate: one candidate, one test, and a sentence with the figures."""

from pathlib import Path

import pytest

from rl.jobs import LearningPoint, TrainedPolicy
from rl.policy_report import Interval, PolicyReport, PolicyScore
from rl.promote import decide

CHEAPER = Interval(estimate=-0.05, low=-0.08, high=-0.01, confidence=0.95)
UNCLEAR = Interval(estimate=-0.06, low=-0.14, high=0.002, confidence=0.95)
DEARER = Interval(estimate=0.04, low=0.01, high=0.07, confidence=0.95)


def score(name, interval):
    figures = dict.fromkeys(
        ("holding_cost", "lost_sale_cost", "fixed_cost", "fill_rate", "in_stock_rate", "stock_value"), 1.0
    )
    cost = 1.0 + (interval.estimate if interval else 0.0)
    return PolicyScore(name=name, cost=cost, num_orders=1, ordered_qty=1.0, against_baseline=interval, **figures)


def report(**intervals):
    scores = (score("reorder_point", None), *(score(name, interval) for name, interval in intervals.items()))
    return PolicyReport(
        category_id="TEA", num_series=20, num_periods=56, baseline="reorder_point", bound_cost=0.5, scores=scores
    )


def candidate(name, *, train, validation):
    point = LearningPoint(steps=10, train_reward=0.0, train_cost=train, validation_cost=validation)
    return TrainedPolicy(
        category="TEA",
        algorithm=name,
        policy=None,
        folder=Path(),
        teacher="reorder_point",
        agreement=1.0,
        best=point,
        curve=(point,),
        cpu_seconds=1.0,
    )


def test_a_candidate_that_is_clearly_cheaper_serves():
    decision = decide(report(ppo=CHEAPER), {"ppo": candidate("ppo", train=0.9, validation=0.95)})
    assert (decision.category_id, decision.policy_name, decision.is_learned) == ("TEA", "ppo", True)
    assert decision.reason == (
        "ppo serves: against reorder_point its cost was -5.0% (95% interval -8.0% to -1.0%) "
        "on 56 held-out periods of 20 series."
    )


@pytest.mark.parametrize("interval", [UNCLEAR, DEARER])
def test_anything_else_leaves_the_textbook_rule_and_says_so(interval):
    decision = decide(report(dqn=interval), {"dqn": candidate("dqn", train=0.9, validation=0.9)})
    assert (decision.policy_name, decision.is_learned) == ("reorder_point", False)
    assert decision.reason.startswith("reorder_point serves: the cost of dqn against it was ")
    assert decision.reason.endswith("which is not clearly cheaper.")
    assert f"{interval.estimate:+.1%}" in decision.reason


def test_a_candidate_that_another_textbook_rule_equals_does_not_serve():
    decision = decide(report(ppo=CHEAPER, base_stock=UNCLEAR), {"ppo": candidate("ppo", train=0.9, validation=0.95)})
    assert (decision.policy_name, decision.is_learned) == ("reorder_point", False)
    assert decision.reason.endswith("but base_stock cost no more.")


def test_only_the_candidate_that_did_better_before_the_test_is_tried_on_it():
    candidates = {
        "dqn": candidate("dqn", train=0.95, validation=0.90),
        "ppo": candidate("ppo", train=0.90, validation=0.92),
    }
    decision = decide(report(dqn=CHEAPER, ppo=UNCLEAR), candidates)
    assert decision.policy_name == "reorder_point", "dqn was lucky on the test: it was not the one to be tried"
    assert "ppo" in decision.reason
    assert decide(report(dqn=UNCLEAR, ppo=CHEAPER), candidates).policy_name == "ppo"


def test_a_category_without_candidates_keeps_its_rule():
    decision = decide(report(), {})
    assert (decision.policy_name, decision.is_learned) == ("reorder_point", False)
    assert decision.reason == "reorder_point serves: no policy was learned for this category."
