"""What another order would have led to: each moment of a block lived again twice, the second time as a sibling.

The first takes the row's own action, the sibling another one; from the next period on the greedy policy orders for
both, through the same demand and lead times. What they have earned after some periods differs by the first order
alone: the luck of demand, which is a hundred times larger than the difference between neighbouring orders, is in both.

Shapes: T periods of a block, N rows, M = 2 x C x N lives of its first C periods, F + G columns, A actions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rl.inventory import FloatArray, IntArray, InventoryState, concatenate_states
from rl.network import Context, order_wish
from rl.packed import EnvData, live_through, observe_state
from rl.simulator import Simulator

_NEAR_SHARE = 0.5
_NEAR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Where all rows stood in one period, and what they did."""

    state: InventoryState
    period_N: IntArray
    action_N: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Siblings:
    """Of the first C moments of each row: another action, and what each of the two earned and led to.

    Index 0 along the leading axis is the row's own action, 1 the other.
    """

    action: Tensor  # (C, N) int64: the other
    earned: Tensor  # (2, C, N) discounted
    observation: Tensor  # (2, C, N, F + G), after the last period

    def rows(self, rows: slice) -> "Siblings":
        """Keep some of the rows."""
        return Siblings(
            action=self.action[:, rows], earned=self.earned[:, :, rows], observation=self.observation[:, :, rows]
        )


def live_again(
    past: list[Moment],
    *,
    greedy: Callable[[Tensor], Tensor],
    data: EnvData,
    context: Context,
    hindsight: Tensor,
    series_N: IntArray,
    weight_S: FloatArray,
    num_periods: int,
    gamma: float,
    random: np.random.Generator,
) -> Siblings:
    """Follow both of every moment that has ``num_periods`` in the block.

    Parameters
    ----------
    past
        The block's moments in order.
    greedy
        Orders from the second period on.
    context, hindsight
        Of every (period, series), as the environment has them.
    weight_S
        Reward per unit of money.
    """
    count, N = len(past) - num_periods + 1, len(series_N)
    lived = past[:count]
    series_M = np.tile(series_N, 2 * count)
    period_M = np.tile(np.concatenate([moment.period_N for moment in lived]), 2)
    terms, states = data.terms.take(series_M), [moment.state for moment in lived]
    simulator = Simulator(concatenate_states([*states, *states]), costs=terms.costs, max_lead_time=data.max_lead_time)
    own = torch.cat([moment.action_N for moment in lived])
    other = other_action(own, num_actions=data.grid.num_actions, random=random)
    action_M, earned_M = torch.cat([own, other]), np.zeros(len(series_M), dtype=np.float32)
    state, now = simulator.observe(), context.take(data.context_rows(period_M, series_M))
    for ahead in range(num_periods):
        wish_M = order_wish(now, action_M, torch.from_numpy(state.inventory_position_S)).numpy()
        _, cost_M = live_through(
            data, simulator, wish_N=wish_M, state=state, terms=terms, period_N=period_M, series_N=series_M
        )
        earned_M += np.float32(gamma**ahead) * (data.baseline_cost_S[series_M] - cost_M) * weight_S[series_M]
        period_M = period_M + 1
        state, now = simulator.observe(), context.take(data.context_rows(period_M, series_M))
        seen = observe_state(now, state)
        action_M = greedy(seen)
    moment_M = torch.from_numpy(period_M * data.num_series + series_M)
    seen = torch.cat([seen, hindsight.index_select(0, moment_M)], 1)
    return Siblings(
        action=other.view(count, N),
        earned=torch.from_numpy(earned_M).view(2, count, N),
        observation=seen.view(2, count, N, -1),
    )


def other_action(action_M: Tensor, *, num_actions: int, random: np.random.Generator) -> Tensor:
    """An action that is not the given one: half of the time a near one, else any, all alike.

    Near ones say which of several good orders is the best, the others which are ruinous.
    """
    M = len(action_M)
    any_M = (action_M.numpy() + random.integers(1, num_actions, size=M)) % num_actions
    step_M = random.integers(1, _NEAR, endpoint=True, size=M) * random.choice((-1, 1), size=M)
    near_M = action_M.numpy() + step_M
    is_near_M = (random.random(M) < _NEAR_SHARE) & (near_M >= 0) & (near_M < num_actions)
    return torch.from_numpy(np.where(is_near_M, near_M, any_M))
