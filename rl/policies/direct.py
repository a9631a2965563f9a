"""``direct``: gradients of the cost itself, through the simulator, with respect to the policy's weights.

The simulator is differentiable: a unit more ordered changes the stock of every later period, and with it the cost. So
the network can be improved along the exact gradient of what its orders cost on real demand, without rewards, values or
exploration (Madeka et al. 2022; Alvo et al. 2023). ``docs/policies/direct.md`` has the details and deviations.

Shapes: N rows, T periods of an unroll, F observation columns.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cluster.panel import BoolArray
from rl.actors import DirectActor
from rl.constraints import feasible_quantity_S, is_review_period_S
from rl.env import draw_stock, reward_weight_S
from rl.inventory import CostRates, IntArray, InventoryState, SupplyTerms
from rl.jobs import TrialJob
from rl.network import OBSERVATION_NAMES, Context, observe
from rl.simulator import Simulator

_STATE = "direct.pt"
_WARM_UP_SHARE = 1 / 6
# Temperature of the gate's noise: large enough for gradients, small enough that most orders are decided as in service.
_GATE_TEMPERATURE = 0.5
_FINAL_RATE = 1 / 20


class DirectLearner:
    """Unrolls the policy on random stretches of the replay and descends; a :class:`rl.trial.Learner`."""

    def __init__(self, job: TrialJob) -> None:
        settings = job.settings
        torch.manual_seed(job.seed)
        self._job = job
        self._random = np.random.default_rng(job.seed)
        self._num_periods = min(settings.unroll_periods, job.train.num_periods)
        self._context = job.train.context_tensors()
        self._weight_S = reward_weight_S(job.train.baseline_cost_S)
        self._actor = DirectActor(len(OBSERVATION_NAMES), hidden=settings.hidden)
        self._optimizer = torch.optim.Adam(self._actor.parameters(), lr=settings.learning_rate_direct, fused=True)
        self._steps = 0

    def teach(self) -> float:
        """Standardise the inputs on the textbook rule's own states; the network starts as that rule by its form."""
        self._actor.standardise.fit(torch.tensor(self._job.lesson.observation_MF))
        return 1.0

    def train(self) -> dict[str, float]:
        """One unroll of all rows and one step of Adam."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._job.settings.learning_rate_direct * self._decay()
        loss = self._unroll()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self._actor.parameters(), 1.0)
        self._optimizer.step()
        self._steps += self._job.settings.num_rows * self._num_periods
        return {
            "steps": float(self._steps),
            "train_reward": -float(loss.detach()),
            "gradient_norm": float(norm),
            "learning_rate": float(self._optimizer.param_groups[0]["lr"]),
        }

    def weights(self) -> dict[str, Tensor]:
        """A copy of the network's weights."""
        return {name: value.detach().clone() for name, value in self._actor.network.state_dict().items()}

    def save(self, folder: Path) -> None:
        """Weights, optimiser, random states and steps."""
        state = {
            "actor": self._actor.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "torch": torch.get_rng_state(),
            "numpy": self._random.bit_generator.state,
            "steps": self._steps,
        }
        torch.save(state, folder / _STATE)

    def restore(self, folder: Path) -> None:
        """Go on exactly as an unbroken trial would."""
        state: dict[str, Any] = torch.load(folder / _STATE, weights_only=False)
        self._actor.load_state_dict(state["actor"])
        self._optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch"])
        self._random.bit_generator.state = state["numpy"]
        self._steps = state["steps"]

    def stop(self) -> None:
        """Nothing to let go of."""

    def _decay(self) -> float:
        """Cosine from 1 to a twentieth over the budget."""
        share = min(1.0, self._steps / self._job.budget_steps)
        return _FINAL_RATE + (1 - _FINAL_RATE) * (1 + float(np.cos(np.pi * share))) / 2

    def _unroll(self) -> Tensor:
        """Mean weighted cost per row and period, after a warm-up."""
        data, T = self._job.train, self._num_periods
        series_N = self._random.integers(data.num_series, size=self._job.settings.num_rows)
        first_N = self._random.integers(data.num_periods - T + 1, size=len(series_N))
        terms = data.terms.take(series_N)
        context = self._context.take(data.context_rows(first_N, series_N))
        rows = self._simulator(draw_stock(context, terms, columns=self._columns, random=self._random), terms)
        weight_N = torch.from_numpy(self._weight_S[series_N])
        total = torch.zeros(())
        # Later orders arrive, or are sold, when nothing is counted any more: nothing is learned from them.
        last_learned = max(T - 2 * int(terms.protection_interval_S.max()), T // 2)
        first_counted = int(T * _WARM_UP_SHARE)
        for t in range(T):
            period_N = first_N + t
            if t and not self._is_constant:
                context = self._context.take(data.context_rows(period_N, series_N))
            is_review_N = is_review_period_S(terms, period=data.first_period + period_N)
            with torch.set_grad_enabled(t < last_learned):
                order_N, fixed_N = self._order(rows.observe(), context, terms, is_review_N)
            outcome = rows.step(
                order_N,
                demand_N=torch.from_numpy(data.demand_TS[period_N, series_N]),
                lead_time_N=_one_or_all(data.lead_time_TS[period_N, series_N]),
            )
            if t >= first_counted:
                total = total + ((outcome.cost_N + fixed_N) * weight_N).mean()
        return total / (T - first_counted)

    @property
    def _is_constant(self) -> bool:
        """Whether every period's context is the same."""
        return len(self._context.level_SA) == self._job.train.num_series

    @property
    def _columns(self) -> int:
        data = self._job.train
        return int(max(data.lead_time_TS.max(), data.terms.lead_time_S.max(), 1))

    def _simulator(self, start: InventoryState, terms: SupplyTerms) -> Simulator[Tensor]:
        """Rows at their opening stock. Fixed costs are added by the learner, where they have a gradient."""
        costs = CostRates(
            holding_S=torch.from_numpy(terms.costs.holding_S),
            lost_sale_S=torch.from_numpy(terms.costs.lost_sale_S),
            fixed_order_S=torch.zeros(len(terms)),
            unit_cost_S=torch.from_numpy(terms.costs.unit_cost_S),
        )
        tensors = InventoryState(
            on_hand_S=torch.from_numpy(start.on_hand_S),
            on_order_SL=torch.from_numpy(start.on_order_SL),
            backorder_S=torch.from_numpy(start.backorder_S),
            reserved_S=torch.from_numpy(start.reserved_S),
        )
        return Simulator(tensors, costs=costs, max_lead_time=self._columns)

    def _order(
        self, state: InventoryState[Tensor], context: Context, terms: SupplyTerms, is_review_N: BoolArray
    ) -> tuple[Tensor, Tensor]:
        """Feasible orders with the gradient of the wish, and their fixed costs with that of the gate."""
        position_N = state.inventory_position_S
        observation_NF = observe(context, state.on_hand_S - state.backorder_S, state.on_order_SL)
        quantity_N, gate_N = self._actor.quantity_and_gate(context, observation_NF, position_N)
        is_open_N = _opened(gate_N, context)
        wish_N = quantity_N * is_open_N
        order_N = _feasible(wish_N, state, terms, is_review_N)
        # What is ordered is what the supplier accepts; the gradient is that of the wish, on review days.
        wish_N = wish_N * torch.from_numpy(is_review_N)
        order_N = wish_N + (order_N - wish_N).detach()
        fixed_N = context.fixed_cost_S * ((order_N > 0).float() + is_open_N - is_open_N.detach())
        return order_N, fixed_N


def _one_or_all(lead_time_N: IntArray) -> int | Tensor:
    """One number where all rows have the same: the simulator's fast way."""
    first = int(lead_time_N[0])
    return first if (lead_time_N == first).all() else torch.from_numpy(lead_time_N)


def _opened(gate_N: Tensor, context: Context) -> Tensor:
    """1 where the gate is open, drawn with logistic noise, and the gradient of its chance (Jang et al. 2017)."""
    uniform_N = torch.rand_like(gate_N).clamp(1e-6, 1 - 1e-6)
    noise_N = torch.log(uniform_N) - torch.log1p(-uniform_N)
    soft_N = torch.sigmoid(gate_N / _GATE_TEMPERATURE + noise_N)
    hard_N = (soft_N > 0.5).float() + soft_N - soft_N.detach()
    return torch.where(context.fixed_cost_S > 0, hard_N, torch.ones_like(hard_N))


def _feasible(wish_N: Tensor, state: InventoryState[Tensor], terms: SupplyTerms, is_review_N: BoolArray) -> Tensor:
    seen = InventoryState(
        on_hand_S=state.on_hand_S.detach().numpy(),
        on_order_SL=state.on_order_SL.detach().numpy(),
        backorder_S=state.backorder_S.detach().numpy(),
        reserved_S=state.reserved_S.detach().numpy(),
    )
    order_N = feasible_quantity_S(wish_N.detach().numpy(), state=seen, terms=terms, is_review_S=is_review_N)
    return torch.from_numpy(order_N)
