"""Stops trials that are far behind the textbook rule when much of their budget is gone.

Trials are held against the rule of their own category, never against each other: categories differ in what can be
gained, algorithms in how early they gain it, and a comparison between trials would depend on which happened to run
first. Against the rule a trial ends at the same evaluation whatever runs beside it, and what is given up is small: only
a policy that beats the rule can be promoted.
"""

from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler


class BehindTheRule(FIFOScheduler):
    """Runs trials in order; stops one whose best cost is still above the rule's by a margin, late in its budget.

    Parameters
    ----------
    stop_share
        Share of the budget before which no trial is stopped.
    stop_margin
        How far the best cost may be above the rule's, over the rule's.
    """

    def __init__(self, *, stop_share: float, stop_margin: float) -> None:
        super().__init__()
        self._stop_share = stop_share
        self._stop_margin = stop_margin
        self.stopped: set[str] = set()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide after an evaluation. One at the end of the budget ends by itself."""
        is_late = self._stop_share <= result["share"] < 1.0
        if not is_late or result["best_score"] <= 1.0 + self._stop_margin:
            return str(TrialScheduler.CONTINUE)
        self.stopped.add(trial.config["key"])
        return str(TrialScheduler.STOP)
