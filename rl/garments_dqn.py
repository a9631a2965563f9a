"""DQN on a small task: the ten garments through a network instead of a table.

Imports RLlib. Shapes: S garments, N = copies x S rows, A actions, F observation columns.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.tune.registry import register_env
from torch import Tensor, nn

from cluster.settings.models import PolicySettings
from forecasting.forecast import Forecast
from rl.env import ArrayEnv, Greedy
from rl.garments import GARMENTS, ORDER_QTY, make_garment_task, order_A
from rl.inventory import FloatArray, IntArray, InventoryState, SupplyTerms
from rl.policies.dqn import make_dqn_config
from rl.policies.modules import QNetwork
from rl.rewards import RewardMode

GARMENT_SETTINGS = PolicySettings(
    hidden=32,
    num_rows=20 * len(GARMENTS),
    rollout_periods=8,
    budget_steps_dqn=100_000,
    learning_rate_dqn=2e-3,
    gamma=0.9,
    epsilon=0.1,
    temperature=1e-3,  # next to nothing: exploration is the textbook's, epsilon-greedy
    minibatch_size=512,
    replay_capacity=50_000,
    replay_ratio=8.0,
)
"""What the DQN of the garments learns with: discount and epsilon are the example's."""

_ENV_NAME = "restock-small-task"
_STOCK_SCALE = 20.0
_MAX_STOCK = 3.0
_TIERED_SCALE = 0.1
_LOST_SALE_REWARD = 0.5


class GarmentEnv:
    """The garments as the array runner steps them: an :class:`rl.env.ArrayEnv`.

    A network wants rewards of one size: the tiered one counts a tenth, costs count half a point per lost sale of the
    same garment. Neither changes what is best for a garment.
    """

    num_features = len(GARMENTS) + 1
    num_hindsight = 0
    num_actions = len(ORDER_QTY)

    def __init__(self, *, reward: RewardMode, copies: int, seed: int) -> None:
        self._task = make_garment_task(reward=reward, copies=copies, seed=seed)
        scales = [_LOST_SALE_REWARD / garment.lost_sale if reward == "cost" else _TIERED_SCALE for garment in GARMENTS]
        self._scale_N = np.array(scales, dtype=np.float32)[self._task.series_N]

    @property
    def num_rows(self) -> int:
        """N: rows stepped at once."""
        return len(self._scale_N)

    def begin_block(self, greedy: Greedy) -> None:
        """Restart a share of the rows; the policy as it stands is not needed."""
        self._task.begin_block()

    def observe(self) -> Tensor:
        """Garment and stock of every row."""
        return observe_garments(self._task.state.on_hand_S, garment_N=self._task.series_N)

    def step(self, action_N: Tensor) -> Tensor:
        """Order, sell and account for one day."""
        return torch.from_numpy(self._task.step(action_N.numpy()) * self._scale_N)

    def siblings(self) -> None:
        """None: the example is textbook DQN."""


def observe_garments(on_hand_N: FloatArray, *, garment_N: IntArray) -> Tensor:
    """What the network sees, (N, S + 1) float32: which garment, one column each, and units on the shelf over 20."""
    stock_N = torch.from_numpy(on_hand_N / _STOCK_SCALE).clamp(max=_MAX_STOCK)
    which_NS = nn.functional.one_hot(torch.from_numpy(garment_N), len(GARMENTS))
    return torch.cat([which_NS, stock_N.unsqueeze(1)], 1).float()


def learn_network(
    make_env: Callable[[Any], ArrayEnv], *, num_features: int, settings: PolicySettings, seed: int
) -> nn.Module:
    """Learn action values by DQN with one-step targets, in this process; the network that scores actions.

    ``make_env`` is given a mapping with ``num_rows`` and ``seed``. Ray must be running.
    """
    torch.set_num_threads(1)
    register_env(_ENV_NAME, make_env)
    config = make_dqn_config(settings, env_name=_ENV_NAME, env_config={}, seed=seed, n_step=1)
    exploration = (settings.temperature, settings.temperature, settings.epsilon, settings.budget_steps_dqn)
    model = {"hidden": settings.hidden, "num_features": num_features, "exploration": exploration}
    config.rl_module(rl_module_spec=RLModuleSpec(module_class=QNetwork, model_config=model))
    algorithm = config.build_algo()
    try:
        steps = 0
        while steps < settings.budget_steps_dqn:
            steps = int(algorithm.train()[ENV_RUNNER_RESULTS][NUM_ENV_STEPS_SAMPLED_LIFETIME])
        scorer: nn.Module = algorithm.get_module().scorer
        return scorer
    finally:
        algorithm.stop()


def learn_garments(*, reward: RewardMode, seed: int) -> nn.Module:
    """Learn the garments by DQN; the network that scores the three orders."""
    return learn_network(
        lambda context: GarmentEnv(reward=reward, copies=context["num_rows"] // len(GARMENTS), seed=context["seed"]),
        num_features=GarmentEnv.num_features,
        settings=GARMENT_SETTINGS,
        seed=seed,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GarmentNetworkPolicy:
    """A learned network as a policy, for rows that are copies of the garments."""

    scorer: nn.Module
    garment_S: IntArray
    name: str = "dqn"

    def order_quantity_S(self, state: InventoryState, forecast: Forecast, terms: SupplyTerms) -> FloatArray:
        """Units of the action with the highest score; forecast and terms are not looked at."""
        with torch.inference_mode():
            action_S = self.scorer(observe_garments(state.on_hand_S, garment_N=self.garment_S)).argmax(1)
        return order_A()[action_S.numpy()]
