"""The gate: a learned policy serves a category only where held-out replay shows that it is cheaper.

The textbook rule to beat is the one that was cheapest on the tuning window. Of the learned candidates, the one whose
best checkpoint did best before the test is put to it, and no other: testing every candidate and keeping a lucky one
would make the interval a lie. It must also have cost less there than every other textbook rule: a shop could as well
have used that one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rl.jobs import TrainedPolicy
from rl.policy_report import Interval, PolicyReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What serves a category.

    Parameters
    ----------
    policy_name
        Of the policy that serves.
    is_learned
        Whether that is a learned policy.
    reason
        The decision in one sentence, with its figures.
    """

    category_id: str
    policy_name: str
    is_learned: bool
    reason: str


def decide(report: PolicyReport, candidates: Mapping[str, TrainedPolicy]) -> Decision:
    """Let the best candidate serve if it beats the textbook rule with its interval clear of zero, and all other rules.

    Parameters
    ----------
    report
        Held-out replay of the textbook rules and of every candidate.
    candidates
        Learned policies of the category, by their name in the report.
    """
    rule = report.baseline
    rules = [score for score in report.scores if score.name not in candidates]
    luckiest = min(rules, key=lambda score: score.cost)
    if not candidates:
        return Decision(
            category_id=report.category_id,
            policy_name=rule,
            is_learned=False,
            reason=f"{rule} serves: no policy was learned for this category.",
        )
    name = min(candidates, key=lambda candidate: (candidates[candidate].best.score, candidate))
    interval = report.score(name).against_baseline
    assert interval is not None, "a learned policy cannot be the textbook baseline"
    figures = _describe(interval)
    where = f"on {report.num_periods} held-out periods of {report.num_series} series"
    serves = interval.is_cheaper and report.score(name).cost < luckiest.cost
    if serves:
        reason = f"{name} serves: against {rule} its cost was {figures} {where}."
    elif interval.is_cheaper:
        reason = (
            f"{rule} serves: the cost of {name} against it was {figures} {where}, but {luckiest.name} cost no more."
        )
    else:
        reason = f"{rule} serves: the cost of {name} against it was {figures} {where}, which is not clearly cheaper."
    return Decision(
        category_id=report.category_id,
        policy_name=name if serves else rule,
        is_learned=serves,
        reason=reason,
    )


def _describe(interval: Interval) -> str:
    return f"{interval.estimate:+.1%} ({interval.confidence:.0%} interval {interval.low:+.1%} to {interval.high:+.1%})"
