"""The simulator's face for learning: thousands of rows stepped at once, observation and reward as arrays.

A row is one series of a replay that starts at a random period with a random stock. Everything that forecast and terms
say about (series, period) is computed once, so a step is a gather, the observation, and the simulator.

Shapes: N rows, S series, T periods, F observation columns, G hindsight columns, A actions, L periods until arrival.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rl.constraints import feasible_quantity_S, is_review_period_S
from rl.inventory import FloatArray, IntArray, InventoryState, SupplyTerms
from rl.network import OBSERVATION_NAMES, Context, ContextMaker, anchor_wish, observe, order_wish
from rl.observation import ActionGrid, make_forecast_inputs, make_state_inputs
from rl.scenarios import ReplayScenario
from rl.simulator import Simulator

_REWARD_SCALE = 0.1
_MAX_START_COVER = 1.3
_PIPELINE_SHARE = 0.7
_HINDSIGHT = 12
_NUM_SHADOW = 2


class ArrayEnv(Protocol):
    """What the array runner steps. Rows never end: a task without terminal states, cut into blocks."""

    @property
    def num_rows(self) -> int:
        """N: rows stepped at once."""
        ...

    @property
    def num_features(self) -> int:
        """F: numbers in an observation."""
        ...

    @property
    def num_hindsight(self) -> int:
        """G: further columns that only a critic may read: what the policy cannot know when it is served."""
        ...

    @property
    def num_actions(self) -> int:
        """A: actions to choose from."""
        ...

    def begin_block(self) -> None:
        """Restart the rows that need it or are drawn; called before the first step of every block."""
        ...

    def observe(self) -> Tensor:
        """Observation and hindsight of every row, (N, F + G) float32."""
        ...

    def step(self, action_N: Tensor) -> Tensor:
        """Act in every row for one period; reward of each, (N,) float32."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvData:
    """A replay, packed for stepping.

    Parameters
    ----------
    context
        One row per (period, series), row ``t * S + s``; arrays as :class:`rl.network.Context` names them.
    first_period
        Number of the first period on the panel's calendar: review periods are counted on it.
    demand_TS, lead_time_TS
        What happens in each period.
    start, terms
        Opening stock of the replay, and terms of every series.
    baseline_cost_S
        Average cost per period of the tuned textbook rule: the reward's zero.
    grid
        What the policy may order.
    """

    context: tuple[npt.NDArray[np.generic], ...]
    first_period: int
    demand_TS: FloatArray
    lead_time_TS: IntArray
    start: InventoryState
    terms: SupplyTerms
    baseline_cost_S: FloatArray
    grid: ActionGrid

    @property
    def num_series(self) -> int:
        """S: series of the category."""
        return len(self.terms)

    @property
    def num_periods(self) -> int:
        """T: periods of the replay."""
        return len(self.demand_TS)

    def context_tensors(self) -> Context:
        """The packed context as tensors."""
        # A copy: arrays that come out of Ray's shared memory are read-only, which torch does not support.
        return Context(*(torch.tensor(part) for part in self.context))


def make_env_data(scenario: ReplayScenario, *, baseline_cost_S: FloatArray, grid: ActionGrid) -> EnvData:
    """Pack a replay: contexts of all periods, demand and lead times by period."""
    make_context = ContextMaker(grid)
    parts = []
    for forecast in scenario.forecasts:
        inputs = make_forecast_inputs(forecast, scenario.terms, grid=grid)
        parts.append(make_context(**{name: torch.tensor(value) for name, value in inputs.items()}))
    packed = tuple(torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return EnvData(
        context=packed,
        first_period=scenario.first_period,
        demand_TS=np.ascontiguousarray(scenario.demand_NT.T, dtype=np.float32),
        lead_time_TS=np.ascontiguousarray(scenario.lead_time_NT.T, dtype=np.int64),
        start=scenario.start,
        terms=scenario.terms,
        baseline_cost_S=baseline_cost_S.astype(np.float32),
        grid=grid,
    )


class ReplayEnv:
    """Rows of a packed replay, restarted at random series, periods and stocks.

    Beside every row a shadow row is ordered for by the grid's anchor, an (s, S) rule, from the same opening stock
    through the same demand and lead times. The reward is what the row saved against its shadow: the luck of demand,
    which no order can change, is in both and cancels.

    Parameters
    ----------
    data
        The replay.
    num_rows
        N: rows stepped at once.
    block_periods
        Periods between two calls of :meth:`begin_block`; at most T - 1.
    restart_share
        Share of rows restarted at every block, so that exploration cannot pile up stock for good.
    seed
        Of series, periods and stocks.
    """

    def __init__(
        self, data: EnvData, *, num_rows: int, block_periods: int, restart_share: float = 0.25, seed: int = 0
    ) -> None:
        if not 1 <= block_periods < data.num_periods:
            raise ValueError(
                f"a block of {block_periods} periods does not fit a replay of {data.num_periods}; "
                "lower policy.rollout_periods or raise split.policy_periods"
            )
        self._data = data
        self._block_periods = block_periods
        self._restart_share = restart_share
        self._random = np.random.default_rng(seed)
        self._context = data.context_tensors()
        self._hindsight = _make_hindsight(data, self._context)
        self._max_lead_time = int(max(data.lead_time_TS.max(), data.terms.lead_time_S.max()))
        self._weight_S = _reward_weight_S(data.baseline_cost_S)
        self._series_N = np.zeros(num_rows, dtype=np.int64)
        self._period_N = np.full(num_rows, data.num_periods, dtype=np.int64)
        self._rows: Simulator | None = None
        self._shadows: Simulator | None = None

    @property
    def num_rows(self) -> int:
        """N: rows stepped at once."""
        return len(self._series_N)

    @property
    def num_features(self) -> int:
        """F: numbers in an observation."""
        return len(OBSERVATION_NAMES)

    @property
    def num_hindsight(self) -> int:
        """Columns after the observation that only a critic may read."""
        return int(self._hindsight.shape[1]) + _NUM_SHADOW

    @property
    def num_actions(self) -> int:
        """A: actions to choose from."""
        return self._data.grid.num_actions

    def begin_block(self) -> None:
        """Restart rows whose replay ends within the block, and a share of the others."""
        is_ending_N = self._period_N + self._block_periods >= self._data.num_periods
        is_drawn_N = self._random.random(self.num_rows) < self._restart_share
        rows = np.flatnonzero(is_ending_N | is_drawn_N)
        self._series_N[rows] = self._random.integers(self._data.num_series, size=len(rows))
        latest = self._data.num_periods - self._block_periods
        self._period_N[rows] = self._random.integers(latest, size=len(rows))
        self._terms = self._data.terms.take(self._series_N)
        fresh = self._draw_stock(rows)
        self._rows = self._restarted(self._rows, rows, fresh)
        self._shadows = self._restarted(self._shadows, rows, fresh)

    def observe(self) -> Tensor:
        """Observation of every row, then hindsight: (N, F + G) float32."""
        assert self._rows is not None, "call begin_block first"
        assert self._shadows is not None
        self._state, self._shadow_state = self._rows.observe(), self._shadows.observe()
        index_N = torch.from_numpy(self._period_N * self._data.num_series + self._series_N)
        self._now = self._context.take(index_N)
        seen_NF = _observe_state(self._now, self._state)
        shadow_N2 = torch.from_numpy(
            np.stack([self._shadow_state.on_hand_S, self._shadow_state.inventory_position_S], axis=1)
        )
        gap_N2 = (shadow_N2 - self._now.scalar_SC[:, 3:4]) / self._now.scalar_SC[:, :1]
        return torch.cat([seen_NF, gap_N2.clamp(-10, 10), self._hindsight.index_select(0, index_N)], 1)

    def step(self, action_N: Tensor) -> Tensor:
        """Order, sell and account for one period; call :meth:`observe` before."""
        assert self._rows is not None, "call begin_block first"
        assert self._shadows is not None
        position_N = torch.from_numpy(self._state.inventory_position_S)
        cost_N = self._advance(self._rows, self._state, order_wish(self._now, action_N, position_N))
        position_N = torch.from_numpy(self._shadow_state.inventory_position_S)
        shadow_cost_N = self._advance(self._shadows, self._shadow_state, anchor_wish(self._now, position_N))
        self._period_N += 1
        return torch.from_numpy((shadow_cost_N - cost_N) * self._weight_S[self._series_N])

    def _advance(self, simulator: Simulator, state: InventoryState, wish_N: Tensor) -> FloatArray:
        is_review_N = is_review_period_S(self._terms, period=self._data.first_period + self._period_N)
        order_N = feasible_quantity_S(wish_N.numpy(), state=state, terms=self._terms, is_review_S=is_review_N)
        outcome = simulator.step(
            order_N,
            demand_N=self._data.demand_TS[self._period_N, self._series_N],
            lead_time_N=self._data.lead_time_TS[self._period_N, self._series_N],
        )
        return outcome.cost_N

    def _restarted(self, simulator: Simulator | None, rows: IntArray, fresh: InventoryState) -> Simulator:
        state = fresh
        if simulator is not None:
            state = simulator.observe()
            for name in ("on_hand_S", "on_order_SL", "backorder_S", "reserved_S"):
                getattr(state, name)[rows] = getattr(fresh, name)
        return Simulator(state, costs=self._terms.costs, max_lead_time=self._max_lead_time)

    def _draw_stock(self, rows: IntArray) -> InventoryState:
        """Whole units up to 1.3 times a level of the grid; a part of them on order for a random period."""
        series_N, count = self._series_N[rows], len(rows)
        context = self._context.take(torch.from_numpy(self._period_N[rows] * self._data.num_series + series_N))
        action_N = torch.from_numpy(self._random.integers(1, self.num_actions, size=count))
        level_N = order_wish(context, action_N, torch.zeros(count)).numpy()
        stock_N = np.round(level_N * self._random.uniform(0, _MAX_START_COVER, size=count))
        coming_N = np.floor(stock_N * self._random.uniform(0, _PIPELINE_SHARE, size=count))
        lead_time_N = np.maximum(self._data.terms.lead_time_S[series_N], 1)
        on_order_NL = np.zeros((count, max(self._max_lead_time, 1)), dtype=np.float32)
        on_order_NL[np.arange(count), self._random.integers(lead_time_N)] = coming_N
        zeros_N = np.zeros(count, dtype=np.float32)
        return InventoryState(
            on_hand_S=(stock_N - coming_N).astype(np.float32),
            on_order_SL=on_order_NL,
            backorder_S=zeros_N,
            reserved_S=zeros_N.copy(),
        )


def _observe_state(context: Context, state: InventoryState) -> Tensor:
    inputs = make_state_inputs(state)
    return observe(context, torch.from_numpy(inputs["net_S"]), torch.from_numpy(inputs["on_order_SL"]))


def _make_hindsight(data: EnvData, context: Context) -> Tensor:
    """Demand of the next periods, summed, less its expectation, scaled: one row per (period, series).

    A critic that sees what is coming leaves the luck of demand out of the advantages; the actor never sees it (Mao et
    al. 2019: a baseline may depend on inputs that no action changes).
    """
    T, S = data.demand_TS.shape
    padded_TS = np.concatenate([data.demand_TS, np.repeat(data.demand_TS.mean(0, keepdims=True), _HINDSIGHT, axis=0)])
    scale_TS = context.scalar_SC[:, 0].numpy().reshape(T, S)
    rate_TS = context.scalar_SC[:, 1].numpy().reshape(T, S)
    total_TS = np.zeros_like(data.demand_TS)
    columns = []
    for ahead in range(_HINDSIGHT):
        total_TS = total_TS + padded_TS[ahead : ahead + T]
        columns.append((total_TS - rate_TS * (ahead + 1)) / scale_TS)
    return torch.from_numpy(np.stack(columns, axis=2).reshape(T * S, _HINDSIGHT)).clamp(-10, 10)


def replay_cost_S(data: EnvData, choose: Callable[[Tensor], Tensor]) -> FloatArray:
    """Average cost per period of each series when ``choose`` maps observations to actions, from the replay's start.

    The same arithmetic and the same figures as :func:`rl.evaluate.replay` of the exported policy.
    """
    context = data.context_tensors()
    S = data.num_series
    max_lead_time = int(max(data.lead_time_TS.max(), data.terms.lead_time_S.max()))
    simulator = Simulator(data.start, costs=data.terms.costs, max_lead_time=max_lead_time)
    total_S = np.zeros(S)
    for period in range(data.num_periods):
        state = simulator.observe()
        now = context.take(torch.arange(period * S, (period + 1) * S))
        action_S = choose(_observe_state(now, state))
        wish_S = order_wish(now, action_S, torch.from_numpy(state.inventory_position_S)).numpy()
        is_review_S = is_review_period_S(data.terms, period=data.first_period + period)
        order_S = feasible_quantity_S(wish_S, state=state, terms=data.terms, is_review_S=is_review_S)
        outcome = simulator.step(order_S, demand_N=data.demand_TS[period], lead_time_N=data.lead_time_TS[period])
        total_S += outcome.cost_N
    return (total_S / data.num_periods).astype(np.float32)


def _reward_weight_S(baseline_cost_S: FloatArray) -> FloatArray:
    """Reward per unit of money: halfway (in logarithms) between equal series and equal money.

    Money alone would let a few expensive series drown the rest in noise; equal series alone would train for a figure
    that nobody reports.
    """
    mean = max(float(baseline_cost_S.mean()), 1e-9)
    floored_S = np.maximum(baseline_cost_S, 0.1 * mean)
    return (_REWARD_SCALE / np.sqrt(floored_S * mean)).astype(np.float32)
