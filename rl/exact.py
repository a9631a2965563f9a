"""Lost-sales inventory under a known demand law, solved and judged exactly: the optimum that learners are held to.

A period is that of :mod:`rl.simulator` with review period 1: an order placed in period t is on the shelf at the start
of period t + L, L >= 1; demand that the shelf cannot meet is lost; cost is h (x - d)+ + p (d - x)+, plus a fixed cost
per order; the figure is the long-run average per period (Zipkin 2008).

A state is (on hand after today's arrival, arrival of the next period, ..., arrival in L - 1 periods).

Shapes: X units on hand, M states, L entries of a state, D demands, A feasible orders.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from rl.demand import DemandLaw

IntArray = npt.NDArray[np.int64]
WideArray = npt.NDArray[np.float64]

OrderOf = Callable[[IntArray], IntArray]
"""A policy: states (M, L) -> orders (M,), whole units."""

_MAX_ITERATIONS = 20_000
# Weight of staying in a state: makes chains aperiodic that a minimum order could make periodic. Changes no average.
_LAZY = 0.02
# Of each entry of a state packed into 64 bits: six entries of up to 1,023 units.
_BITS = 10
_MAX_LEAD_TIME = 6


@dataclass(frozen=True, kw_only=True)
class LostSalesProblem:
    """One instance.

    Parameters
    ----------
    lead_time
        L >= 1, periods.
    penalty, holding, fixed_cost
        Per lost unit; per unit at the end of a period; per order placed.
    pack_size, min_order_qty, order_cap
        A feasible order is 0, or a multiple of the pack within minimum and cap. No cap: None.
    """

    law: DemandLaw
    lead_time: int
    penalty: float
    holding: float = 1.0
    fixed_cost: float = 0.0
    pack_size: int = 1
    min_order_qty: int = 0
    order_cap: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.lead_time <= _MAX_LEAD_TIME:
            raise ValueError(f"lead_time must be in 1..{_MAX_LEAD_TIME}, got {self.lead_time}")
        if not (self.penalty > 0 and self.holding > 0 and self.fixed_cost >= 0):
            raise ValueError("penalty and holding must be > 0 and fixed_cost >= 0")
        if self.pack_size < 1 or self.min_order_qty < 0:
            raise ValueError("pack_size must be >= 1 and min_order_qty >= 0")
        if self.order_cap is not None and self.lot > self.order_cap:
            raise ValueError(f"no order is feasible: the smallest is {self.lot}, the cap {self.order_cap}")

    @property
    def critical_ratio(self) -> float:
        """Newsvendor ratio p / (p + h)."""
        return self.penalty / (self.penalty + self.holding)

    @property
    def base_stock_bound(self) -> int:
        """Newsvendor level of demand over L + 1 periods: no optimal policy without lot sizes orders beyond it."""
        cumulative_D = np.cumsum(self.law.probability_of_sum_D(self.lead_time + 1))
        return int(np.searchsorted(cumulative_D, self.critical_ratio))

    def orders_up_to(self, largest: int) -> IntArray:
        """Feasible orders up to a number of units, increasing, 0 first."""
        most = largest if self.order_cap is None else min(largest, self.order_cap)
        packs = np.arange(self.lot, most + 1, self.pack_size)
        return np.concatenate([[0], packs]).astype(np.int64)

    def feasible(self, wish_M: npt.ArrayLike) -> IntArray:
        """Wishes rounded up to what can be ordered, down to the cap."""
        packed_M = np.ceil(np.asarray(wish_M) / self.pack_size).astype(np.int64) * self.pack_size
        order_M = np.maximum(packed_M, self.lot)
        if self.order_cap is not None:
            order_M = np.minimum(order_M, self.order_cap // self.pack_size * self.pack_size)
        return np.where(packed_M > 0, order_M, 0)

    @property
    def lot(self) -> int:
        """Units that a positive order must have at least, and in packs."""
        return max(-(-self.min_order_qty // self.pack_size), 1) * self.pack_size

    @property
    def largest_sensible_order(self) -> int:
        """Where to begin looking for the largest order: a newsvendor's, a lot, and an economic order quantity."""
        newsvendor = int(np.searchsorted(np.cumsum(self.law.probability_D), self.critical_ratio))
        return newsvendor + self.lot + int(np.sqrt(2 * self.fixed_cost * self.law.mean / self.holding))

    def period_cost_X(self, most: int) -> WideArray:
        """Expected cost of a period that starts with 0..most units on the shelf."""
        probability_D = self.law.probability_D
        left_XD = np.arange(most + 1)[:, None] - np.arange(len(probability_D))
        cost_XD = self.holding * np.maximum(left_XD, 0) + self.penalty * np.maximum(-left_XD, 0)
        return cost_XD @ probability_D

    def remaining_XX(self, most: int) -> WideArray:
        """Chance that 0..most units on the shelf (rows) leave 0..most units (columns)."""
        probability_D = self.law.probability_D
        at_least_D = np.concatenate([np.cumsum(probability_D[::-1])[::-1], [0.0]])
        sold_XX = np.arange(most + 1)[:, None] - np.arange(most + 1)
        in_reach_XX = np.minimum(np.maximum(sold_XX, 0), len(probability_D))
        chance_XX = np.where(sold_XX >= 0, np.append(probability_D, 0.0)[in_reach_XX], 0.0)
        chance_XX[:, 0] = at_least_D[np.minimum(np.arange(most + 1), len(probability_D))]
        return chance_XX


@dataclass(frozen=True, kw_only=True)
class PolicyTable:
    """What a policy does in every state that it can reach from an empty shelf, and what that costs.

    ``state_ML`` rows are sorted; ``cost`` is the long-run average per period, exact up to 1e-8 of itself.
    """

    state_ML: IntArray
    order_M: IntArray
    cost: float


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """The least average cost, and the order that it takes."""

    cost: float
    order_of: OrderOf


class Transition:
    """What follows a period, on a box of states: 0..``most`` on hand and a pipeline of feasible orders."""

    def __init__(self, problem: LostSalesProblem, *, most: int, orders_A: IntArray) -> None:
        self._most = most
        self._orders_A = orders_A
        self._pipeline = problem.lead_time - 1
        self._cost_X = problem.period_cost_X(most)
        self._remaining_XX = problem.remaining_XX(most)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a value table: (X, A, ..., A), one A for each order on its way."""
        return (self._most + 1,) + (len(self._orders_A),) * self._pipeline

    def index(self, state_ML: IntArray) -> tuple[IntArray, ...]:
        """Places of states in a value table; states beyond the box are those at its edge."""
        places = [np.minimum(state_ML[:, 0], self._most)]
        last = len(self._orders_A) - 1
        places += [np.minimum(np.searchsorted(self._orders_A, column), last) for column in state_ML[:, 1:].T]
        return tuple(places)

    def cost(self) -> WideArray:
        """Expected cost of this period, for every state."""
        return self._cost_X.reshape(-1, *(1,) * self._pipeline)

    def expected(self, value: WideArray) -> WideArray:
        """Expected value of the next state for every state and every order placed now: (*shape, A)."""
        if not self._pipeline:
            return self._after(value, self._orders_A)
        option = np.empty((*self.shape, len(self._orders_A)))
        for k in range(len(self._orders_A)):
            option[:, k] = self._after_arrival(value, k)
        return option

    def backup(self, value: WideArray, *, order_cost_A: WideArray) -> tuple[WideArray, npt.NDArray[np.int16]]:
        """Least cost from every state on, and the order that has it; never holds all options at once."""
        if not self._pipeline:
            option = self._after(value, self._orders_A) + order_cost_A
            return option.min(-1) + self.cost(), option.argmin(-1).astype(np.int16)
        least, action = np.empty(self.shape), np.empty(self.shape, dtype=np.int16)
        for k in range(len(self._orders_A)):
            option = self._after_arrival(value, k) + order_cost_A
            least[:, k], action[:, k] = option.min(-1), option.argmin(-1)
        return least + self.cost(), action

    def cost_at_arrival(self) -> WideArray:
        """Expected cost of the period in which the order placed now arrives: (*shape, A)."""
        value = self._cost_X
        for _period in range(self._pipeline + 1):
            value = self._after(value, self._orders_A)
        return value

    def _after(self, value: WideArray, arriving_A: IntArray) -> WideArray:
        """Expected value once each arrival has joined what is left on the shelf: (X, A, *value.shape[1:])."""
        columns = [
            self._remaining_XX @ value[self._shelf(int(units))].reshape(self._most + 1, -1) for units in arriving_A
        ]
        return np.stack(columns, axis=1).reshape(self._most + 1, len(arriving_A), *value.shape[1:])

    def _after_arrival(self, value: WideArray, k: int) -> WideArray:
        following = value[self._shelf(int(self._orders_A[k]))].reshape(self._most + 1, -1)
        rest = (len(self._orders_A),) * self._pipeline
        return (self._remaining_XX @ following).reshape(self._most + 1, *rest)

    def _shelf(self, arriving: int) -> IntArray:
        return np.minimum(np.arange(self._most + 1) + arriving, self._most)


def solve(problem: LostSalesProblem, *, tolerance: float = 1e-7) -> Optimum:
    """Least average cost by relative value iteration (Puterman 1994, section 8.5).

    The largest order that is considered grows until the optimal policy no longer uses it. ``tolerance`` is the largest
    error of the cost, relative.
    """
    most_order = problem.largest_sensible_order
    while True:
        orders_A = problem.orders_up_to(most_order)
        optimum = _solve_in_box(problem, orders_A, tolerance=tolerance)
        largest = int(judge(problem, optimum.order_of).order_M.max())
        is_capped = problem.order_cap is not None and most_order >= problem.order_cap
        if largest < orders_A[-1] or is_capped:
            return optimum
        most_order += problem.lot + 2


def _solve_in_box(problem: LostSalesProblem, orders_A: IntArray, *, tolerance: float) -> Optimum:
    transition = Transition(problem, most=problem.base_stock_bound + int(orders_A[-1]), orders_A=orders_A)
    order_cost_A = problem.fixed_cost * (orders_A > 0).astype(np.float64)
    value = np.zeros(transition.shape)
    for _iteration in range(_MAX_ITERATIONS):
        updated, action = transition.backup(value, order_cost_A=order_cost_A)
        low, high = float((updated - value).min()), float((updated - value).max())
        value = updated - updated.flat[0]
        if high - low <= tolerance * max(low, 1e-12):
            break

    def order_of(state_ML: IntArray) -> IntArray:
        return orders_A[action[transition.index(state_ML)]]

    return Optimum(cost=(low + high) / 2, order_of=order_of)


def judge(problem: LostSalesProblem, order_of: OrderOf) -> PolicyTable:
    """Exact average cost of a policy: no simulation, so no noise.

    Every state that can be reached from an empty shelf is found; the cost is bounded from both sides by value iteration
    on that chain until the bounds meet.

    Raises
    ------
    ValueError
        If the policy answers something that cannot be ordered, or lets stock grow without end.
    """
    chain = _explore(problem, order_of)
    cost_M = problem.period_cost_X(int(chain.state_ML[:, 0].max()))[chain.state_ML[:, 0]]
    cost_M = cost_M + problem.fixed_cost * (chain.order_M > 0)
    value_M = np.zeros(len(cost_M))
    for _iteration in range(_MAX_ITERATIONS):
        change_M = cost_M + chain.transition_MM @ value_M - value_M
        low, high = float(change_M.min()), float(change_M.max())
        value_M += (1 - _LAZY) * change_M
        value_M -= value_M[0]
        if high - low <= 1e-8 * max(high, 1e-12):
            break
    order = np.lexsort(chain.state_ML.T[::-1])
    return PolicyTable(state_ML=chain.state_ML[order], order_M=chain.order_M[order], cost=(low + high) / 2)


@dataclass(frozen=True, kw_only=True)
class _Chain:
    """The states that a policy reaches from an empty shelf, its orders there, and the chances between them."""

    state_ML: IntArray
    order_M: IntArray
    transition_MM: sparse.csr_array


def _explore(problem: LostSalesProblem, order_of: OrderOf) -> _Chain:
    """Find the chain breadth first; states are packed into whole numbers, which sort and compare fast."""
    known = np.zeros(0, dtype=np.int64)
    frontier = np.zeros(1, dtype=np.int64)
    parts: list[tuple[IntArray, IntArray]] = []
    edges: list[tuple[IntArray, IntArray, WideArray]] = []
    while len(frontier):
        state_ML = _unpack(frontier, problem.lead_time)
        order_M = _checked(problem, state_ML, order_of)
        row, left, chance = _demands(problem, state_ML[:, 0])
        following_ML = np.concatenate([state_ML[row, 1:], order_M[row, None]], axis=1)
        following_ML[:, 0] += left
        following = _pack(following_ML)
        edges.append((frontier[row], following, chance))
        parts.append((state_ML, order_M))
        known = np.union1d(known, frontier)
        frontier = np.setdiff1d(following, known)
    state_ML = np.concatenate([part[0] for part in parts])
    by_key = np.argsort(_pack(state_ML))
    keys = known  # sorted, as union1d leaves it
    source, target, chance = (np.concatenate(column) for column in zip(*edges, strict=True))
    places = np.searchsorted(keys, source), np.searchsorted(keys, target)
    return _Chain(
        state_ML=state_ML[by_key],
        order_M=np.concatenate([part[1] for part in parts])[by_key],
        transition_MM=sparse.csr_array((chance, places), shape=(len(keys),) * 2),
    )


def _demands(problem: LostSalesProblem, on_hand_M: IntArray) -> tuple[IntArray, IntArray, WideArray]:
    """Every possible remainder of every shelf: row of the state, units left, chance."""
    chance_XX = problem.remaining_XX(int(on_hand_M.max()))
    lengths_M = on_hand_M + 1
    row = np.repeat(np.arange(len(on_hand_M)), lengths_M)
    left = np.arange(lengths_M.sum()) - np.repeat(np.cumsum(lengths_M) - lengths_M, lengths_M)
    chance = chance_XX[on_hand_M[row], left]
    is_possible = chance > 0
    return row[is_possible], left[is_possible], chance[is_possible]


def _checked(problem: LostSalesProblem, state_ML: IntArray, order_of: OrderOf) -> IntArray:
    order_M = np.asarray(order_of(state_ML), dtype=np.int64)
    wrong = np.flatnonzero((order_M < 0) | (order_M != problem.feasible(order_M)))
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(f"state {state_ML[row].tolist()}: {order_M[row]} units cannot be ordered in this problem")
    return order_M


def _pack(state_ML: IntArray) -> IntArray:
    if state_ML.max() >= 1 << _BITS:
        raise ValueError(f"the policy lets stock grow past {1 << _BITS} units; limit its inventory position")
    key_M = state_ML[:, 0].copy()
    for column in state_ML[:, 1:].T:
        key_M = (key_M << _BITS) | column
    return key_M


def _unpack(key_M: IntArray, lead_time: int) -> IntArray:
    shifts_L = _BITS * np.arange(lead_time - 1, -1, -1)
    return (key_M[:, None] >> shifts_L) & ((1 << _BITS) - 1)
