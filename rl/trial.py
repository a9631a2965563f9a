"""One training trial: an algorithm on one category, its best checkpoint chosen by replay.

Imports RLlib; only training loads this module.

Shapes: S series.
"""

import copy
import pickle
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ray
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, LEARNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.tune.registry import register_env
from torch import Tensor, nn

from rl.env import ReplayEnv
from rl.imitation import learn_lesson
from rl.jobs import LearningPoint, TrialJob
from rl.network import OBSERVATION_NAMES, make_mlp
from rl.packed import EnvData, replay_cost_S
from rl.policies.dqn import make_dqn_config
from rl.policies.ppo import make_ppo_config
from rl.runner import MEAN_REWARD

_ENV_NAME = "restock-replay"
_Q_SHARPNESS = 50.0
_AVERAGED_SHARE = 0.15
_CHECKPOINT = "checkpoint"


@dataclass(slots=True, kw_only=True)
class TrialProgress:
    """Where a trial stands; everything but RLlib's own state that a restart needs."""

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


class SharedData:
    """Holds what the environment needs; copies of a configuration share it, and it travels as a reference."""

    def __init__(self, data: EnvData) -> None:
        self.data = data

    def __deepcopy__(self, memo: dict[int, Any]) -> "SharedData":
        return self

    def __reduce__(self) -> Any:
        return _fetch, (ray.put(self.data),)


def _fetch(reference: Any) -> SharedData:
    return SharedData(ray.get(reference) if isinstance(reference, ray.ObjectRef) else reference)


def build_algorithm(job: TrialJob) -> Algorithm:
    """RLlib algorithm of a job."""
    register_env(_ENV_NAME, _make_env)
    env_config = {
        "shared": SharedData(job.train),
        "restart_share": job.settings.restart_share,
        "reward": job.settings.reward,
    }
    if job.algorithm == "ppo":
        return make_ppo_config(job.settings, env_name=_ENV_NAME, env_config=env_config, seed=job.seed).build_algo()
    # An order acts a lead time later: a shorter return would end before its effect.
    n_step = min(int(job.train.terms.protection_interval_S.max()), job.settings.rollout_periods)
    config = make_dqn_config(job.settings, env_name=_ENV_NAME, env_config=env_config, seed=job.seed, n_step=n_step)
    return config.build_algo()


def run_trial(job: TrialJob, *, report: Callable[[dict[str, Any]], None]) -> TrialProgress:
    """Teach, train and evaluate until the budget is spent or nothing improves; resume from the folder's checkpoint.

    ``report`` is given the metrics of each evaluation.
    """
    torch.set_num_threads(1)
    algorithm = build_algorithm(job)
    try:
        progress = _resumed(algorithm, job) or _begun(algorithm, job, report=report)
        weight = _averaging_weight(job)
        interval = job.budget_steps / job.settings.evaluations
        while progress.steps < job.budget_steps and not progress.is_stale(job.settings.patience):
            began_s = time.process_time()
            due = len(progress.curve) * interval
            while progress.steps < due:
                result = algorithm.train()
                progress.steps = int(result[ENV_RUNNER_RESULTS][NUM_ENV_STEPS_SAMPLED_LIFETIME])
                for name, value in _weights(algorithm).items():
                    progress.averaged[name].lerp_(value, weight)
            metrics = _evaluate(progress, job, reward=float(result[ENV_RUNNER_RESULTS][MEAN_REWARD]))
            progress.cpu_seconds += time.process_time() - began_s
            _save(algorithm, progress, job.folder / _CHECKPOINT)
            report(metrics | _learner_metrics(result))
        return progress
    finally:
        algorithm.stop()


def make_scorer(job: TrialJob, weights: dict[str, Tensor]) -> nn.Module:
    """The network that scores actions, with the given weights."""
    scorer = make_mlp(
        len(OBSERVATION_NAMES), hidden=job.settings.hidden, num_outputs=job.train.grid.num_actions, output_gain=1.0
    )
    scorer.load_state_dict(weights)
    return scorer


def _begun(algorithm: Algorithm, job: TrialJob, *, report: Callable[[dict[str, Any]], None]) -> TrialProgress:
    progress = TrialProgress()
    if job.settings.imitation_steps:
        progress.agreement = _teach(algorithm, job)
    progress.averaged = _weights(algorithm)
    report(_evaluate(progress, job, reward=0.0))
    return progress


def _teach(algorithm: Algorithm, job: TrialJob) -> float:
    """Fit the network to the textbook rule and send it to the runners; share of actions that agree with the rule."""
    sharpness = _Q_SHARPNESS if job.algorithm == "dqn" else 1.0

    def fit(learner: Any) -> float:
        module = learner.module[DEFAULT_MODULE_ID].unwrapped()
        share = learn_lesson(
            module.scorer, job.lesson, steps=job.settings.imitation_steps, seed=job.seed, sharpness=sharpness
        )
        if job.algorithm == "dqn":
            for network, target in module.get_target_network_pairs():
                target.load_state_dict(network.state_dict())
        return share

    answers = algorithm.learner_group.foreach_learner(fit)
    algorithm.env_runner_group.sync_weights(from_worker_or_learner_group=algorithm.learner_group, inference_only=True)
    return float(next(iter(answers)).get())


def _weights(algorithm: Algorithm) -> dict[str, Tensor]:
    """A copy of the scorer's weights, on the CPU."""
    state = algorithm.get_module().scorer.state_dict()
    return {name: value.detach().cpu().clone() for name, value in state.items()}


def _averaging_weight(job: TrialJob) -> float:
    """Weight of the newest network in the running average over a share of the trial."""
    settings = job.settings
    per_call = settings.num_rows * settings.rollout_periods * max(1, settings.num_env_runners)
    return min(1.0, per_call / (_AVERAGED_SHARE * job.budget_steps))


def _evaluate(progress: TrialProgress, job: TrialJob, *, reward: float) -> dict[str, Any]:
    """Replay the averaged network on both windows; keep its weights if they are the best so far."""
    scorer = make_scorer(job, progress.averaged)
    costs = {name: _relative_cost(data, scorer) for name, data in (("train", job.train), ("val", job.validation))}
    point = LearningPoint(
        steps=progress.steps, train_reward=reward, train_cost=costs["train"], validation_cost=costs["val"]
    )
    progress.curve.append(point)
    if progress.best_point is point:
        progress.best = copy.deepcopy(progress.averaged)
    return {**asdict(point), "score": point.score, "share": min(1.0, progress.steps / job.budget_steps)}


def _relative_cost(data: EnvData, scorer: nn.Module) -> float:
    def choose(observation: Tensor) -> Tensor:
        with torch.inference_mode():
            return scorer(observation).argmax(1)

    return float(replay_cost_S(data, choose).sum() / max(float(data.baseline_cost_S.sum()), 1e-9))


def _learner_metrics(result: dict[str, Any]) -> dict[str, float]:
    logged = result[LEARNER_RESULTS][DEFAULT_MODULE_ID]
    return {name: float(value) for name, value in logged.items() if isinstance(value, int | float)}


def _save(algorithm: Algorithm, progress: TrialProgress, folder: Path) -> None:
    """Write aside, then rename: a trial killed here leaves the checkpoint before."""
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    algorithm.save_to_path(str(draft / "rllib"))
    (draft / "progress.pkl").write_bytes(pickle.dumps(progress))
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


def _resumed(algorithm: Algorithm, job: TrialJob) -> TrialProgress | None:
    folder = job.folder / _CHECKPOINT
    if not folder.is_dir():
        return None
    algorithm.restore_from_path(str(folder / "rllib"))
    progress: TrialProgress = pickle.loads((folder / "progress.pkl").read_bytes())
    return progress


def _make_env(context: Any) -> ReplayEnv:
    return ReplayEnv(
        context["shared"].data,
        num_rows=context["num_rows"],
        block_periods=context["block_periods"],
        restart_share=context["restart_share"],
        reward=context["reward"],
        seed=context["seed"],
    )
