"""Lost-sales instances as the product sees them: supply terms, a forecast that knows the law, scenarios, policies.

What is trained here is the product's own policy, through its own trials; only the forecast is exact.

Shapes: S series (instances), M states, L entries of a state.
"""

from collections.abc import Sequence

import numpy as np

from rl.constraints import feasible_quantity_S
from rl.demand import forecast_of_laws
from rl.exact import IntArray, LostSalesProblem, OrderOf
from rl.inventory import CostRates, InventoryState, SupplyTerms
from rl.policies.protocol import Policy
from rl.scenarios import ReplayScenario, make_law_scenario

LEVELS_Q = np.array([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995], dtype=np.float32)
"""Quantile levels of the forecast."""


def make_terms(problems: Sequence[LostSalesProblem]) -> SupplyTerms:
    """Supply terms of instances, one row each."""

    def column(name: str) -> np.ndarray:
        return np.array([getattr(problem, name) for problem in problems], dtype=np.float32)

    S = len(problems)
    caps = [np.inf if problem.order_cap is None else problem.order_cap for problem in problems]
    return SupplyTerms(
        lead_time_S=np.array([problem.lead_time for problem in problems], dtype=np.int64),
        review_period_S=np.ones(S, dtype=np.int64),
        review_phase_S=np.zeros(S, dtype=np.int64),
        min_order_qty_S=column("min_order_qty"),
        pack_size_S=column("pack_size"),
        order_cap_S=np.array(caps, dtype=np.float32),
        storage_capacity_S=np.array([_storage(problem) for problem in problems], dtype=np.float32),
        mean_demand_S=np.array([problem.law.mean for problem in problems], dtype=np.float32),
        costs=CostRates(
            holding_S=column("holding"),
            lost_sale_S=column("penalty"),
            fixed_order_S=column("fixed_cost"),
            unit_cost_S=np.ones(S, dtype=np.float32),
        ),
    )


def _storage(problem: LostSalesProblem) -> float:
    """Far above what an optimal policy has on hand and on order; keeps a bad one's states finite."""
    return 1.2 * problem.base_stock_bound + 2 * problem.largest_sensible_order


def make_scenario(problems: Sequence[LostSalesProblem], *, num_periods: int, seed: int) -> ReplayScenario:
    """Demand of every instance drawn from its law."""
    laws = [problem.law for problem in problems]
    horizon = max(problem.lead_time for problem in problems) + 2
    forecast = forecast_of_laws(laws, horizon=horizon, levels_Q=LEVELS_Q)
    return make_law_scenario(laws, make_terms(problems), num_periods=num_periods, forecast=forecast, seed=seed)


def orders_of(policy: Policy, problem: LostSalesProblem) -> OrderOf:
    """A policy's feasible orders on whole-unit states, for the exact judge."""
    terms = make_terms([problem])
    forecast = forecast_of_laws([problem.law], horizon=problem.lead_time + 2, levels_Q=LEVELS_Q)

    def order_of(state_ML: IntArray) -> IntArray:
        M = len(state_ML)
        none_M = np.zeros(M, dtype=np.float32)
        state = InventoryState(
            on_hand_S=state_ML[:, 0].astype(np.float32),
            on_order_SL=state_ML[:, 1:].astype(np.float32).reshape(M, -1),
            backorder_S=none_M,
            reserved_S=none_M,
        )
        rows = np.zeros(M, dtype=np.int64)
        terms_M = terms.take(rows)
        wish_M = policy.order_quantity_S(state, forecast.take(rows), terms_M)
        return feasible_quantity_S(wish_M, state=state, terms=terms_M).astype(np.int64)

    return order_of
