"""Rows, facts and targets of the rolling replay.

Shapes: S series.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.frame import make_target
from benchmarks.rolling_study import Arrays, RollingStudy
from rl.mix import choose_mix
from rl.policies.classical import RULES
from rl.policy_report import paired_interval
from rl.scenarios import OPENING_STOCK

MIX = "promoted_mix"
BOUND = "perfect_foresight"
_FIGURES = ("cost", "demand", "unmet", "in_stock")
ONE_WINDOW = (
    "A single window separates nothing under a few percent: read the rows of all windows together, with their interval."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Figures of every contender and of the mix, by window, and what the mix chose in each category."""

    windows: tuple[Arrays, ...]
    choices: tuple[Mapping[str, str], ...]

    @property
    def contenders(self) -> list[str]:
        """Every policy that was replayed, the mix last."""
        return [key.removesuffix("/demand") for key in self.windows[0] if key.endswith("/demand")]

    @property
    def best_rule(self) -> str:
        """The textbook rule that cost least over all windows, chosen with hindsight."""
        return min((name for name in self.contenders if name in RULES), key=lambda name: self.total_S(name).sum())

    def total_S(self, name: str) -> np.ndarray:
        """Cost of each series over all windows."""
        return np.sum([window[f"{name}/cost"] for window in self.windows], axis=0)


def make_outcome(study: RollingStudy, windows: Sequence[Arrays]) -> Outcome:
    """Let the mix choose before each window, from what every contender cost before it."""
    category_S = study.given.panel.index.category_ids_S
    judged, choices = [], []
    for number, window in enumerate(windows):
        names = [key.removesuffix("/demand") for key in window if key.endswith("/demand")]
        evidence = {name: _evidence_S(study, windows[: number + 1], name=name) for name in names}
        choice = choose_mix(evidence, category_ids_S=category_S)
        served_S = np.array([names.index(choice[category]) for category in category_S.tolist()])
        mixed = {
            f"{MIX}/{figure}": np.choose(served_S, [window[f"{name}/{figure}"] for name in names])
            for figure in _FIGURES
        }
        judged.append({**window, **mixed})
        choices.append(choice)
    return Outcome(windows=tuple(judged), choices=tuple(choices))


def _evidence_S(study: RollingStudy, windows: Sequence[Arrays], *, name: str) -> np.ndarray:
    """What a contender cost before the last of the windows.

    First steps of earlier ones, each with what was chosen before it, and the stretch that chose checkpoints where these
    are new.
    """
    starts = study.plan.windows
    cost_S = np.sum([window[f"{name}/step_cost"] for window in windows[:-1]], axis=0) if len(windows) > 1 else 0.0
    start = starts[len(windows) - 1]
    if study.trained_at(start) == start:
        cost_S = cost_S + windows[-1][f"{name}/proof_cost"]
    return np.asarray(cost_S)


def make_rows(study: RollingStudy, outcome: Outcome) -> list[dict[str, Any]]:
    """One row per window and policy, and one per policy over all windows."""
    rows = []
    for start, window in zip(study.plan.windows, outcome.windows, strict=True):
        for name in (*outcome.contenders, BOUND):
            first_on = study.given.panel.calendar.date_on(start).isoformat()
            rows.append({"window": first_on, "policy": name, **_scores(window, name, base=outcome.best_rule)})
    rows += [_total_row(study, outcome, name) for name in (*outcome.contenders, BOUND)]
    return rows


def _scores(window: Arrays, name: str, *, base: str) -> dict[str, float | None]:
    cost, reference = float(window[f"{name}/cost"].sum()), float(window[f"{base}/cost"].sum())
    scores: dict[str, float | None] = {"cost": cost, "relative": cost / max(reference, 1e-9) - 1}
    if f"{name}/demand" in window:
        scores["fill_rate"] = float(1 - window[f"{name}/unmet"].sum() / max(window[f"{name}/demand"].sum(), 1e-9))
        scores["in_stock_rate"] = float(window[f"{name}/in_stock"].mean())
    return scores


def _total_row(study: RollingStudy, outcome: Outcome, name: str) -> dict[str, Any]:
    settings = study.given.settings
    interval = paired_interval(
        outcome.total_S(name),
        outcome.total_S(outcome.best_rule),
        seed=settings.seed,
        samples=settings.policy.bootstrap_samples,
        confidence=settings.policy.confidence,
    )
    row = {
        "window": "all",
        "policy": name,
        "cost": float(outcome.total_S(name).sum()) / len(outcome.windows),
        "relative": interval.estimate,
        "low": interval.low,
        "high": interval.high,
    }
    if name != BOUND:
        row |= {
            "fill_rate": float(
                1
                - sum(window[f"{name}/unmet"].sum() for window in outcome.windows)
                / max(sum(window[f"{name}/demand"].sum() for window in outcome.windows), 1e-9)
            ),
            "in_stock_rate": float(np.mean([window[f"{name}/in_stock"] for window in outcome.windows])),
        }
    return row


def make_targets(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The promoted mix is clearly cheaper than the best single rule."""
    mix = next(row for row in rows if row["window"] == "all" and row["policy"] == MIX)
    return [
        make_target(
            "upper end of the mix's interval against the best rule", value=mix["high"], target=0.0, at_least=False
        )
    ]


def make_facts(study: RollingStudy, outcome: Outcome, *, retrain_every: int) -> dict[str, Any]:
    """What was replayed, on which assumptions, and how to read it."""
    given, plan = study.given, study.plan
    calendar = given.panel.calendar
    overlap = (
        "disjoint"
        if plan.step == plan.horizon
        else f"each starts {plan.step} periods after the one before, so that neighbours overlap"
    )
    return {
        "dataset": given.name,
        "data_digest": given.digest,
        "series": given.panel.num_series,
        "periods": given.panel.num_periods,
        "period_days": calendar.period_days,
        "windows": {
            "starts_on": [calendar.date_on(start).isoformat() for start in plan.windows],
            "horizon": plan.horizon,
            "step": plan.step,
        },
        "forecasters_fitted_on": [calendar.date_on(fit).isoformat() for fit in plan.fits],
        "retrain_every": retrain_every,
        "best_rule": outcome.best_rule,
        "mix": [_counts(choice) for choice in outcome.choices],
        "assumed": [*given.assumed, OPENING_STOCK],
        "notes": [
            f"{len(plan.windows)} windows of {plan.horizon} periods, {overlap}.",
            ONE_WINDOW,
            f"relative: cost over that of {outcome.best_rule}, the single textbook rule that cost least over all "
            "windows (chosen with hindsight), minus 1; intervals: paired bootstrap over series, all windows of a "
            "series together.",
        ],
    }


def _counts(choice: Mapping[str, str]) -> dict[str, int]:
    names, count = np.unique(list(choice.values()), return_counts=True)
    return {str(name): int(number) for name, number in zip(names, count, strict=True)}
