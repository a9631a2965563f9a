"""DQN on RLlib: a replay ring on the learner's device, n-step double Q-learning, several updates per call.

``docs/policies/dqn.md`` has the formula of every logged metric and every deviation from the papers (Mnih et al. 2015;
van Hasselt et al. 2016).

Shapes: T periods of a block, N rows, F observation columns, A actions, M transitions kept.
"""

from typing import Any

import torch
from ray.rllib.algorithms.dqn import DQN, DQNConfig
from ray.rllib.algorithms.dqn.dqn_learner import QF_PREDS, DQNLearner
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner
from ray.rllib.algorithms.ppo import PPO
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from torch import Tensor
from torch.nn.functional import mse_loss

from cluster.settings.models import PolicySettings
from rl.network import OBSERVATION_NAMES
from rl.policies.lean import LeanTorchLearner
from rl.policies.modules import ADVANTAGE, VALUE, QNetwork
from rl.runner import Block, set_task

Q_LOSS_KEY = "qf_loss"
Q_MEAN_KEY = "qf_mean"
TD_ERROR_KEY = "td_error_abs_mean"
CONTRAST_KEY = "contrast_loss"
OTHER_ACTION, OTHER_REWARD, OTHER_NEXT_OBS = "other_action", "other_reward", "other_next_obs"
_FAR = 0.05
"""Difference of action values, in rewards, at which a contrast counts half."""


def n_step_return(reward_TN: Tensor, *, gamma: float, n: int) -> Tensor:
    """Discounted sum of n rewards from each period on that has n in the block: (T - n + 1, N)."""
    count = len(reward_TN) - n + 1
    total = torch.zeros_like(reward_TN[:count])
    for step in range(n - 1, -1, -1):
        total = reward_TN[step : step + count] + gamma * total
    return total


class ReplayRing:
    """The last M transitions as tensors, overwritten in a ring and drawn uniformly."""

    def __init__(self, *, capacity: int, seed: int) -> None:
        self._capacity = capacity
        self._columns: dict[str, Tensor] = {}
        self._next = 0
        self._size = 0
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self._size

    def add(self, columns: dict[str, Tensor]) -> None:
        """Keep transitions; of more than M, the last M."""
        columns = {name: value[-self._capacity :] for name, value in columns.items()}
        if not self._columns:
            self._columns = {
                name: torch.empty((self._capacity, *value.shape[1:]), dtype=value.dtype, device=value.device)
                for name, value in columns.items()
            }
        count = len(next(iter(columns.values())))
        first = min(count, self._capacity - self._next)
        for name, value in columns.items():
            self._columns[name][self._next : self._next + first] = value[:first]
            self._columns[name][: count - first] = value[first:]
        self._next = (self._next + count) % self._capacity
        self._size = min(self._size + count, self._capacity)

    def draw(self, count: int) -> dict[str, Tensor]:
        """Transitions drawn with replacement."""
        rows = torch.randint(self._size, (count,), generator=self._generator)
        return {name: value.index_select(0, rows.to(value.device)) for name, value in self._columns.items()}


class ReplayConnector(ConnectorV2):
    """Blocks -> the ring -> one batch of all of this call's updates."""

    def __init__(self, *, gamma: float, n_step: int, capacity: int, batch_size: int, seed: int) -> None:
        super().__init__()
        self._gamma = gamma
        self._n_step = n_step
        self._batch_size = batch_size
        self._ring = ReplayRing(capacity=capacity, seed=seed)

    def __call__(self, *, rl_module: Any, batch: Any, episodes: list[Block], **_: Any) -> dict[str, Any]:
        """Keep the new transitions, then draw."""
        device = next(rl_module[DEFAULT_MODULE_ID].parameters()).device
        for block in episodes:
            self._ring.add(self._transitions(block, device))
        return {DEFAULT_MODULE_ID: self._ring.draw(self._batch_size)}

    def _transitions(self, block: Block, device: torch.device) -> dict[str, Tensor]:
        count = len(block.action) - self._n_step + 1
        columns = {Columns.OBS: block.observation[:count], Columns.ACTIONS: block.action[:count]}
        if block.siblings is None:
            columns |= {
                Columns.REWARDS: n_step_return(block.reward, gamma=self._gamma, n=self._n_step),
                Columns.NEXT_OBS: block.observation[self._n_step :],
            }
        else:
            (own, other), (led_to, other_led_to) = block.siblings.earned, block.siblings.observation
            columns |= {
                Columns.REWARDS: own,
                Columns.NEXT_OBS: led_to,
                OTHER_ACTION: block.siblings.action,
                OTHER_REWARD: other,
                OTHER_NEXT_OBS: other_led_to,
            }
        return {name: value.to(device).flatten(0, 1) for name, value in columns.items()}


class LeanDQNLearner(LeanTorchLearner, DQNTorchLearner):
    """Double Q-learning on plain tensors, one fused Adam, and a target that follows after every update."""

    def build(self) -> None:
        """Build without DQN's episode connectors, then copy the network."""
        super(DQNLearner, self).build()
        self.module.foreach_module(lambda _, module: module.unwrapped().make_target_networks())

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Register a fused Adam under RLlib's learning-rate schedule."""
        module = self._module[module_id].unwrapped()
        # The copies follow; they are not learned.
        params = [*module.scorer.parameters(), *module.critic.parameters()]
        self.register_optimizer(
            module_id=module_id,
            optimizer=torch.optim.Adam(params, fused=True),
            params=params,
            lr_or_lr_schedule=config.lr,
        )

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Tensor], fwd_out: dict[str, Tensor]
    ) -> Tensor:
        """Squared errors of n-step double-Q targets (van Hasselt et al. 2016, eq. 4), and of their differences.

        Where siblings were followed, A learns what an action earned more than its sibling and V the target itself:
        what both share, luck above all, does not reach A. Not Huber's loss: beyond its bend it fits medians, and where
        a lost sale is dear and rare the median holds none.
        """
        module, advantage_NA = self.module[module_id].unwrapped(), fwd_out[ADVANTAGE]
        chosen_N = advantage_NA.gather(1, batch[Columns.ACTIONS].unsqueeze(1)).squeeze(1)
        target_N = self._target_N(module, batch, config=config, reward=Columns.REWARDS, after=Columns.NEXT_OBS)
        kept: dict[str, Tensor] = {}
        if OTHER_ACTION in batch:
            other_N = advantage_NA.gather(1, batch[OTHER_ACTION].unsqueeze(1)).squeeze(1)
            other_target_N = self._target_N(module, batch, config=config, reward=OTHER_REWARD, after=OTHER_NEXT_OBS)
            apart_N = chosen_N - other_N
            # What is far apart need only be known to be far: else ruinous orders would take the network's attention.
            weight_N = 1 / (1 + (apart_N.detach() / _FAR).square())
            kept[CONTRAST_KEY] = (weight_N * (apart_N - target_N + other_target_N).square()).mean()
            chosen_N = chosen_N.detach()
        value_N = fwd_out[VALUE] + chosen_N
        kept[Q_LOSS_KEY] = mse_loss(value_N, target_N)
        seen_N = value_N.detach()
        self._keep(module_id, {Q_MEAN_KEY: seen_N.mean(), TD_ERROR_KEY: (seen_N - target_N).abs().mean(), **kept})
        return kept[Q_LOSS_KEY] + kept.get(CONTRAST_KEY, 0.0)

    @torch.no_grad()
    def _target_N(self, module: Any, batch: dict[str, Tensor], *, config: Any, reward: str, after: str) -> Tensor:
        """What was earned, and what the copies say of the greedy action in the state that it led to."""
        seen = {Columns.OBS: batch[after]}
        next_N = module.forward_target(seen)[QF_PREDS].gather(1, module.best_action(seen)).squeeze(1)
        target_N: Tensor = batch[reward] + config.gamma**config.n_step * next_N
        return target_N

    def _uncompiled_update(self, batch: dict[str, Any], **kwargs: Any) -> Any:
        answer = super()._uncompiled_update(batch, **kwargs)
        with torch.no_grad():
            for module_id in batch:
                for network, target in self.module[module_id].unwrapped().get_target_network_pairs():
                    following, leading = list(target.parameters()), list(network.parameters())
                    torch._foreach_lerp_(following, leading, self.config.tau)
        return answer

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Log, and move the learning rate along its schedule; the target has followed already."""
        self._log_kept()
        super(DQNLearner, self).after_gradient_based_update(timesteps=timesteps)


class ArrayDQN(DQN):
    """DQN whose replay lives in the learner, so that one training step is PPO's: sample, update, send weights."""

    def training_step(self) -> None:
        """Sample a block, learn from the ring, send the weights to the runners."""
        PPO.training_step(self)


class ArrayDQNConfig(DQNConfig):
    """DQN's configuration with the two fields that PPO's training step reads."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or ArrayDQN)
        self.num_epochs = 1
        self.minibatch_size: int | None = None
        self.shuffle_batch_per_epoch = False


def make_dqn_config(
    settings: PolicySettings, *, env_name: str, env_config: dict[str, Any], seed: int, n_step: int
) -> ArrayDQNConfig:
    """RLlib configuration of one DQN trial; ``n_step`` is that of the environment's siblings, if it has any."""
    steps, rate, gamma = settings.budget_steps_dqn, settings.learning_rate_dqn, settings.gamma
    config = ArrayDQNConfig()
    set_task(config, settings=settings, env_name=env_name, env_config=env_config, seed=seed)
    learned = config.train_batch_size_per_learner * settings.replay_ratio
    batch_size = max(1, round(learned / settings.minibatch_size)) * settings.minibatch_size
    config.learners(
        learner_connector=lambda *_: ReplayConnector(
            gamma=gamma, n_step=n_step, capacity=settings.replay_capacity, batch_size=batch_size, seed=seed
        )
    )
    config.training(
        learner_class=LeanDQNLearner,
        gamma=gamma,
        n_step=n_step,
        lr=[[0, rate], [steps, rate / 20]],
        tau=0.02,
        grad_clip=10.0,
        grad_clip_by="global_norm",
        replay_buffer_config={"type": "EpisodeReplayBuffer", "no_local_replay_buffer": True},
    )
    config.minibatch_size = settings.minibatch_size
    model = {
        "hidden": settings.hidden,
        "num_features": len(OBSERVATION_NAMES),
        "exploration": (settings.temperature, settings.temperature / 10, settings.epsilon, steps),
    }
    return config.rl_module(rl_module_spec=RLModuleSpec(module_class=QNetwork, model_config=model))
