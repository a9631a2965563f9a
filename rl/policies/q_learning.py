"""Tabular Q-learning (Watkins & Dayan 1992): the textbook reference, for state spaces small enough to list.

``docs/policies/q_learning.md`` has the formula of every metric and every deviation from the paper.

Shapes: N rows stepped at once, X states, A actions, S series (or simulated rows), L periods until arrival.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from forecasting.forecast import Forecast
from rl.inventory import FloatArray, IntArray, InventoryState, SupplyTerms

WideArray = npt.NDArray[np.float64]


class TableTask(Protocol):
    """What the learner steps: N rows of a task whose states are numbered. Rows never end."""

    @property
    def num_states(self) -> int:
        """X: states, numbered from 0."""
        ...

    @property
    def num_actions(self) -> int:
        """A: actions to choose from, in every state."""
        ...

    def begin_block(self) -> None:
        """Restart the rows that need it or are drawn; called before the first step of every block."""
        ...

    def observe(self) -> IntArray:
        """State of every row, (N,)."""
        ...

    def step(self, action_N: IntArray) -> FloatArray:
        """Act in every row for one period; reward of each, (N,)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class QSettings:
    """How a table learns.

    Parameters
    ----------
    discount
        Gamma, per period, in [0, 1).
    epsilon
        Chance of a uniformly random action.
    learning_rate, visit_power
        The n-th update of a pair of state and action moves its value by ``learning_rate / n ** visit_power`` of the
        error. A power of 0 is a constant rate, which follows for ever and never settles; above 1/2 and up to 1 the
        values converge (Watkins & Dayan 1992, the theorem's conditions).
    initial_value
        Of every pair. Near the mean reward / (1 - discount) the table has only differences to learn.
    seed
        Of exploration.
    """

    discount: float = 0.9
    epsilon: float = 0.1
    learning_rate: float = 0.1
    visit_power: float = 0.0
    initial_value: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.discount < 1 and 0 <= self.epsilon <= 1):
            raise ValueError(f"discount must be in [0, 1) and epsilon in [0, 1], got {self.discount}, {self.epsilon}")
        if not (0 < self.learning_rate <= 1 and 0 <= self.visit_power <= 1):
            raise ValueError(
                f"learning_rate must be in (0, 1] and visit_power in [0, 1], got {self.learning_rate}, "
                f"{self.visit_power}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class QPoint:
    """Metrics of one stretch of learning; formulas in ``docs/policies/q_learning.md``."""

    steps: int
    mean_reward: float
    td_error_abs_mean: float
    q_mean: float
    visited_share: float


class QTable:
    """Values of all pairs of state and action, learned from transitions of many rows at once.

    Parameters
    ----------
    num_states, num_actions
        X and A.
    settings
        How it learns.

    Attributes
    ----------
    value_XA
        Q: discounted reward to come.
    visits_XA
        Updates of each pair.

    >>> table = QTable(num_states=2, num_actions=2, settings=QSettings(discount=0.5, learning_rate=0.1))
    >>> row = np.array([0])
    >>> error = table.update(state_N=row, action_N=row + 1, reward_N=np.array([10.0]), next_state_N=row + 1)
    >>> table.value_XA.tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """

    def __init__(self, *, num_states: int, num_actions: int, settings: QSettings) -> None:
        self.value_XA: WideArray = np.full((num_states, num_actions), settings.initial_value)
        self.visits_XA: IntArray = np.zeros((num_states, num_actions), dtype=np.int64)
        self._settings = settings
        self._random = np.random.default_rng(settings.seed)

    @property
    def greedy_X(self) -> IntArray:
        """The action of the highest value in each state; of equals the first."""
        return self.value_XA.argmax(axis=1)

    def explore(self, state_N: IntArray) -> IntArray:
        """Greedy actions, and with chance epsilon uniformly random ones."""
        count, num_actions = len(state_N), self.value_XA.shape[1]
        is_random_N = self._random.random(count) < self._settings.epsilon
        random_N = self._random.integers(num_actions, size=count)
        return np.where(is_random_N, random_N, self.value_XA[state_N].argmax(axis=1))

    def update(
        self,
        *,
        state_N: IntArray,
        action_N: IntArray,
        reward_N: npt.NDArray[np.floating],
        next_state_N: IntArray,
    ) -> float:
        """Move the value of every pair that was acted on towards the mean of its rows' targets.

        A row's target is reward + discount * max over actions of the next state's value, all values from before the
        update.

        Returns
        -------
        Mean absolute error of the rows: |target - value|.
        """
        target_N = reward_N + self._settings.discount * self.value_XA[next_state_N].max(axis=1)
        pair_N = state_N * self.value_XA.shape[1] + action_N
        error_N = target_N - self.value_XA.flat[pair_N]
        count = np.bincount(pair_N, minlength=self.value_XA.size)
        pairs = np.flatnonzero(count)
        self.visits_XA.flat[pairs] += 1
        rate = self._settings.learning_rate / self.visits_XA.flat[pairs] ** self._settings.visit_power
        total = np.bincount(pair_N, weights=error_N, minlength=self.value_XA.size)
        self.value_XA.flat[pairs] += rate * total[pairs] / count[pairs]
        return float(np.abs(error_N).mean())


def learn_table(
    task: TableTask, *, settings: QSettings, num_periods: int, block_periods: int = 32, num_points: int = 10
) -> tuple[QTable, list[QPoint]]:
    """Learn a table by acting in a task.

    Parameters
    ----------
    num_periods
        Periods that every row lives through.
    block_periods
        Periods between two calls of the task's ``begin_block``.
    num_points
        Length of the curve: each point is the mean over its stretch of periods.
    """
    table = QTable(num_states=task.num_states, num_actions=task.num_actions, settings=settings)
    curve: list[QPoint] = []
    rewards: list[float] = []
    errors: list[float] = []
    steps = 0
    for period in range(num_periods):
        if period % block_periods == 0:
            task.begin_block()
        state_N = task.observe()
        action_N = table.explore(state_N)
        reward_N = task.step(action_N)
        errors.append(table.update(state_N=state_N, action_N=action_N, reward_N=reward_N, next_state_N=task.observe()))
        rewards.append(float(reward_N.mean()))
        steps += len(state_N)
        if (period + 1) * num_points // num_periods > len(curve):
            curve.append(_make_point(table, steps=steps, rewards=rewards, errors=errors))
            rewards, errors = [], []
    return table, curve


def _make_point(table: QTable, *, steps: int, rewards: list[float], errors: list[float]) -> QPoint:
    is_visited_XA = table.visits_XA > 0
    return QPoint(
        steps=steps,
        mean_reward=float(np.mean(rewards)),
        td_error_abs_mean=float(np.mean(errors)),
        q_mean=float(table.value_XA[is_visited_XA].mean()),
        visited_share=float(is_visited_XA.mean()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StockGrid:
    """Numbers the states of a stock: units on the shelf, then those that arrive in 1, 2, ... periods.

    Parameters
    ----------
    num_cells
        Cells of each of these quantities; the last cell holds everything beyond.
    width
        Units per cell.

    >>> grid = StockGrid(num_cells=(4, 3), width=5)
    >>> zero = np.zeros(2)
    >>> state = InventoryState(
    ...     on_hand_S=np.array([7.0, 99.0]), on_order_SL=np.array([[0.0], [10.0]]), backorder_S=zero, reserved_S=zero
    ... )
    >>> grid.number_S(state).tolist()
    [3, 11]
    """

    num_cells: tuple[int, ...]
    width: int = 1

    def __post_init__(self) -> None:
        if not self.num_cells or min(self.num_cells) < 1 or self.width < 1:
            raise ValueError(f"need cells >= 1 of width >= 1, got {self.num_cells} of {self.width}")

    @property
    def num_states(self) -> int:
        """X: states, numbered from 0."""
        return int(np.prod(self.num_cells))

    def number_S(self, state: InventoryState) -> IntArray:
        """Number of each series' state; more pipeline than the grid has columns for is not seen."""
        units = [state.on_hand_S, *state.on_order_SL.T][: len(self.num_cells)]
        number_S = np.zeros(len(state.on_hand_S), dtype=np.int64)
        for units_S, cells in zip(units, self.num_cells, strict=True):
            number_S = number_S * cells + np.minimum(units_S // self.width, cells - 1).astype(np.int64)
        return number_S


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePolicy:
    """A learned table as a policy: looks up the state and orders.

    Parameters
    ----------
    grid
        Numbers the states of one series.
    order_A
        Units that each action orders.
    action_GX
        Greedy action of each of G tables in each state.
    table_S
        Table that each series reads, 0..G - 1.
    """

    grid: StockGrid
    order_A: FloatArray
    action_GX: IntArray
    table_S: IntArray
    name: str = "q_learning"

    def order_quantity_S(self, state: InventoryState, forecast: Forecast, terms: SupplyTerms) -> FloatArray:
        """Units of the greedy action; forecast and terms are not looked at."""
        return self.order_A[self.action_GX[self.table_S, self.grid.number_S(state)]]
