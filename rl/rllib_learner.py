"""DQN and PPO at work on a trial: RLlib's algorithm behind the trial's few questions."""

from pathlib import Path
from typing import Any

import ray
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, LEARNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.tune.registry import register_env
from torch import Tensor

from rl.env import ReplayEnv
from rl.imitation import learn_lesson
from rl.jobs import TrialJob
from rl.packed import EnvData
from rl.policies.dqn import make_dqn_config
from rl.policies.ppo import make_ppo_config
from rl.runner import MEAN_REWARD

_ENV_NAME = "restock-replay"
# Scores are multiplied by this while they imitate: action values stay small, and a policy must still explore.
_SHARPNESS = {"dqn": 50.0, "ppo": 4.0}
_STATE = "rllib"


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
        "twins": job.algorithm == "ppo",
        "sibling_periods": n_step_of(job) if job.algorithm == "dqn" else 0,
        "gamma": job.settings.gamma,
    }
    if job.algorithm == "ppo":
        return make_ppo_config(job.settings, env_name=_ENV_NAME, env_config=env_config, seed=job.seed).build_algo()
    config = make_dqn_config(
        job.settings, env_name=_ENV_NAME, env_config=env_config, seed=job.seed, n_step=n_step_of(job)
    )
    return config.build_algo()


def n_step_of(job: TrialJob) -> int:
    """Periods of DQN's returns: twice the longest protection interval if half a block holds it.

    An order acts a lead time later: a shorter return would end before its effect.
    """
    interval, block = int(job.train.terms.protection_interval_S.max()), job.settings.rollout_periods
    return min(max(interval, min(2 * interval, block // 2)), block)


class RLlibLearner:
    """RLlib's DQN or PPO on one job; a :class:`rl.trial.Learner`."""

    def __init__(self, job: TrialJob) -> None:
        self._job = job
        self._algorithm = build_algorithm(job)

    def teach(self) -> float:
        """Fit the network to the textbook rule and send it to the runners; share of its actions that it then takes."""
        job = self._job
        observation_MF = torch.tensor(job.lesson.observation_MF)

        def fit(learner: Any) -> float:
            module = learner.module[DEFAULT_MODULE_ID].unwrapped()
            for network in (module.scorer, module.critic):
                network[0].fit(observation_MF.to(learner.device))
            share = learn_lesson(
                module.scorer,
                job.lesson,
                steps=job.settings.imitation_steps,
                seed=job.seed,
                sharpness=_SHARPNESS[job.algorithm],
            )
            if job.algorithm == "dqn":
                for network, target in module.get_target_network_pairs():
                    target.load_state_dict(network.state_dict())
            return share

        algorithm = self._algorithm
        answers = algorithm.learner_group.foreach_learner(fit)
        algorithm.env_runner_group.sync_weights(
            from_worker_or_learner_group=algorithm.learner_group, inference_only=True
        )
        return float(next(iter(answers)).get())

    def train(self) -> dict[str, float]:
        """One training step of the algorithm."""
        result = self._algorithm.train()
        sampled, learned = result[ENV_RUNNER_RESULTS], result[LEARNER_RESULTS][DEFAULT_MODULE_ID]
        return {
            **{name: float(value) for name, value in learned.items() if isinstance(value, int | float)},
            "steps": float(sampled[NUM_ENV_STEPS_SAMPLED_LIFETIME]),
            "train_reward": float(sampled[MEAN_REWARD]),
        }

    def weights(self) -> dict[str, Tensor]:
        """A copy of the scorer's weights, on the CPU."""
        state = self._algorithm.get_module().scorer.state_dict()
        return {name: value.detach().cpu().clone() for name, value in state.items()}

    def save(self, folder: Path) -> None:
        """RLlib's checkpoint."""
        self._algorithm.save_to_path(str(folder / _STATE))

    def restore(self, folder: Path) -> None:
        """From RLlib's checkpoint."""
        self._algorithm.restore_from_path(str(folder / _STATE))

    def stop(self) -> None:
        """Stop the runners and learners."""
        self._algorithm.stop()


def _make_env(context: Any) -> ReplayEnv:
    return ReplayEnv(
        context["shared"].data,
        num_rows=context["num_rows"],
        block_periods=context["block_periods"],
        restart_share=context["restart_share"],
        reward=context["reward"],
        twins=context["twins"],
        sibling_periods=context["sibling_periods"],
        gamma=context["gamma"],
        seed=context["seed"],
    )
