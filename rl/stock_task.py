"""A few series of known demand laws, seen through a grid of stock: a task for a table of values.

Shapes: S series, N = copies x S rows, A actions, X states of one series, L periods until arrival.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rl.demand import DemandLaw
from rl.inventory import CostRates, FloatArray, IntArray, InventoryState
from rl.policies.q_learning import StockGrid
from rl.rewards import RewardMode, tiered_reward_N
from rl.simulator import Simulator


class StockTask:
    """Copies of a small shop that orders every period; a :class:`rl.policies.q_learning.TableTask`.

    Every series has a table of its own: state x of series s is number ``s * X + x``.

    Parameters
    ----------
    laws
        Demand of each series.
    lead_time_S, costs
        Lead times, periods, and cost rates of the same series. Orders are taken as they are.
    order_A
        Units that each action orders.
    grid
        Numbers the states of one series.
    copies
        Shops simulated side by side.
    max_start
        A row begins with up to this many units on the shelf and nothing on order.
    reward
        ``cost``: minus holding and lost sales, account currency. ``tiered``: :func:`rl.rewards.tiered_reward_N`.
    restart_share
        Share of rows that begin anew at each block, so that exploration cannot pile up stock for good.
    seed
        Of demand and restarts.
    """

    def __init__(
        self,
        laws: Sequence[DemandLaw],
        *,
        lead_time_S: IntArray,
        costs: CostRates,
        order_A: FloatArray,
        grid: StockGrid,
        copies: int,
        max_start: int,
        reward: RewardMode = "cost",
        restart_share: float = 0.25,
        seed: int = 0,
    ) -> None:
        self.series_N: IntArray = np.tile(np.arange(len(laws)), copies)
        self._laws = laws
        self._mean_N = np.array([law.mean for law in laws], dtype=np.float32)[self.series_N]
        self._lead_time_N = lead_time_S[self.series_N]
        self._costs = costs.take(self.series_N)
        self._order_A = order_A
        self._grid = grid
        self._copies = copies
        self._max_start = max_start
        self._reward = reward
        self._restart_share = restart_share
        self._random = np.random.default_rng(seed)
        num_columns = max(int(lead_time_S.max()), 1)
        zero_N = np.zeros(len(self.series_N), dtype=np.float32)
        empty_NL = np.zeros((len(zero_N), num_columns), dtype=np.float32)
        empty = InventoryState(on_hand_S=zero_N, on_order_SL=empty_NL, backorder_S=zero_N, reserved_S=zero_N)
        self._simulator = self._restarted(empty, is_new_N=np.ones(len(zero_N), dtype=bool))

    @property
    def num_states(self) -> int:
        """States of all series."""
        return len(self._laws) * self._grid.num_states

    @property
    def num_actions(self) -> int:
        """A: actions to choose from."""
        return len(self._order_A)

    @property
    def state(self) -> InventoryState:
        """Stock of every row, receipts in."""
        return self._simulator.observe()

    def begin_block(self) -> None:
        """Restart a share of the rows."""
        is_new_N = self._random.random(len(self.series_N)) < self._restart_share
        self._simulator = self._restarted(self.state, is_new_N=is_new_N)

    def observe(self) -> IntArray:
        """Number of every row's state."""
        return self.series_N * self._grid.num_states + self._grid.number_S(self.state)

    def step(self, action_N: IntArray) -> FloatArray:
        """Order, sell and account for one period; reward of each row."""
        position_N = self.state.inventory_position_S
        order_N = self._order_A[action_N]
        outcome = self._simulator.step(order_N, demand_N=self._draw_demand_N(), lead_time_N=self._lead_time_N)
        if self._reward == "cost":
            return -outcome.cost_N
        return tiered_reward_N(
            position_N,
            order_N=order_N,
            mean_demand_N=self._mean_N,
            lead_time_N=self._lead_time_N,
            review_period_N=np.ones_like(self._lead_time_N),
        )

    def _draw_demand_N(self) -> FloatArray:
        columns = [law.draw(self._random, size=(self._copies,)) for law in self._laws]
        return np.stack(columns, axis=1).ravel()

    def _restarted(self, state: InventoryState, *, is_new_N: npt.NDArray[np.bool_]) -> Simulator:
        """A simulator whose new rows have a fresh stock and whose others go on."""
        fresh_N = self._random.integers(self._max_start, size=len(is_new_N), endpoint=True).astype(np.float32)
        start = InventoryState(
            on_hand_S=np.where(is_new_N, fresh_N, state.on_hand_S),
            on_order_SL=np.where(is_new_N[:, None], np.float32(0), state.on_order_SL),
            backorder_S=state.backorder_S,
            reserved_S=state.reserved_S,
        )
        return Simulator(start, costs=self._costs, max_lead_time=state.on_order_SL.shape[1])
