"""The simulator's face for learning: thousands of rows stepped at once, observation and reward as arrays.

A row is one series of a replay that starts at a random period with a random stock. Everything that forecast and terms
say about (series, period) is computed once, so a step is a gather, the observation, and the simulator.

Shapes: N rows, S series, T periods, F observation columns, G hindsight columns, A actions, L periods until arrival.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from rl.inventory import FloatArray, IntArray, InventoryState, SupplyTerms
from rl.network import NUM_PROFILE_POINTS, OBSERVATION_NAMES, Context, order_wish
from rl.observation import UNLIMITED_QTY
from rl.packed import EnvData, live_through, observe_state
from rl.rewards import RewardMode, tiered_reward_N
from rl.siblings import Moment, Siblings, live_again
from rl.simulator import Simulator

_REWARD_SCALE = 0.1
_MAX_START_COVER = 1.3
_PIPELINE_SHARE = 0.7
_HINDSIGHT = 12
# Columns of the observation in which a critic is shown how far a row has come from its twin.
_GAPS = [*range(NUM_PROFILE_POINTS), OBSERVATION_NAMES.index("net_minus_next_period")]


Greedy = Callable[[Tensor], Tensor]
"""Observations (N, F) -> actions (N,)."""


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

    def begin_block(self, greedy: Greedy) -> None:
        """Restart the rows that need it or are drawn; called before the first step of every block.

        ``greedy`` is the policy as it stands, without exploration, for what an environment compares its rows with.
        """
        ...

    def observe(self) -> Tensor:
        """Observation and hindsight of every row, (N, F + G) float32."""
        ...

    def step(self, action_N: Tensor) -> Tensor:
        """Act in every row for one period; reward of each, (N,) float32."""
        ...

    def siblings(self) -> Siblings | None:
        """What other first actions would have led to in the block that has ended; None where nobody asked."""
        ...


class ReplayEnv:
    """Rows of a packed replay, restarted at random series, periods and stocks.

    With ``twins``, beside every row runs its twin: at the start of a block a copy of the row, then ordered for by the
    greedy policy through the same demand and lead times. The reward is what the row saved against its twin: the luck of
    demand, which no order can change, is in both and cancels; what is left is what exploration did. Without, it is what
    the row saved against the tuned rule's mean cost: the same for a state and an action at all times, as a replay ring
    needs it. The ``tiered`` reward pays for the moment of ordering instead, and has no twins and no siblings.

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
    reward
        ``cost``, or ``tiered``: :func:`rl.rewards.tiered_reward_N`, a tenth of it.
    twins
        Whether rows have twins.
    sibling_periods
        Periods that :meth:`siblings` are followed for; 0 for none.
    gamma
        Discount of what siblings earn.
    seed
        Of series, periods and stocks.
    """

    def __init__(
        self,
        data: EnvData,
        *,
        num_rows: int,
        block_periods: int,
        restart_share: float = 0.25,
        reward: RewardMode = "cost",
        twins: bool = True,
        sibling_periods: int = 0,
        gamma: float = 1.0,
        seed: int = 0,
    ) -> None:
        if not 1 <= block_periods < data.num_periods:
            raise ValueError(
                f"a block of {block_periods} periods does not fit a replay of {data.num_periods}; "
                "lower policy.rollout_periods or raise split.policy_periods"
            )
        self._data = data
        self._block_periods = block_periods
        self._restart_share = restart_share
        self._reward = reward
        self._random = np.random.default_rng(seed)
        self._context = data.context_tensors()
        self._hindsight = _make_hindsight(data, self._context)
        self._weight_S = reward_weight_S(data.baseline_cost_S)
        self._series_N = np.zeros(num_rows, dtype=np.int64)
        self._period_N = np.full(num_rows, data.num_periods, dtype=np.int64)
        self._rows: Simulator | None = None
        self._has_twins = twins and reward == "cost"
        self._twins: Simulator | None = None
        self._sibling_periods = sibling_periods if reward == "cost" else 0
        self._gamma = gamma
        self._past: list[Moment] = []

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
        return int(self._hindsight.shape[1]) + (len(_GAPS) if self._has_twins else 0)

    @property
    def num_actions(self) -> int:
        """A: actions to choose from."""
        return self._data.grid.num_actions

    def begin_block(self, greedy: Greedy) -> None:
        """Restart rows whose replay ends within the block, and a share of the others; twins start as their rows."""
        self._greedy = greedy
        self._past.clear()
        is_ending_N = self._period_N + self._block_periods >= self._data.num_periods
        is_drawn_N = self._random.random(self.num_rows) < self._restart_share
        rows = np.flatnonzero(is_ending_N | is_drawn_N)
        self._series_N[rows] = self._random.integers(self._data.num_series, size=len(rows))
        latest = self._data.num_periods - self._block_periods
        self._period_N[rows] = self._random.integers(latest, size=len(rows))
        self._terms = self._data.terms.take(self._series_N)
        series_N = self._series_N[rows]
        fresh = draw_stock(
            self._context.take(self._data.context_rows(self._period_N[rows], series_N)),
            self._data.terms.take(series_N),
            columns=max(self._data.max_lead_time, 1),
            random=self._random,
        )
        self._rows = self._restarted(self._rows, rows, fresh)
        if self._has_twins:
            self._twins = self._simulator(self._rows.observe())

    def observe(self) -> Tensor:
        """Observation of every row, then hindsight: (N, F + G) float32."""
        assert self._rows is not None, "call begin_block first"
        self._state = self._rows.observe()
        self._now = self._context.take(self._data.context_rows(self._period_N, self._series_N))
        moment_N = torch.from_numpy(self._period_N * self._data.num_series + self._series_N)
        seen_NF = observe_state(self._now, self._state)
        gaps = [] if self._twins is None else [self._observe_gap(self._twins, seen_NF)]
        return torch.cat([seen_NF, *gaps, self._hindsight.index_select(0, moment_N)], 1)

    def step(self, action_N: Tensor) -> Tensor:
        """Order, sell and account for one period; call :meth:`observe` before."""
        assert self._rows is not None, "call begin_block first"
        order_N, cost_N = self._advance(self._rows, self._state, action_N)
        reward_N = self._tiered_N(order_N) if self._reward == "tiered" else self._saved_N(cost_N)
        if self._sibling_periods:
            self._past.append(Moment(state=self._state, period_N=self._period_N.copy(), action_N=action_N))
        self._period_N += 1
        return torch.from_numpy(reward_N)

    def siblings(self) -> Siblings | None:
        """Of every moment that has ``sibling_periods`` in the block."""
        if not self._sibling_periods:
            return None
        return live_again(
            self._past,
            greedy=self._greedy,
            data=self._data,
            context=self._context,
            hindsight=self._hindsight,
            series_N=self._series_N,
            weight_S=self._weight_S,
            num_periods=self._sibling_periods,
            gamma=self._gamma,
            random=self._random,
        )

    def _observe_gap(self, twins: Simulator, seen_NF: Tensor) -> Tensor:
        """How far each row has come from its twin, in spreads of demand."""
        self._twin_state = twins.observe()
        self._twin_seen_NF = observe_state(self._now, self._twin_state)
        in_spreads_N = self._now.scalar_SC[:, 0] / self._now.spread_S
        gap_NG = (seen_NF[:, _GAPS] - self._twin_seen_NF[:, _GAPS]) * in_spreads_N.unsqueeze(1)
        return gap_NG.clamp(-10, 10)

    def _saved_N(self, cost_N: FloatArray) -> FloatArray:
        if self._twins is None:
            usual_N = self._data.baseline_cost_S[self._series_N]
        else:
            _, usual_N = self._advance(self._twins, self._twin_state, self._greedy(self._twin_seen_NF))
        return (usual_N - cost_N) * self._weight_S[self._series_N]

    def _tiered_N(self, order_N: FloatArray) -> FloatArray:
        reward_N = tiered_reward_N(
            self._state.inventory_position_S,
            order_N=order_N,
            mean_demand_N=(self._now.scalar_SC[:, 3] / self._now.scalar_SC[:, 7]).numpy(),
            lead_time_N=self._terms.lead_time_S,
            review_period_N=self._terms.review_period_S,
        )
        return reward_N * np.float32(_REWARD_SCALE)

    def _advance(self, simulator: Simulator, state: InventoryState, action_N: Tensor) -> tuple[FloatArray, FloatArray]:
        wish_N = order_wish(self._now, action_N, torch.from_numpy(state.inventory_position_S))
        return live_through(
            self._data,
            simulator,
            wish_N=wish_N.numpy(),
            state=state,
            terms=self._terms,
            period_N=self._period_N,
            series_N=self._series_N,
        )

    def _restarted(self, simulator: Simulator | None, rows: IntArray, fresh: InventoryState) -> Simulator:
        state = fresh
        if simulator is not None:
            state = simulator.observe()
            for name in ("on_hand_S", "on_order_SL", "backorder_S", "reserved_S"):
                getattr(state, name)[rows] = getattr(fresh, name)
        return self._simulator(state)

    def _simulator(self, state: InventoryState) -> Simulator:
        return Simulator(state, costs=self._terms.costs, max_lead_time=self._data.max_lead_time)


def draw_stock(context: Context, terms: SupplyTerms, *, columns: int, random: np.random.Generator) -> InventoryState:
    """Opening stocks to learn from: whole units up to 1.3 times a level of the grid, part of them on order.

    For a fixed quantity, which has no level, the anchor's. What is on order comes in one random period within the lead
    time; ``columns`` is the length of the pipeline.
    """
    count = len(terms)
    level_NA = context.level_SA.numpy()
    level_N = level_NA[np.arange(count), random.integers(level_NA.shape[1], size=count)]
    level_N = np.where(level_N < UNLIMITED_QTY, level_N, level_NA[:, -1])
    stock_N = np.round(level_N * random.uniform(0, _MAX_START_COVER, size=count))
    coming_N = np.floor(stock_N * random.uniform(0, _PIPELINE_SHARE, size=count))
    on_order_NL = np.zeros((count, columns), dtype=np.float32)
    on_order_NL[np.arange(count), random.integers(np.maximum(terms.lead_time_S, 1))] = coming_N
    zeros_N = np.zeros(count, dtype=np.float32)
    return InventoryState(
        on_hand_S=(stock_N - coming_N).astype(np.float32),
        on_order_SL=on_order_NL,
        backorder_S=zeros_N,
        reserved_S=zeros_N.copy(),
    )


def _make_hindsight(data: EnvData, context: Context) -> Tensor:
    """Demand of the next periods, summed, less its expectation, scaled: one row per (period, series).

    A critic that sees what is coming leaves the luck of demand out of the advantages; the actor never sees it (Mao et
    al. 2019: a baseline may depend on inputs that no action changes).
    """
    T, S = data.demand_TS.shape
    padded_TS = np.concatenate([data.demand_TS, np.repeat(data.demand_TS.mean(0, keepdims=True), _HINDSIGHT, axis=0)])
    # One row where the context is the same in all periods, else T.
    scale_TS = context.spread_S.numpy().reshape(-1, S)
    rate_TS = context.scalar_SC[:, 1].numpy().reshape(-1, S)
    total_TS = np.zeros_like(data.demand_TS)
    columns = []
    for ahead in range(_HINDSIGHT):
        total_TS = total_TS + padded_TS[ahead : ahead + T]
        columns.append((total_TS - rate_TS * (ahead + 1)) / scale_TS)
    return torch.from_numpy(np.stack(columns, axis=2).reshape(T * S, _HINDSIGHT)).clamp(-10, 10)


def reward_weight_S(baseline_cost_S: FloatArray) -> FloatArray:
    """Reward per unit of money: halfway (in logarithms) between equal series and equal money.

    Money alone would let a few expensive series drown the rest in noise; equal series alone would train for a figure
    that nobody reports.
    """
    mean = max(float(baseline_cost_S.mean()), 1e-9)
    floored_S = np.maximum(baseline_cost_S, 0.1 * mean)
    return (_REWARD_SCALE / np.sqrt(floored_S * mean)).astype(np.float32)
