"""PPO and ``direct`` with replay, simulator, network and optimiser on one device: nothing leaves it while they train.

The product's simulator, observation, network, advantages and cost, on an instance of its own trials; feasible orders
(packs, minimum, cap, storage) are written in tensors here. What the product does beside (twins, evaluation,
checkpoints) is left out: these are the rates that a card allows.

Shapes: N rows, S series, T periods, A actions, F observation columns.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rl.actors import DirectActor
from rl.env import reward_weight_S
from rl.inventory import CostRates, InventoryState
from rl.jobs import TrialJob
from rl.network import OBSERVATION_NAMES, Context, make_mlp, observe, order_wish
from rl.packed import EnvData
from rl.policies.ppo import generalised_advantage
from rl.simulator import Simulator

_CLIP, _VALUE_WEIGHT = 0.2, 0.5
_WARM_UP_SHARE = 1 / 6
_STATE_COLUMNS = 1.3


class DeviceReplay:
    """Random stretches of a packed replay as tensors of one device; demand and contexts are gathered there."""

    def __init__(self, data: EnvData, *, num_rows: int, device: torch.device) -> None:
        if len(data.context[0]) != data.num_series:
            raise ValueError("contexts must be the same in all periods: use an instance whose demand has one law")
        self._num_rows, self._device = num_rows, device
        self._demand_TS = self._tensor(data.demand_TS)
        self._context = Context(*(self._tensor(part) for part in data.context))
        terms = data.terms
        self._lead_time, self._columns = int(data.lead_time_TS.max()), data.max_lead_time
        self._pack_S, self._least_S = self._tensor(terms.pack_size_S), self._tensor(terms.min_order_qty_S)
        self._cap_S, self._capacity_S = self._tensor(terms.order_cap_S), self._tensor(terms.storage_capacity_S)
        names = ("holding_S", "lost_sale_S", "fixed_order_S", "unit_cost_S")
        self._cost_of = {name: self._tensor(getattr(terms.costs, name)) for name in names}
        self._baseline_S = self._tensor(data.baseline_cost_S)
        self._weight_S = self._tensor(reward_weight_S(data.baseline_cost_S))

    def _tensor(self, values: Any) -> Tensor:
        return torch.tensor(values).to(self._device)

    def begin(self, num_periods: int) -> None:
        """Draw series, first periods and opening stocks."""
        T, S = self._demand_TS.shape
        self.series_N = torch.randint(S, (self._num_rows,), device=self._device)
        self._first_N = torch.randint(T - num_periods + 1, (self._num_rows,), device=self._device)
        self.context = self._context.take(self.series_N)
        zeros_N = torch.zeros(self._num_rows, device=self._device)
        level_N = self.context.level_SA[:, -1] * _STATE_COLUMNS
        on_order_NL = torch.zeros(self._num_rows, max(self._columns, 1), device=self._device)
        start = InventoryState(
            on_hand_S=(level_N * torch.rand_like(zeros_N)).round(),
            on_order_SL=on_order_NL,
            backorder_S=zeros_N,
            reserved_S=zeros_N,
        )
        rates = {name: values.index_select(0, self.series_N) for name, values in self._cost_of.items()}
        self._rows = Simulator(start, costs=CostRates(**rates), max_lead_time=self._columns)
        self._period = 0

    def observe(self) -> Tensor:
        """Observation of every row, (N, F)."""
        self.state = self._rows.observe()
        return observe(self.context, self.state.on_hand_S - self.state.backorder_S, self.state.on_order_SL)

    def feasible_N(self, wish_N: Tensor) -> Tensor:
        """As :func:`rl.constraints.feasible_quantity_S`."""
        pack_N, cap_N = self._pack_S[self.series_N], self._cap_S[self.series_N]
        least_N = (self._least_S[self.series_N] / pack_N - 1e-6).ceil().clamp_min(1) * pack_N
        room_N = self._capacity_S[self.series_N] - self.state.on_hand_S - self.state.on_order_SL.sum(1)
        most_N = (torch.minimum(cap_N, room_N.clamp_min(0)) / pack_N + 1e-6).floor() * pack_N
        packed_N = (wish_N / pack_N - 1e-4).ceil() * pack_N
        order_N = torch.minimum(torch.maximum(packed_N, least_N), most_N)
        return torch.where((packed_N > 0) & (order_N >= least_N), order_N, torch.zeros_like(order_N))

    def step(self, order_N: Tensor) -> Tensor:
        """Order, sell, account; cost of each row."""
        demand_N = self._demand_TS[self._first_N + self._period, self.series_N]
        self._period += 1
        return self._rows.step(order_N, demand_N=demand_N, lead_time_N=self._lead_time).cost_N

    def saved_N(self, cost_N: Tensor) -> Tensor:
        """Reward: what a row saved against the tuned rule's mean cost."""
        return (self._baseline_S[self.series_N] - cost_N) * self._weight_S[self.series_N]

    def weighted_N(self, cost_N: Tensor) -> Tensor:
        """Cost as ``direct`` weighs it."""
        return cost_N * self._weight_S[self.series_N]


def make_direct(job: TrialJob, *, device: torch.device) -> Callable[[], float]:
    """One unroll and one step of Adam per call; the loss."""
    settings = job.settings
    replay = DeviceReplay(job.train, num_rows=settings.num_rows, device=device)
    actor = DirectActor(len(OBSERVATION_NAMES), hidden=settings.hidden)
    actor.standardise.fit(torch.tensor(job.lesson.observation_MF))
    actor = actor.to(device)
    optimiser = torch.optim.Adam(actor.parameters(), lr=settings.learning_rate_direct, fused=True)
    T = settings.unroll_periods
    counted = range(int(T * _WARM_UP_SHARE), T)

    def train() -> float:
        replay.begin(T)
        total = torch.zeros((), device=device)
        for period in range(T):
            seen_NF = replay.observe()
            position_N = replay.state.inventory_position_S
            quantity_N, gate_N = actor.quantity_and_gate(replay.context, seen_NF, position_N)
            wish_N = quantity_N * (gate_N > 0)
            order_N = wish_N + (replay.feasible_N(wish_N.detach()) - wish_N).detach()
            cost_N = replay.step(order_N)
            if period in counted:
                total = total + replay.weighted_N(cost_N).mean()
        loss = total / len(counted)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(actor.parameters(), 1.0)
        optimiser.step()
        return float(loss.detach())  # waits for the device

    return train


def make_ppo(job: TrialJob, *, device: torch.device) -> Callable[[], float]:
    """One block of all rows, then the epochs over it in minibatches, per call; the mean reward."""
    settings = job.settings
    replay = DeviceReplay(job.train, num_rows=settings.num_rows, device=device)
    F, A = len(OBSERVATION_NAMES), job.train.grid.num_actions
    scorer = make_mlp(F, hidden=settings.hidden, num_outputs=A, output_gain=0.01)
    critic = make_mlp(F, hidden=settings.hidden, num_outputs=1, output_gain=0.1)
    for network in (scorer, critic):
        network[0].fit(torch.tensor(job.lesson.observation_MF))
    scorer, critic = scorer.to(device), critic.to(device)
    parameters = [*scorer.parameters(), *critic.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=settings.learning_rate_ppo, fused=True)

    def train() -> float:
        columns, reward = _block(replay, scorer, critic, job)
        for _ in range(settings.num_epochs):
            for rows in torch.randperm(len(columns[0]), device=device).split(settings.minibatch_size):
                loss = _ppo_loss(scorer, critic, *(part[rows] for part in columns), entropy=settings.entropy)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, 1.0)
                optimiser.step()
        return float(reward)  # waits for the device

    return train


@torch.no_grad()
def _block(replay: DeviceReplay, scorer: nn.Module, critic: nn.Module, job: TrialJob) -> tuple[list[Tensor], Tensor]:
    """Observations, actions, their log chances, advantages and value targets of a block, flat; the mean reward."""
    settings = job.settings
    replay.begin(settings.rollout_periods)
    seen, steps = [], []
    for _ in range(settings.rollout_periods):
        seen.append(replay.observe())
        log_chance_NA = torch.log_softmax(scorer(seen[-1]), 1)
        action_N = (log_chance_NA - torch.empty_like(log_chance_NA).exponential_().log_()).argmax(1)
        wish_N = order_wish(replay.context, action_N, replay.state.inventory_position_S)
        reward_N = replay.saved_N(replay.step(replay.feasible_N(wish_N)))
        steps.append((action_N, log_chance_NA.gather(1, action_N.unsqueeze(1)).squeeze(1), reward_N))
    seen.append(replay.observe())
    seen_TNF = torch.stack(seen)
    action_TN, chance_TN, reward_TN = (torch.stack(part) for part in zip(*steps, strict=True))
    advantage_TN, target_TN = generalised_advantage(
        reward_TN, critic(seen_TNF).squeeze(-1), gamma=settings.gamma, lambda_=settings.gae_lambda
    )
    advantage_TN = (advantage_TN - advantage_TN.mean()) / advantage_TN.std()
    parts = (seen_TNF[:-1], action_TN, chance_TN, advantage_TN, target_TN)
    return [part.flatten(0, 1) for part in parts], reward_TN.mean()


def _ppo_loss(
    scorer: nn.Module,
    critic: nn.Module,
    seen: Tensor,
    action: Tensor,
    before: Tensor,
    advantage: Tensor,
    target: Tensor,
    *,
    entropy: float,
) -> Tensor:
    log_chance_NA = torch.log_softmax(scorer(seen), 1)
    spread = -(log_chance_NA.exp() * log_chance_NA).sum(1).mean()
    ratio = (log_chance_NA.gather(1, action.unsqueeze(1)).squeeze(1) - before).exp()
    gain = torch.minimum(advantage * ratio, advantage * ratio.clamp(1 - _CLIP, 1 + _CLIP)).mean()
    value_loss = (critic(seen).squeeze(-1) - target).square().mean()
    return _VALUE_WEIGHT * value_loss - gain - entropy * spread
