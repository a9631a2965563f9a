"""One training trial: an algorithm on one category, its best checkpoint chosen by replay.

Imports torch, and RLlib where a trial needs it; only training loads this module.

Shapes: S series.
"""

import copy
import pickle
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rl.actors import Actor, DirectActor, GreedyActor
from rl.jobs import LearningPoint, TrialJob
from rl.network import OBSERVATION_NAMES, make_mlp
from rl.packed import EnvData, replay_cost_S

_AVERAGED_SHARE = 0.15
_CHECKPOINT = "checkpoint-"
_PROGRESS_FILE = "progress.pkl"


class Learner(Protocol):
    """An algorithm at work on a job."""

    def teach(self) -> float:
        """Begin as the tuned textbook rule; share of its actions that the network then takes."""
        ...

    def train(self) -> dict[str, float]:
        """Simulate and learn once; ``steps`` simulated so far, ``train_reward``, and the algorithm's own metrics."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """A copy of the weights that :func:`make_actor` loads, on the CPU."""
        ...

    def save(self, folder: Path) -> None:
        """Write everything that :meth:`restore` needs into a folder."""
        ...

    def restore(self, folder: Path) -> None:
        """Go on from where :meth:`save` stood."""
        ...

    def stop(self) -> None:
        """Let go of processes and memory."""
        ...


@dataclass(slots=True, kw_only=True)
class TrialProgress:
    """Where a trial stands; everything but the learner's own state that a restart needs."""

    steps: int = 0
    curve: list[LearningPoint] = field(default_factory=list)
    averaged: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    agreement: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def best_point(self) -> LearningPoint:
        """The point of the best checkpoint so far."""
        return min(self.curve, key=lambda point: point.score)

    def is_stale(self, patience: int) -> bool:
        """Whether the last ``patience`` evaluations brought no new best."""
        return len(self.curve) - 1 - self.curve.index(self.best_point) >= patience


def make_learner(job: TrialJob) -> Learner:
    """The job's algorithm, ready to learn."""
    if job.algorithm == "direct":
        from rl.policies.direct import DirectLearner

        return DirectLearner(job)
    from rl.rllib_learner import RLlibLearner

    return RLlibLearner(job)


def make_actor(job: TrialJob, weights: dict[str, Tensor]) -> nn.Module:
    """What orders, with the given weights."""
    num_features, hidden = len(OBSERVATION_NAMES), job.settings.hidden
    if job.algorithm == "direct":
        direct = DirectActor(num_features, hidden=hidden)
        direct.network.load_state_dict(weights)
        return direct
    scorer = make_mlp(num_features, hidden=hidden, num_outputs=job.train.grid.num_actions, output_gain=1.0)
    scorer.load_state_dict(weights)
    return GreedyActor(scorer)


def run_trial(
    job: TrialJob, *, report: Callable[[dict[str, Any]], None], max_cpu_s: float = float("inf")
) -> TrialProgress:
    """Teach, train and evaluate until the budget is spent or nothing improves; resume from the folder's checkpoint.

    Parameters
    ----------
    report
        Is given the metrics of each evaluation.
    max_cpu_s
        No stretch between two evaluations begins after this many CPU-seconds of this process.
    """
    torch.set_num_threads(1)
    learner = make_learner(job)
    try:
        progress = _resumed(learner, job) or _begun(learner, job, report=report)
        interval = job.budget_steps / job.settings.evaluations
        while not _is_over(progress, job, max_cpu_s=max_cpu_s):
            began_s = time.process_time()
            # One step may simulate more than lies between two evaluations.
            due = max(len(progress.curve) * interval, progress.steps + 1)
            while progress.steps < due:
                result = learner.train()
                _average(progress, learner.weights(), job=job, steps=int(result.pop("steps")))
            metrics = _evaluate(progress, job, reward=result.pop("train_reward"))
            progress.cpu_seconds += time.process_time() - began_s
            _save(learner, progress, job.folder)
            job.save()
            report(metrics | result)
        return progress
    finally:
        learner.stop()


def _is_over(progress: TrialProgress, job: TrialJob, *, max_cpu_s: float) -> bool:
    is_spent = progress.steps >= job.budget_steps or progress.cpu_seconds >= max_cpu_s
    return is_spent or progress.is_stale(job.settings.patience)


def _begun(learner: Learner, job: TrialJob, *, report: Callable[[dict[str, Any]], None]) -> TrialProgress:
    progress = TrialProgress()
    began_s = time.process_time()
    progress.agreement = learner.teach()
    progress.averaged = learner.weights()
    report(_evaluate(progress, job, reward=0.0))
    progress.cpu_seconds = time.process_time() - began_s
    return progress


def _average(progress: TrialProgress, weights: dict[str, Tensor], *, job: TrialJob, steps: int) -> None:
    """Move the running average of the weights, over a share of the budget, by what was learned in ``steps``."""
    weight = min(1.0, (steps - progress.steps) / (_AVERAGED_SHARE * job.budget_steps))
    for name, value in weights.items():
        progress.averaged[name].lerp_(value, weight)
    progress.steps = steps


def _evaluate(progress: TrialProgress, job: TrialJob, *, reward: float) -> dict[str, Any]:
    """Replay the averaged network on both windows; keep its weights if they are the best so far."""
    actor = make_actor(job, progress.averaged)
    costs = {name: _relative_cost(data, actor) for name, data in (("train", job.train), ("val", job.validation))}
    point = LearningPoint(
        steps=progress.steps, train_reward=reward, train_cost=costs["train"], validation_cost=costs["val"]
    )
    progress.curve.append(point)
    if progress.best_point is point:
        progress.best = copy.deepcopy(progress.averaged)
    return {
        **asdict(point),
        "score": point.score,
        "best_score": progress.best_point.score,
        "share": min(1.0, progress.steps / job.budget_steps),
    }


def _relative_cost(data: EnvData, actor: Actor) -> float:
    return float(replay_cost_S(data, actor).sum() / max(float(data.baseline_cost_S.sum()), 1e-9))


def _save(learner: Learner, progress: TrialProgress, folder: Path) -> None:
    """Write aside, rename, then drop the one before: at every instant one checkpoint is whole and the newest."""
    draft = folder / ".checkpoint.draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    learner.save(draft)
    (draft / _PROGRESS_FILE).write_bytes(pickle.dumps(progress))
    before = _checkpoints(folder)
    draft.rename(folder / f"{_CHECKPOINT}{len(progress.curve):06d}")
    for old in before:
        shutil.rmtree(old, ignore_errors=True)


def _checkpoints(folder: Path) -> list[Path]:
    """Oldest first. A kill may leave an older one, half removed, beside the newest."""
    return sorted(folder.glob(f"{_CHECKPOINT}*"))


def _resumed(learner: Learner, job: TrialJob) -> TrialProgress | None:
    job.fetch()
    checkpoints = _checkpoints(job.folder)
    if not checkpoints:
        return None
    learner.restore(checkpoints[-1])
    return _read_progress(checkpoints[-1])


def _read_progress(checkpoint: Path) -> TrialProgress:
    progress: TrialProgress = pickle.loads((checkpoint / _PROGRESS_FILE).read_bytes())
    return progress


def last_progress(job: TrialJob) -> TrialProgress | None:
    """Progress at the job's newest checkpoint; None where there is none yet."""
    job.fetch()
    checkpoints = _checkpoints(job.folder)
    return _read_progress(checkpoints[-1]) if checkpoints else None
