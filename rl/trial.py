"""One training trial: an algorithm on one category, its best checkpoint chosen on the validation replay.

Imports RLlib; only training loads this module.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, LEARNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.tune.registry import register_env
from torch import Tensor, nn

from cluster.config import PolicySettings
from rl.env import EnvData, ReplayEnv, replay_cost_S
from rl.imitation import Lesson, learn_lesson
from rl.network import OBSERVATION_NAMES, make_mlp
from rl.policies.dqn import make_dqn_config
from rl.policies.ppo import make_ppo_config
from rl.runner import MEAN_REWARD

_Q_SHARPNESS = 50.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialJob:
    """What one trial needs."""

    category: str
    algorithm: str
    settings: PolicySettings
    seed: int
    train: EnvData
    validation: EnvData
    lesson: Lesson

    @property
    def budget_steps(self) -> int:
        """Series-periods that the trial may simulate."""
        return self.settings.budget_steps_dqn if self.algorithm == "dqn" else self.settings.budget_steps_ppo


class SharedData:
    """Holds what the environment needs; copies of a configuration share it, and it travels as a reference."""

    def __init__(self, data: EnvData) -> None:
        self.data = data

    def __deepcopy__(self, memo: dict[int, Any]) -> "SharedData":
        return self

    def __reduce__(self) -> Any:
        import ray

        return _fetch, (ray.put(self.data),)


def _fetch(reference: Any) -> SharedData:
    import ray

    return SharedData(ray.get(reference))


def build_algorithm(job: TrialJob) -> Algorithm:
    """RLlib algorithm of a job, its network taught the textbook rule."""
    name = "restock-replay"
    register_env(name, _make_env)
    env_config = {"shared": SharedData(job.train), "restart_share": job.settings.restart_share}
    if job.algorithm == "dqn":
        n_step = int(job.train.terms.protection_interval_S.max())
        config: Any = make_dqn_config(
            job.settings, env_name=name, env_config=env_config, seed=job.seed, n_step=min(n_step, job.settings.rollout_periods)
        )
    else:
        config = make_ppo_config(job.settings, env_name=name, env_config=env_config, seed=job.seed)
    return config.build_algo()


def teach(algorithm: Algorithm, job: TrialJob) -> float:
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


def _make_env(context: Any) -> ReplayEnv:
    return ReplayEnv(
        context["shared"].data,
        num_rows=context["num_rows"],
        block_periods=context["block_periods"],
        restart_share=context["restart_share"],
        seed=context["seed"],
    )
