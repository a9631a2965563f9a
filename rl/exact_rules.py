"""The rules of the lost-sales literature on whole-unit states, each at its exactly best parameters.

Shapes: X units on hand, M states, L entries of a state, A feasible orders.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rl.exact import IntArray, LostSalesProblem, OrderOf, PolicyTable, Transition, judge


@dataclass(frozen=True, kw_only=True)
class JudgedRule:
    """A rule at its best parameters and what it costs."""

    name: str
    parameters: dict[str, int]
    order_of: OrderOf
    table: PolicyTable


def base_stock_orders(problem: LostSalesProblem, *, level: int) -> OrderOf:
    """Order up to ``level``."""
    return lambda state_ML: problem.feasible(np.maximum(level - state_ML.sum(axis=1), 0))


def capped_base_stock_orders(problem: LostSalesProblem, *, level: int, cap: int) -> OrderOf:
    """Order up to ``level``, at most ``cap`` (Xin 2021)."""
    return lambda state_ML: problem.feasible(np.clip(level - state_ML.sum(axis=1), 0, cap))


def constant_orders(problem: LostSalesProblem, *, quantity: int) -> OrderOf:
    """Order the same in every period (asymptotically optimal in the lead time: Goldberg et al. 2016)."""
    return lambda state_ML: problem.feasible(np.full(len(state_ML), quantity))


def best_base_stock(problem: LostSalesProblem) -> JudgedRule:
    """Cheapest base-stock rule."""

    def cost_at(level: int) -> PolicyTable:
        return judge(problem, base_stock_orders(problem, level=level))

    # Holding counts once for each period that an order waits for: a good guess, and smaller chains than from the bound.
    ratio = problem.penalty / (problem.penalty + (problem.lead_time + 1) * problem.holding)
    cumulative_D = np.cumsum(problem.law.probability_of_sum_D(problem.lead_time + 1))
    level, table = _descend(cost_at, start=max(int(np.searchsorted(cumulative_D, ratio)), 1), floor=1)
    return JudgedRule(
        name="base_stock", parameters={"level": level}, order_of=base_stock_orders(problem, level=level), table=table
    )


def best_capped_base_stock(problem: LostSalesProblem) -> JudgedRule:
    """Cheapest capped base-stock rule: for each cap its own level, until larger and smaller caps are worse."""
    level = best_base_stock(problem).parameters["level"]
    levels: dict[int, int] = {}

    def cost_at(cap: int) -> PolicyTable:
        def of_level(candidate: int) -> PolicyTable:
            return judge(problem, capped_base_stock_orders(problem, level=candidate, cap=cap))

        near = levels[min(levels, key=lambda known: abs(known - cap))] if levels else level
        levels[cap], table = _descend(of_level, start=near, floor=1)
        return table

    start = int(np.ceil(1.5 * problem.law.mean))
    cap, table = _descend(cost_at, start=start, floor=max(int(problem.law.mean), 1))
    order_of = capped_base_stock_orders(problem, level=levels[cap], cap=cap)
    return JudgedRule(
        name="capped_base_stock", parameters={"level": levels[cap], "cap": cap}, order_of=order_of, table=table
    )


def best_constant_order(problem: LostSalesProblem) -> JudgedRule:
    """Cheapest constant order below the mean demand: at or above it stock would grow without end."""

    def cost_at(quantity: int) -> PolicyTable:
        # A full shelf orders nothing: the limit is far above what a constant order below the mean leaves behind.
        limit = problem.base_stock_bound * 4
        capped = capped_base_stock_orders(problem, level=limit, cap=quantity)
        return judge(problem, capped)

    most = max(int(np.ceil(problem.law.mean)) - 1, 1)
    quantity, table = _descend(cost_at, start=most, floor=1, ceiling=most)
    return JudgedRule(
        name="constant_order",
        parameters={"quantity": quantity},
        order_of=constant_orders(problem, quantity=quantity),
        table=table,
    )


def myopic(problem: LostSalesProblem, *, periods: int = 1) -> JudgedRule:
    """Least expected cost of the ``periods`` (1 or 2) that an order placed now reaches first (Zipkin 2008, section 4).

    With 2, the next order is taken to be the myopic one.
    """
    orders_A = problem.orders_up_to(problem.largest_sensible_order)
    transition = Transition(problem, most=problem.base_stock_bound + problem.lot, orders_A=orders_A)
    option = transition.cost_at_arrival()
    if periods > 1:
        option = option + transition.expected(option.min(axis=-1))
    best = option.argmin(axis=-1)

    def order_of(state_ML: IntArray) -> IntArray:
        return orders_A[best[transition.index(state_ML)]]

    name = "myopic" if periods == 1 else f"myopic_{periods}"
    return JudgedRule(name=name, parameters={}, order_of=order_of, table=judge(problem, order_of))


RULES: dict[str, Callable[[LostSalesProblem], JudgedRule]] = {
    "base_stock": best_base_stock,
    "capped_base_stock": best_capped_base_stock,
    "myopic": myopic,
    "myopic_2": lambda problem: myopic(problem, periods=2),
    "constant_order": best_constant_order,
}
"""Every rule by name."""


def _descend(
    cost_at: Callable[[int], PolicyTable], *, start: int, floor: int, ceiling: int | None = None
) -> tuple[int, PolicyTable]:
    """Cheapest whole number around ``start``: walks while it gets cheaper, and looks two steps past the last gain."""
    seen: dict[int, PolicyTable] = {start: cost_at(start)}
    best = start
    for direction in (-1, 1):
        at, worse = best, 0
        while worse < 2:
            at += direction
            if at < floor or (ceiling is not None and at > ceiling):
                break
            seen.setdefault(at, cost_at(at))
            worse = worse + 1 if seen[at].cost >= seen[best].cost else 0
            best = min(best, at, key=lambda key: seen[key].cost)
    return best, seen[best]
