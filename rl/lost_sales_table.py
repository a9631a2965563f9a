"""Q-learning on a lost-sales instance whose optimum is known: what a table can do, held to the exact judge.

Shapes: D demands, M states, L entries of a state, A feasible orders.
"""

import numpy as np

from rl.demand import WideArray
from rl.exact import IntArray, LostSalesProblem, OrderOf
from rl.inventory import CostRates, InventoryState
from rl.policies.q_learning import QSettings, StockGrid, learn_table
from rl.stock_task import StockTask

_BEYOND = 6


def learn_lost_sales(
    problem: LostSalesProblem, *, seed: int = 0, copies: int = 4_000, num_periods: int = 1_000, discount: float = 0.95
) -> OrderOf:
    """Learn what to order in every state of an instance; for lead times of 1 and 2, beyond which tables grow too large.

    Orders up to twice the mean demand are tried. Values start from what the instance would cost with backorders, which
    is a little more than with lost sales.

    Parameters
    ----------
    copies, num_periods
        Rows simulated side by side, and periods that each of them lives through.
    discount
        Per period: the average cost of what is learned nears the least one as it nears 1.

    Returns
    -------
    The greedy policy, for :func:`rl.exact.judge`.
    """
    order_A = problem.orders_up_to(2 * round(problem.law.mean))
    cells = (problem.base_stock_bound + _BEYOND,) + (int(order_A[-1]) + 1,) * (problem.lead_time - 1)
    grid = StockGrid(num_cells=cells)
    task = StockTask(
        [problem.law],
        lead_time_S=np.array([problem.lead_time]),
        costs=_costs_of(problem),
        order_A=order_A.astype(np.float32),
        grid=grid,
        copies=copies,
        max_start=problem.base_stock_bound,
        seed=seed,
    )
    settings = QSettings(
        discount=discount,
        epsilon=0.3,
        learning_rate=1.0,
        visit_power=0.8,
        initial_value=-_backorder_cost(problem) / (1 - discount),
        seed=seed,
    )
    table, _curve = learn_table(task, settings=settings, num_periods=num_periods)
    greedy_X = table.greedy_X

    def order_of(state_ML: IntArray) -> IntArray:
        zero_M = np.zeros(len(state_ML), dtype=np.float32)
        units_ML = state_ML.astype(np.float32)
        state = InventoryState(
            on_hand_S=units_ML[:, 0], on_order_SL=units_ML[:, 1:], backorder_S=zero_M, reserved_S=zero_M
        )
        return order_A[greedy_X[grid.number_S(state)]]

    return order_of


def _backorder_cost(problem: LostSalesProblem) -> float:
    """Average cost of the best base-stock level if demand waited: the newsvendor's, of demand over L + 1 periods."""
    probability_D: WideArray = problem.law.probability_of_sum_D(problem.lead_time + 1)
    left_D = problem.base_stock_bound - np.arange(len(probability_D))
    cost_D = problem.holding * np.maximum(left_D, 0) + problem.penalty * np.maximum(-left_D, 0)
    return float(cost_D @ probability_D)


def _costs_of(problem: LostSalesProblem) -> CostRates:
    rates = (problem.holding, problem.penalty, problem.fixed_cost, 0.0)
    holding_S, lost_sale_S, fixed_order_S, unit_cost_S = (np.array([rate], dtype=np.float32) for rate in rates)
    return CostRates(holding_S=holding_S, lost_sale_S=lost_sale_S, fixed_order_S=fixed_order_S, unit_cost_S=unit_cost_S)
