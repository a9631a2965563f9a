"""PPO and DQN as one would write them without RLlib: the ceiling of what a runner and a learner on it can reach.

The same environment, networks, arithmetic and optimiser as ours, in two loops. No metrics but the last loss, no
schedules, no checkpoints, no configuration.

Shapes: T periods of a block, N rows, F observation columns, A actions.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from rl.env import ReplayEnv
from rl.jobs import TrialJob
from rl.network import make_mlp
from rl.policies.dqn import ReplayRing
from rl.policies.ppo import generalised_advantage

_CLIP, _VALUE_WEIGHT, _TAU, _FAR = 0.2, 0.5, 0.02, 0.05


class PlainLoop(ABC):
    """What both algorithms share: the environment, two networks, one optimiser."""

    def __init__(self, job: TrialJob, *, learning_rate: float, max_norm: float, sibling_periods: int = 0) -> None:
        settings = job.settings
        self._settings = settings
        self._max_norm = max_norm
        self._env = ReplayEnv(
            job.train,
            num_rows=settings.num_rows,
            block_periods=settings.rollout_periods,
            restart_share=settings.restart_share,
            twins=not sibling_periods,
            sibling_periods=sibling_periods,
            gamma=settings.gamma,
            seed=job.seed,
        )
        self._num_features = self._env.num_features
        num_columns, num_actions = self._num_features + self._env.num_hindsight, self._env.num_actions
        self.scorer = make_mlp(self._num_features, hidden=settings.hidden, num_outputs=num_actions, output_gain=0.01)
        self.critic = make_mlp(num_columns, hidden=settings.hidden, num_outputs=1, output_gain=0.1)
        self._params = [*self.scorer.parameters(), *self.critic.parameters()]
        self._optimiser = torch.optim.Adam(self._params, lr=learning_rate, fused=True)

    def sample(self) -> dict[str, Tensor]:
        """One block: (T + 1, N, F) observations, (T, N) of the rest."""
        self._env.begin_block(lambda seen_NF: self._scores_NA(seen_NF).argmax(1))
        observations, steps = [], []
        with torch.inference_mode():
            for _period in range(self._settings.rollout_periods):
                observations.append(self._env.observe())
                action_N, log_probability_N = self._explore(self._scores_NA(observations[-1]))
                steps.append((action_N, log_probability_N, self._env.step(action_N)))
            observations.append(self._env.observe())
            action_TN, log_probability_TN, reward_TN = (torch.stack(part) for part in zip(*steps, strict=True))
            return {
                "seen": torch.stack(observations),
                "action": action_TN,
                "log_probability": log_probability_TN,
                "reward": reward_TN,
            }

    def _scores_NA(self, seen_NF: Tensor) -> Tensor:
        scores_NA: Tensor = self.scorer(seen_NF[..., : self._num_features])
        return scores_NA

    @abstractmethod
    def _explore(self, scores_NA: Tensor) -> tuple[Tensor, Tensor]:
        """Actions, and the logarithms of their chances."""

    def _descend(self, loss: Tensor) -> None:
        self._optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._params, self._max_norm)
        self._optimiser.step()


class PlainPPO(PlainLoop):
    """Clipped surrogate with a hindsight critic."""

    def __init__(self, job: TrialJob) -> None:
        super().__init__(job, learning_rate=job.settings.learning_rate_ppo, max_norm=1.0)

    def train(self) -> float:
        """Sample a block, then go over it in minibatches; the last loss."""
        settings, block = self._settings, self.sample()
        with torch.inference_mode():
            value_TN = self.critic(block["seen"]).squeeze(-1)
            advantage_TN, target_TN = generalised_advantage(
                block["reward"], value_TN, gamma=settings.gamma, lambda_=settings.gae_lambda
            )
            advantage_TN = (advantage_TN - advantage_TN.mean()) / advantage_TN.std()
        parts = (block["seen"][:-1], block["action"], block["log_probability"], advantage_TN, target_TN)
        columns = [part.flatten(0, 1).clone() for part in parts]
        for _epoch in range(settings.num_epochs):
            for rows in torch.randperm(len(columns[0])).split(settings.minibatch_size):
                loss = self._loss(*(column[rows] for column in columns))
                self._descend(loss)
        return loss.item()

    def _explore(self, scores_NA: Tensor) -> tuple[Tensor, Tensor]:
        log_probability_NA = torch.log_softmax(scores_NA, 1)
        action_N = (log_probability_NA - torch.empty_like(scores_NA).exponential_().log_()).argmax(1)
        return action_N, log_probability_NA.gather(1, action_N.unsqueeze(1)).squeeze(1)

    def _loss(self, seen: Tensor, action: Tensor, before: Tensor, advantage: Tensor, target: Tensor) -> Tensor:
        log_probability_NA = torch.log_softmax(self._scores_NA(seen), 1)
        entropy = -(log_probability_NA.exp() * log_probability_NA).sum(1).mean()
        ratio = (log_probability_NA.gather(1, action.unsqueeze(1)).squeeze(1) - before).exp()
        gain = torch.minimum(advantage * ratio, advantage * ratio.clamp(1 - _CLIP, 1 + _CLIP)).mean()
        value_loss = (self.critic(seen).squeeze(-1) - target).square().mean()
        return _VALUE_WEIGHT * value_loss - gain - self._settings.entropy * entropy


class PlainDQN(PlainLoop):
    """Double Q-learning from a ring of transitions."""

    def __init__(self, job: TrialJob, *, n_step: int) -> None:
        super().__init__(job, learning_rate=job.settings.learning_rate_dqn, max_norm=10.0, sibling_periods=n_step)
        settings = job.settings
        self._n_step = n_step
        self._ring = ReplayRing(capacity=settings.replay_capacity, seed=job.seed)
        self._targets = [
            make_mlp(network[1].in_features, hidden=settings.hidden, num_outputs=outputs, output_gain=1.0)
            for network, outputs in ((self.scorer, self._env.num_actions), (self.critic, 1))
        ]
        self._followers = [p for target in self._targets for p in target.parameters()]
        for follower, leader in zip(self._followers, self._params, strict=True):
            follower.data.copy_(leader.data)

    def train(self) -> float:
        """Sample a block into the ring, then learn ``replay_ratio`` times as many transitions; the last loss."""
        settings, block = self._settings, self.sample()
        siblings = self._env.siblings()
        assert siblings is not None
        count = len(siblings.action)
        columns = {
            "seen": block["seen"][:count],
            "action": block["action"][:count],
            "other": siblings.action,
            "earned": siblings.earned[0],
            "other_earned": siblings.earned[1],
            "after": siblings.observation[0],
            "other_after": siblings.observation[1],
        }
        self._ring.add({name: value.flatten(0, 1).clone() for name, value in columns.items()})
        learned = settings.num_rows * settings.rollout_periods * settings.replay_ratio
        for _update in range(round(learned / settings.minibatch_size)):
            loss = self._loss(self._ring.draw(settings.minibatch_size))
            self._descend(loss)
            with torch.no_grad():
                torch._foreach_lerp_(self._followers, self._params, _TAU)
        return loss.item()

    def _explore(self, scores_NA: Tensor) -> tuple[Tensor, Tensor]:
        noise_NA = torch.empty_like(scores_NA).exponential_().log_()
        chosen_N = (scores_NA / self._settings.temperature - noise_NA).argmax(1)
        is_random_N = torch.rand(len(chosen_N)) < self._settings.epsilon
        action_N = torch.where(is_random_N, torch.randint(scores_NA.shape[1], (len(chosen_N),)), chosen_N)
        return action_N, torch.zeros(len(action_N))

    def _loss(self, batch: dict[str, Tensor]) -> Tensor:
        seen, advantage_NA = batch["seen"], self._scores_NA(batch["seen"])
        chosen_N, other_N = (
            advantage_NA.gather(1, batch[name].unsqueeze(1)).squeeze(1) for name in ("action", "other")
        )
        target_N = self._target_N(batch["earned"], batch["after"])
        apart_N = chosen_N - other_N
        contrast = apart_N - target_N + self._target_N(batch["other_earned"], batch["other_after"])
        weight = 1 / (1 + (apart_N.detach() / _FAR).square())
        error = self.critic(seen).squeeze(1) + chosen_N.detach() - target_N
        return error.square().mean() + (weight * contrast.square()).mean()

    @torch.no_grad()
    def _target_N(self, earned_N: Tensor, after: Tensor) -> Tensor:
        best = self._scores_NA(after).argmax(1, keepdim=True)
        following = self._targets[0](after[:, : self._num_features]) + self._targets[1](after)
        return earned_N + self._settings.gamma**self._n_step * following.gather(1, best).squeeze(1)
