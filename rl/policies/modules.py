"""The networks that RLlib trains: one body of code for PPO's actor and critic and DQN's Q-network.

Shapes: N rows, F observation columns, A actions.
"""

from typing import Any

import torch
from ray.rllib.algorithms.dqn.dqn_learner import QF_PREDS
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.utils import make_target_network
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, TargetNetworkAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.apis.q_net_api import QNetAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import Tensor, nn

from rl.network import make_mlp

ADVANTAGE, VALUE = "advantage", "value"
"""What DQN's network says of each row while it learns: (N, A) and (N,)."""

_ACTOR_GAIN = 0.01
_VALUE_GAIN = 0.1


class _ScoringModule(TorchRLModule):
    """A network that scores every action; the highest score is the greedy action.

    It reads the first ``num_features`` columns: the others are hindsight, for a critic only.
    """

    scorer: nn.Module

    def _make_scorer(self, *, gain: float) -> nn.Module:
        return make_mlp(
            self.model_config["num_features"],
            hidden=self.model_config["hidden"],
            num_outputs=int(self.action_space.n),
            output_gain=gain,
        )

    def _make_critic(self) -> nn.Module:
        return make_mlp(
            self.observation_space.shape[0],
            hidden=self.model_config["hidden"],
            num_outputs=1,
            output_gain=_VALUE_GAIN,
        )

    def _seen(self, batch: dict[str, Any]) -> Tensor:
        return batch[Columns.OBS][..., : self.model_config["num_features"]]

    def _forward_inference(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        action_N = self.scorer(self._seen(batch)).argmax(1)
        return {Columns.ACTIONS: action_N, Columns.ACTION_LOGP: torch.zeros(len(action_N))}


class ActorCritic(_ScoringModule, ValueFunctionAPI, InferenceOnlyAPI):
    """PPO: logits of a categorical action, and a separate value network."""

    def setup(self) -> None:
        """Build the networks."""
        self.scorer = self._make_scorer(gain=_ACTOR_GAIN)
        self.critic = self._make_critic()

    def get_non_inference_attributes(self) -> list[str]:
        """Runners act without the critic."""
        return ["critic"]

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self.scorer(self._seen(batch))}

    def _forward_exploration(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        log_probability_NA = torch.log_softmax(self.scorer(self._seen(batch)), 1)
        # Gumbel's trick: one pass, where torch.multinomial takes several and checks its input.
        noise_NA = torch.empty_like(log_probability_NA).exponential_().log_()
        action_N = (log_probability_NA - noise_NA).argmax(1)
        return {
            Columns.ACTIONS: action_N,
            Columns.ACTION_LOGP: log_probability_NA.gather(1, action_N.unsqueeze(1)).squeeze(1),
        }

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Tensor:
        """Value of each observation, in hindsight."""
        return self.critic(batch[Columns.OBS]).squeeze(-1)


class QNetwork(_ScoringModule, QNetAPI, TargetNetworkAPI, InferenceOnlyAPI):
    """DQN: advantage of every action, a value in hindsight, and a slowly following copy of both.

    Q(s, a, z) = V(s, z) + A(s, a). Only V sees what is coming, z; actions are independent of z given s, so the fit of
    A is the one that it would be without z, with less noise. Acting needs A alone.
    """

    def setup(self) -> None:
        """Build the networks; the learner asks for their target copies."""
        self.scorer = self._make_scorer(gain=_ACTOR_GAIN)
        self.critic = self._make_critic()
        self._target_scorer: nn.Module | None = None
        self._target_critic: nn.Module | None = None

    def get_non_inference_attributes(self) -> list[str]:
        """Runners act without the value and the copies."""
        return ["critic", "_target_scorer", "_target_critic"]

    def make_target_networks(self) -> None:
        """Copy the networks."""
        self._target_scorer = make_target_network(self.scorer)
        self._target_critic = make_target_network(self.critic)

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """The networks and their copies."""
        assert self._target_scorer is not None
        assert self._target_critic is not None
        return [(self.scorer, self._target_scorer), (self.critic, self._target_critic)]

    def forward_target(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Action values of the copies, (N, A)."""
        assert self._target_scorer is not None
        assert self._target_critic is not None
        return {QF_PREDS: self._target_scorer(self._seen(batch)) + self._target_critic(batch[Columns.OBS])}

    def best_action(self, batch: dict[str, Any]) -> Tensor:
        """Greedy action of each observation, (N, 1); the value in hindsight does not change it."""
        return self.scorer(self._seen(batch)).argmax(1, keepdim=True)

    def compute_q_values(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Action values, (N, A)."""
        return {QF_PREDS: self.scorer(self._seen(batch)) + self.critic(batch[Columns.OBS])}

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        """The two parts of the action values: their losses differ."""
        return {ADVANTAGE: self.scorer(self._seen(batch)), VALUE: self.critic(batch[Columns.OBS]).squeeze(1)}

    def _forward_exploration(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Boltzmann exploration, and a few uniform actions.

        Orders of nearly the same value are tried often, ruinous ones rarely: an n-step return from uniform exploration
        says little about the greedy policy.
        """
        start, end, epsilon, steps = self.model_config["exploration"]
        share = min(1.0, float(batch["timestep"]) / steps)
        temperature = start * (end / start) ** share
        advantage_NA = self.scorer(self._seen(batch))
        noise_NA = torch.empty_like(advantage_NA).exponential_().log_()
        chosen_N = (advantage_NA / temperature - noise_NA).argmax(1)
        is_random_N = torch.rand(len(chosen_N)) < epsilon
        random_N = torch.randint(advantage_NA.shape[1], (len(chosen_N),))
        action_N = torch.where(is_random_N, random_N, chosen_N)
        return {Columns.ACTIONS: action_N, Columns.ACTION_LOGP: torch.zeros(len(action_N))}
