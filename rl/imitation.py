"""A learned policy's first lesson: do as the tuned textbook rule does.

The rule orders through the training replay in several copies with scattered opening stocks; a share of its orders is
replaced by random ones, so that the states around its path are seen too. Every state is labelled with the action
closest to the rule's wish. Learning then starts from the rule instead of from noise; it is free to leave it.

Shapes: M samples, N rows (copies x series), F observation columns, A actions.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from rl.constraints import feasible_quantity_S, is_review_period_S
from rl.inventory import FloatArray, IntArray, InventoryState
from rl.network import nearest_action, order_wish
from rl.packed import EnvData, observe_state
from rl.policies.protocol import Policy
from rl.scenarios import ReplayScenario
from rl.simulator import Simulator

_RANDOM_SHARE = 0.15
_ROWS = 512
_BATCH = 2_048
_LEARNING_RATE = 3e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What the rule did: observations, and the action closest to each wish."""

    observation_MF: FloatArray
    action_M: IntArray


def make_lesson(policy: Policy, scenario: ReplayScenario, *, data: EnvData, seed: int) -> Lesson:
    """Let a rule order through a training replay and write down what it did."""
    random = np.random.default_rng(seed)
    copies = max(1, _ROWS // data.num_series)
    rows = np.tile(np.arange(data.num_series), copies)
    terms, context = data.terms.take(rows), data.context_tensors()
    simulator = Simulator(
        _scattered(data.start.take(rows), random), costs=terms.costs, max_lead_time=scenario.max_lead_time
    )
    seen: list[tuple[Tensor, Tensor]] = []
    for period, forecast in enumerate(scenario.forecasts):
        state = simulator.observe()
        now = context.take(data.context_rows(np.full_like(rows, period), rows))
        position_N = torch.from_numpy(state.inventory_position_S)
        wish_N = policy.order_quantity_S(state, forecast.take(rows), terms)
        action_N = nearest_action(now, torch.from_numpy(wish_N), position_N, num_actions=data.grid.num_actions)
        seen.append((observe_state(now, state), action_N))
        drawn_N = torch.from_numpy(random.integers(data.grid.num_actions, size=len(rows)))
        is_random_N = random.random(len(rows)) < _RANDOM_SHARE
        wish_N = np.where(is_random_N, order_wish(now, drawn_N, position_N).numpy(), wish_N)
        order_N = feasible_quantity_S(
            wish_N,
            state=state,
            terms=terms,
            is_review_S=is_review_period_S(terms, period=data.first_period + period),
        )
        simulator.step(order_N, demand_N=data.demand_TS[period, rows], lead_time_N=data.lead_time_TS[period, rows])
    observation_MF, action_M = (torch.cat(part).numpy() for part in zip(*seen, strict=True))
    return Lesson(observation_MF=observation_MF, action_M=action_M)


def learn_lesson(scorer: nn.Module, lesson: Lesson, *, steps: int, seed: int, sharpness: float = 1.0) -> float:
    """Fit the scores to the lesson by cross-entropy, in place; share of actions that then agree with the rule.

    ``sharpness`` multiplies the scores in the loss: action values stay small where logits may be large.
    """
    generator = torch.Generator().manual_seed(seed)
    observation_MF, action_M = torch.tensor(lesson.observation_MF), torch.tensor(lesson.action_M)
    device = next(scorer.parameters()).device
    optimizer = torch.optim.Adam(scorer.parameters(), lr=_LEARNING_RATE, fused=True)
    for _step in range(steps):
        rows = torch.randint(len(action_M), (_BATCH,), generator=generator)
        scores = scorer(observation_MF[rows].to(device)) * sharpness
        loss = nn.functional.cross_entropy(scores, action_M[rows].to(device), label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    with torch.inference_mode():
        agrees = scorer(observation_MF.to(device)).argmax(1).cpu() == action_M
    return float(agrees.float().mean())


def _scattered(state: InventoryState, random: np.random.Generator) -> InventoryState:
    factor_N = random.uniform(0, 2, size=len(state.on_hand_S))
    return InventoryState(
        on_hand_S=np.round(state.on_hand_S * factor_N).astype(np.float32),
        on_order_SL=state.on_order_SL,
        backorder_S=state.backorder_S,
        reserved_S=state.reserved_S,
    )
