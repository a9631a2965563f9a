"""An RLlib environment runner that keeps rollouts in arrays.

RLlib's own runner builds an episode object per environment and a connector pass per step, which costs fifty times the
simulation. This one steps an :class:`rl.env.ArrayEnv` and hands out one ``[T, N]`` block per call, which the learner
connectors in :mod:`rl.policies` read. RLlib sees a leaf with a length, so ``PPO.training_step``, learner groups,
checkpoints and Tune stay as they are. These are alpha interfaces: ``tests/integration/test_rl_rllib_contract.py``
holds them.

Shapes: T periods of a block, N rows, F observation columns, A actions.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import gymnasium as gym
import numpy as np
import ray
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_AGENT_ID, DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import (
    NUM_AGENT_STEPS_SAMPLED,
    NUM_AGENT_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_MODULE_STEPS_SAMPLED,
    NUM_MODULE_STEPS_SAMPLED_LIFETIME,
    WEIGHTS_SEQ_NO,
)
from ray.tune.registry import ENV_CREATOR, _global_registry
from torch import Tensor

from cluster.settings.models import PolicySettings
from rl.env import ArrayEnv
from rl.siblings import Siblings

MEAN_REWARD = "mean_reward"
"""Metric of the runner: mean reward per row and period of its last block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What N rows did in T periods. ``observation`` holds one period more than the others, to bootstrap from."""

    observation: Tensor  # (T + 1, N, F)
    action: Tensor  # (T, N) int64
    log_probability: Tensor  # (T, N)
    reward: Tensor  # (T, N)
    siblings: Siblings | None = None
    id_: str = field(default_factory=lambda: uuid4().hex)

    def __len__(self) -> int:
        return self.action.numel()

    def env_steps(self) -> int:
        """Periods x rows."""
        return len(self)

    def agent_steps(self) -> int:
        """Periods x rows."""
        return len(self)

    def __getitem__(self, steps: slice) -> "Block":
        return self.slice(steps)

    def slice(self, steps: "slice", len_lookback_buffer: int | None = None) -> "Block":
        """Columns of the block that hold the given steps, for RLlib to share it among learners.

        Raises
        ------
        ValueError
            If the cut is not between two rows: the number of rows must be a multiple of the number of learners.
        """
        periods = len(self.action)
        start, stop, _ = steps.indices(len(self))
        if start % periods or stop % periods:
            raise ValueError(f"a block of {periods} periods cannot be cut at steps {start} and {stop}")
        rows = slice(start // periods, stop // periods)
        return replace(
            self,
            observation=self.observation[:, rows],
            action=self.action[:, rows],
            log_probability=self.log_probability[:, rows],
            reward=self.reward[:, rows],
            siblings=None if self.siblings is None else self.siblings.rows(rows),
            id_=uuid4().hex,
        )

    def __reduce__(self) -> Any:
        # As NumPy arrays: Ray moves those between processes without a copy.
        own = [self.observation, self.action, self.log_probability, self.reward]
        others = [] if self.siblings is None else [getattr(self.siblings, name) for name in _SIBLING_NAMES]
        return _restore_block, (tuple(part.numpy() for part in (*own, *others)), self.id_)


_SIBLING_NAMES = ("action", "earned", "observation")


def _restore_block(arrays: tuple[np.ndarray[Any, Any], ...], id_: str) -> Block:
    observation, action, log_probability, reward, *others = (torch.from_numpy(np.array(part)) for part in arrays)
    return Block(
        observation=observation,
        action=action,
        log_probability=log_probability,
        reward=reward,
        siblings=Siblings(**dict(zip(_SIBLING_NAMES, others, strict=True))) if others else None,
        id_=id_,
    )


class ArrayEnvRunner(EnvRunner, Checkpointable):
    """Samples blocks from an :class:`rl.env.ArrayEnv` that Tune's registry knows as ``config.env``.

    The module's exploration answers ``Columns.ACTIONS`` and ``Columns.ACTION_LOGP`` itself; T is
    ``rollout_fragment_length``, N ``num_envs_per_env_runner``.
    """

    def __init__(self, *, config: AlgorithmConfig, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self.spaces: dict[str, Any] = kwargs.get("spaces") or {}
        self.env: ArrayEnv | None = None
        self._weights_seq_no = 0
        is_sampling = bool(self.worker_index) or self.worker_index is None or self.config.num_env_runners == 0
        if is_sampling or self.config.create_env_on_local_worker:
            self.make_env()
        self.make_module()

    def make_env(self) -> None:
        """Build the environment of this runner; each runner's seed is its own."""
        creator = _global_registry.get(ENV_CREATOR, self.config.env)
        context = EnvContext(
            dict(self.config.env_config),
            worker_index=self.worker_index or 0,
            num_workers=self.num_workers,
        )
        context["num_rows"] = self.config.num_envs_per_env_runner
        context["block_periods"] = self.config.get_rollout_fragment_length()
        context["seed"] = self._seed
        self.env = creator(context)

    def make_module(self) -> None:
        """Build the module that acts."""
        spec = self.config.get_rl_module_spec(spaces=self.get_spaces(), inference_only=True)
        self.module = spec.build()

    def get_spaces(self) -> dict[str, tuple[gym.Space[Any], gym.Space[Any]]]:
        """Observation and action space, under each of the names that RLlib asks for."""
        if self.env is None:
            return self.spaces
        one = (
            gym.spaces.Box(-np.inf, np.inf, (self.env.num_features + self.env.num_hindsight,), np.float32),
            gym.spaces.Discrete(self.env.num_actions),
        )
        return {INPUT_ENV_SPACES: one, INPUT_ENV_SINGLE_SPACES: one, DEFAULT_MODULE_ID: one}

    def sample(self, *, explore: bool | None = None, **_: Any) -> list[Block]:
        """Act in all rows for one block.

        ``explore`` is the configuration's unless given; RLlib's other arguments do not apply to a task without
        episodes.
        """
        assert self.env is not None, "this runner was built without an environment"
        explores = self.config.explore if explore is None else explore
        self.env.begin_block(self._greedy)
        observations, steps = [], []
        with torch.inference_mode():
            for _period in range(self.config.get_rollout_fragment_length()):
                observations.append(self.env.observe())
                action, log_probability = self._act(observations[-1], explores=explores)
                steps.append((action, log_probability, self.env.step(action)))
            observations.append(self.env.observe())
            action_TN, log_probability_TN, reward_TN = (torch.stack(part) for part in zip(*steps, strict=True))
            block = Block(
                observation=torch.stack(observations),
                action=action_TN,
                log_probability=log_probability_TN,
                reward=reward_TN,
                siblings=self.env.siblings(),
            )
        self._log(block)
        return [block]

    def _act(self, observation: Tensor, *, explores: bool) -> tuple[Tensor, Tensor]:
        batch = {Columns.OBS: observation, "timestep": self.num_env_steps_sampled_lifetime}
        # Not forward_exploration(): it walks the module tree twice per call to switch its mode, which we do not use.
        answer = self.module._forward_exploration(batch) if explores else self.module._forward_inference(batch)
        return answer[Columns.ACTIONS], answer[Columns.ACTION_LOGP]

    def _greedy(self, observation: Tensor) -> Tensor:
        action: Tensor = self.module._forward_inference({Columns.OBS: observation})[Columns.ACTIONS]
        return action

    def _log(self, block: Block) -> None:
        steps = block.env_steps()
        self.num_env_steps_sampled_lifetime += steps * max(1, self.config.num_env_runners)
        for key in (
            NUM_ENV_STEPS_SAMPLED,
            (NUM_AGENT_STEPS_SAMPLED, DEFAULT_AGENT_ID),
            (NUM_MODULE_STEPS_SAMPLED, DEFAULT_MODULE_ID),
        ):
            self.metrics.log_value(key, steps, reduce="sum")
        self.metrics.log_value(NUM_ENV_STEPS_SAMPLED_LIFETIME, steps, reduce="lifetime_sum", with_throughput=True)
        for key in (
            (NUM_AGENT_STEPS_SAMPLED_LIFETIME, DEFAULT_AGENT_ID),
            (NUM_MODULE_STEPS_SAMPLED_LIFETIME, DEFAULT_MODULE_ID),
        ):
            self.metrics.log_value(key, steps, reduce="lifetime_sum")
        self.metrics.log_value(MEAN_REWARD, float(block.reward.mean()), window=1)
        self.metrics.log_value(WEIGHTS_SEQ_NO, self._weights_seq_no, window=1)

    def get_metrics(self) -> Any:
        """Metrics since the last call."""
        return self.metrics.reduce()

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Weights, their sequence number, and how many steps were sampled."""
        state: dict[str, Any] = {NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps_sampled_lifetime}
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            state[COMPONENT_RL_MODULE] = self.module.get_state(
                components=self._get_subcomponents(COMPONENT_RL_MODULE, components),
                not_components=self._get_subcomponents(COMPONENT_RL_MODULE, not_components),
                **kwargs,
            )
            state[WEIGHTS_SEQ_NO] = self._weights_seq_no
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take weights that are newer than ours, or of no age; and the step count."""
        if COMPONENT_RL_MODULE in state:
            number = state.get(WEIGHTS_SEQ_NO, 0)
            if number == 0 or self._weights_seq_no < number:
                weights = state[COMPONENT_RL_MODULE]
                weights = ray.get(weights) if isinstance(weights, ray.ObjectRef) else weights
                self.module.set_state(weights.get(DEFAULT_MODULE_ID, weights))
            self._weights_seq_no = number or self._weights_seq_no
        if NUM_ENV_STEPS_SAMPLED_LIFETIME in state:
            self.num_env_steps_sampled_lifetime = state[NUM_ENV_STEPS_SAMPLED_LIFETIME]

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[()], dict[str, Any]]:
        """How RLlib builds another runner like this one."""
        return (), {"config": self.config}

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        """The module is the only part with a state of its own."""
        return [(COMPONENT_RL_MODULE, self.module)]

    def assert_healthy(self) -> None:
        """Fail unless environment and module were built."""
        assert self.env is not None
        assert self.module is not None


def set_task(
    config: AlgorithmConfig, *, settings: PolicySettings, env_name: str, env_config: dict[str, Any], seed: int
) -> None:
    """Set what every algorithm on blocks shares: environment, array runner, one learner without episode connectors."""
    config.environment(env_name, env_config=env_config).framework("torch")
    config.env_runners(
        env_runner_cls=ArrayEnvRunner,
        num_env_runners=settings.num_env_runners,
        num_envs_per_env_runner=settings.num_rows,
        rollout_fragment_length=settings.rollout_periods,
    )
    config.learners(
        num_learners=0,
        num_gpus_per_learner=settings.gpus_per_trial,
        add_default_connectors_to_learner_pipeline=False,
    )
    block_steps = settings.num_rows * settings.rollout_periods * max(1, settings.num_env_runners)
    config.training(train_batch_size_per_learner=block_steps)
    config.fault_tolerance(restart_failed_env_runners=True, env_runner_health_probe_timeout_s=10)
    # Without these RLlib repeats a call until a second has passed.
    config.reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=0)
    config.debugging(seed=seed, log_level="ERROR")
