"""RLlib as it comes: its own runner, connectors and learners, on our task, networks and batch.

The environments do as little as they can: demand drawn ahead, the state written into an observation as wide as ours,
no forecast features, no twin, no hindsight. What is slow here is not the environment.

Shapes: N rows (environments), F observation columns, L periods until arrival.
"""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.dqn.dqn_learner import QF_NEXT_PREDS, QF_PREDS, QF_TARGET_NEXT_PREDS
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.tune.registry import register_env

from rl.inventory import CostRates, FloatArray, InventoryState
from rl.jobs import TrialJob
from rl.network import OBSERVATION_NAMES
from rl.policies.modules import ActorCritic, QNetwork
from rl.simulator import Simulator

LEAD_TIME, MEAN, PENALTY, HOLDING = 4, 5.0, 4.0, 1.0
# As long as one of our rows goes on in the mean: a quarter of them restart after each block of 32 periods.
_EPISODE_PERIODS = 128
_SCALE = 0.1


class PlainEnv(gym.Env[FloatArray, int]):
    """One series in plain Python: the arithmetic of :class:`rl.simulator.Simulator` under lost sales."""

    def __init__(self, *, num_columns: int, num_actions: int, seed: int = 0) -> None:
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (num_columns,), np.float32)
        self.action_space = gym.spaces.Discrete(num_actions)
        self._random = np.random.default_rng(seed)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[FloatArray, dict[str, Any]]:
        """Start with two periods' demand on hand."""
        super().reset(seed=seed)
        self._on_hand, self._on_order = 2 * MEAN, [MEAN] * (LEAD_TIME - 1)
        self._demand = self._random.poisson(MEAN, _EPISODE_PERIODS).tolist()
        return self._observe(), {}

    def step(self, action: int) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """Order, sell, account, receive."""
        demand = self._demand.pop()
        left = max(self._on_hand - demand, 0.0)
        unmet = max(demand - self._on_hand, 0.0)
        self._on_order.append(float(action))
        self._on_hand = left + self._on_order.pop(0)
        reward = -_SCALE * (HOLDING * left + PENALTY * unmet)
        return self._observe(), reward, False, not self._demand, {}

    def _observe(self) -> FloatArray:
        observation_F = np.zeros(self.observation_space.shape or (), dtype=np.float32)
        observation_F[:LEAD_TIME] = self._on_hand, *self._on_order
        observation_F[:LEAD_TIME] *= _SCALE
        return observation_F


class BatchedEnv(VectorEnv[FloatArray, Any, Any]):
    """N series stepped at once by :class:`rl.simulator.Simulator`; all truncate together."""

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, num_envs: int, *, num_columns: int, num_actions: int, seed: int = 0) -> None:
        self.num_envs = num_envs
        self.single_observation_space = gym.spaces.Box(-np.inf, np.inf, (num_columns,), np.float32)
        self.single_action_space = gym.spaces.Discrete(num_actions)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)
        self._random = np.random.default_rng(seed)
        self._shape = (num_envs, num_columns)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[FloatArray, dict[str, Any]]:
        """Start every row with two periods' demand on hand."""
        ones_N = np.ones(self.num_envs, dtype=np.float32)
        costs = CostRates(
            holding_S=HOLDING * ones_N, lost_sale_S=PENALTY * ones_N, fixed_order_S=0 * ones_N, unit_cost_S=ones_N
        )
        on_order_NL = np.full((self.num_envs, LEAD_TIME - 1), MEAN, dtype=np.float32)
        start = InventoryState(
            on_hand_S=2 * MEAN * ones_N, on_order_SL=on_order_NL, backorder_S=0 * ones_N, reserved_S=0 * ones_N
        )
        self._simulator = Simulator(start, costs=costs, max_lead_time=LEAD_TIME)
        self._demand_TN = self._random.poisson(MEAN, (_EPISODE_PERIODS, self.num_envs)).astype(np.float32)
        self._period = 0
        return self._observe_NF(), {}

    def step(self, actions: Any) -> tuple[FloatArray, FloatArray, Any, Any, dict[str, Any]]:
        """Order, sell and account in every row; the step after the last one restarts."""
        never_N = np.zeros(self.num_envs, dtype=bool)
        if self._period == _EPISODE_PERIODS:
            observation_NF, infos = self.reset()
            return observation_NF, np.zeros(self.num_envs, dtype=np.float32), never_N, never_N, infos
        order_N = np.asarray(actions, dtype=np.float32)
        outcome = self._simulator.step(order_N, demand_N=self._demand_TN[self._period], lead_time_N=LEAD_TIME)
        self._period += 1
        is_over_N = np.full(self.num_envs, self._period == _EPISODE_PERIODS)
        return self._observe_NF(), -_SCALE * outcome.cost_N, never_N, is_over_N, {}

    def _observe_NF(self) -> FloatArray:
        state = self._simulator.observe()
        observation_NF = np.zeros(self._shape, dtype=np.float32)
        observation_NF[:, 0] = state.on_hand_S
        observation_NF[:, 1 : LEAD_TIME + 1] = state.on_order_SL
        return observation_NF * np.float32(_SCALE)


class StockActorCritic(ActorCritic):
    """Our networks as RLlib's connectors and learner expect them: they draw the action."""

    def setup(self) -> None:
        """Build the networks and name the law of actions."""
        super().setup()
        self.action_dist_cls = TorchCategorical

    def _forward_inference(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        return self._forward(batch)

    def _forward_exploration(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        return self._forward(batch)


class StockQNetwork(QNetwork):
    """Our networks with the three outputs that RLlib's double-Q loss reads."""

    def setup(self) -> None:
        """Build the networks and name the law of actions."""
        super().setup()
        self.action_dist_cls = TorchCategorical

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        answer = super()._forward_exploration({**batch, "timestep": kwargs.get("t", 0)})
        return {Columns.ACTIONS: answer[Columns.ACTIONS]}

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        after = {Columns.OBS: batch[Columns.NEXT_OBS]}
        with torch.no_grad():
            next_NA = self.compute_q_values(after)[QF_PREDS]
            target_NA = self.forward_target(after)[QF_PREDS]
        return self.compute_q_values(batch) | {QF_NEXT_PREDS: next_NA, QF_TARGET_NEXT_PREDS: target_NA}


def build_stock(job: TrialJob, *, num_columns: int, num_envs: int, is_vector: bool, n_step: int) -> Algorithm:
    """RLlib's PPO or DQN with the job's batch, minibatches and networks, on one of the environments above."""
    size = {"num_columns": num_columns, "num_actions": job.train.grid.num_actions}

    def make(context: Any) -> Any:
        return BatchedEnv(num_envs, **size) if is_vector else PlainEnv(**size)

    name = f"stock-{num_envs}"
    register_env(name, make)
    config = _ppo(job) if job.algorithm == "ppo" else _dqn(job, n_step=n_step)
    batch = job.settings.num_rows * job.settings.rollout_periods
    config.environment(name).framework("torch").env_runners(
        num_env_runners=0,
        num_envs_per_env_runner=num_envs,
        rollout_fragment_length=batch // num_envs,
        gym_env_vectorize_mode="vector_entry_point" if is_vector else "sync",
    )
    config.learners(num_learners=0)
    config.reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=0)
    config.debugging(seed=job.seed, log_level="ERROR")
    return config.build_algo()


def _ppo(job: TrialJob) -> AlgorithmConfig:
    settings = job.settings
    config = PPOConfig().training(
        train_batch_size_per_learner=settings.num_rows * settings.rollout_periods,
        minibatch_size=settings.minibatch_size,
        num_epochs=settings.num_epochs,
        lr=settings.learning_rate_ppo,
        gamma=settings.gamma,
        lambda_=settings.gae_lambda,
        use_kl_loss=False,
        grad_clip=1.0,
        grad_clip_by="global_norm",
    )
    model = {"hidden": settings.hidden, "num_features": len(OBSERVATION_NAMES)}
    return config.rl_module(rl_module_spec=RLModuleSpec(module_class=StockActorCritic, model_config=model))


def _dqn(job: TrialJob, *, n_step: int) -> AlgorithmConfig:
    settings = job.settings
    config = DQNConfig().training(
        train_batch_size_per_learner=settings.minibatch_size,
        training_intensity=settings.replay_ratio,
        replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": settings.replay_capacity},
        num_steps_sampled_before_learning_starts=0,
        lr=settings.learning_rate_dqn,
        gamma=settings.gamma,
        n_step=n_step,
        grad_clip=10.0,
        grad_clip_by="global_norm",
    )
    model = {
        "hidden": settings.hidden,
        "num_features": len(OBSERVATION_NAMES),
        "exploration": (settings.temperature, settings.temperature / 10, settings.epsilon, settings.budget_steps_dqn),
    }
    return config.rl_module(rl_module_spec=RLModuleSpec(module_class=StockQNetwork, model_config=model))
