"""Replay: what a policy's orders would have cost, and what nobody could have beaten.

Shapes: S series (or simulated rows), T periods.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rl.constraints import feasible_quantity_S, is_review_period_S
from rl.inventory import FloatArray, IntArray, InventoryState
from rl.policies.protocol import Policy
from rl.scenarios import ReplayScenario
from rl.simulator import Outcome, Simulator

WideArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """What a policy did to each series over a scenario, and to all of them in each period.

    Parameters
    ----------
    policy_name
        The policy's name.
    num_periods
        Length T of the scenario.
    holding_cost_S, lost_sale_cost_S, fixed_cost_S
        Parts of the cost over all periods, account currency.
    write_down_S, salvage_value_S
        Units left after the last period, on hand and on order: what they cost, at unit cost less salvage, and what they
        are still worth. Both 0 without salvage rates.
    demand_S, sold_S, unmet_S
        Units over all periods.
    in_stock_rate_S
        Share of periods that began with sellable units (receipts included) and turned nobody away.
    stock_value_S
        Mean value of the units on the shelf at the end of a period, at unit cost.
    num_orders_S, ordered_S
        Order lines placed and units ordered.
    cost_T, on_hand_T, ordered_T, unmet_T
        Totals over series in each period: account currency (write-down left out), and units.
    end
        State at the decision after the last period.
    """

    policy_name: str
    num_periods: int
    holding_cost_S: WideArray
    lost_sale_cost_S: WideArray
    fixed_cost_S: WideArray
    write_down_S: WideArray
    salvage_value_S: WideArray
    demand_S: WideArray
    sold_S: WideArray
    unmet_S: WideArray
    in_stock_rate_S: WideArray
    stock_value_S: WideArray
    num_orders_S: IntArray
    ordered_S: WideArray
    cost_T: WideArray
    on_hand_T: WideArray
    ordered_T: WideArray
    unmet_T: WideArray
    end: InventoryState

    @property
    def cost_S(self) -> WideArray:
        """Holding + lost sales + fixed cost over all periods + write-down, account currency."""
        return self.holding_cost_S + self.lost_sale_cost_S + self.fixed_cost_S + self.write_down_S

    @property
    def fill_rate_S(self) -> WideArray:
        """Share of demanded units served from the shelf at once; 1 where nothing was demanded."""
        return np.where(self.demand_S > 0, 1 - self.unmet_S / np.maximum(self.demand_S, 1e-9), 1.0)

    @property
    def fill_rate(self) -> float:
        """Share of all demanded units served."""
        return float(1 - self.unmet_S.sum() / max(self.demand_S.sum(), 1e-9))


class _Tally:
    """Adds up outcomes in float64."""

    def __init__(self, scenario: ReplayScenario) -> None:
        self._scenario = scenario
        N, T = scenario.demand_NT.shape
        self._sums = {name: np.zeros(N) for name in ("on_hand", "unmet", "sold", "ordered", "orders", "in_stock")}
        self._totals = {name: np.zeros(T) for name in ("cost", "on_hand", "ordered", "unmet")}

    def add(self, t: int, *, order_N: FloatArray, sellable_N: FloatArray, outcome: Outcome) -> None:
        sums = self._sums
        sums["on_hand"] += outcome.on_hand_N
        sums["unmet"] += outcome.unmet_N
        sums["sold"] += outcome.sold_N
        sums["ordered"] += order_N
        sums["orders"] += order_N > 0
        sums["in_stock"] += (sellable_N > 0) & (outcome.unmet_N == 0)
        for name, value_N in (
            ("cost", outcome.cost_N),
            ("on_hand", outcome.on_hand_N),
            ("ordered", order_N),
            ("unmet", outcome.unmet_N),
        ):
            self._totals[name][t] = value_N.sum(dtype=np.float64)

    def result(self, policy_name: str, *, end: InventoryState) -> ReplayResult:
        sums, totals, costs, T = self._sums, self._totals, self._scenario.costs, self._scenario.num_periods
        return ReplayResult(
            policy_name=policy_name,
            num_periods=T,
            holding_cost_S=costs.holding_S * sums["on_hand"],
            lost_sale_cost_S=costs.lost_sale_S * sums["unmet"],
            fixed_cost_S=costs.fixed_order_S * sums["orders"],
            write_down_S=end.write_down_S(costs).astype(np.float64),
            salvage_value_S=end.salvage_value_S(costs).astype(np.float64),
            demand_S=self._scenario.demand_NT.sum(axis=1, dtype=np.float64),
            sold_S=sums["sold"],
            unmet_S=sums["unmet"],
            in_stock_rate_S=sums["in_stock"] / T,
            stock_value_S=costs.unit_cost_S * sums["on_hand"] / T,
            num_orders_S=sums["orders"].astype(np.int64),
            ordered_S=sums["ordered"],
            cost_T=totals["cost"],
            on_hand_T=totals["on_hand"],
            ordered_T=totals["ordered"],
            unmet_T=totals["unmet"],
            end=end,
        )


def replay(policy: Policy, scenario: ReplayScenario, *, unmet: Literal["lost", "backorder"] = "lost") -> ReplayResult:
    """Let a policy order through a scenario, its wishes made feasible as in an order plan.

    In every period the policy sees the state after receipts and that period's forecast; in review periods its wish,
    rounded to packs and held within minimum, cap and storage (its own, and what it shares), is ordered.
    """
    simulator = Simulator(scenario.start, costs=scenario.costs, max_lead_time=scenario.max_lead_time, unmet=unmet)
    tally = _Tally(scenario)
    terms = scenario.terms
    for t, forecast in enumerate(scenario.forecasts):
        state = simulator.observe()
        order_N = feasible_quantity_S(
            policy.order_quantity_S(state, forecast, terms),
            state=state,
            terms=terms,
            is_review_S=is_review_period_S(terms, period=scenario.first_period + t),
            shared_storage=scenario.shared_storage,
        )
        lead_time_N = scenario.lead_time_NT[:, t]
        outcome = simulator.step(order_N, demand_N=scenario.demand_NT[:, t], lead_time_N=lead_time_N)
        sellable_N = state.on_hand_S + np.where(lead_time_N == 0, order_N, 0) - state.reserved_S
        tally.add(t, order_N=order_N, sellable_N=sellable_N, outcome=outcome)
    return tally.result(policy.name, end=simulator.observe())


class _NoOrders:
    """Orders nothing."""

    name = "no_orders"

    def order_quantity_S(self, state: Any, forecast: Any, terms: Any) -> FloatArray:
        return np.zeros_like(state.on_hand_S)


def perfect_foresight_cost_S(scenario: ReplayScenario) -> WideArray:
    """Least cost that any policy could have had, lost sales: it knew all demand and all lead times.

    The units on hand and on order serve demand first come, first served, as they would anyway. What they leave unmet is
    served by orders that arrive when an order of the scenario can arrive, held until sold, or lost, whichever is
    cheaper (Wagner & Whitin 1958, with lost sales); of these none is left to write down. Minimum, pack, cap and storage
    are left out: it is a bound, and exact without them.

    Returns
    -------
    Account currency over all periods, shape (S,).
    """
    idle = replay(_NoOrders(), scenario)
    unmet_ST = _unmet_without_orders_ST(scenario)
    N, T = unmet_ST.shape
    costs = scenario.costs
    lost_S, fixed_S = costs.lost_sale_S.astype(np.float64), costs.fixed_order_S.astype(np.float64)
    held_ST = np.minimum(np.arange(T) * costs.holding_S[:, None].astype(np.float64), lost_S[:, None])
    can_arrive_ST = _can_arrive_ST(scenario)
    # least_ST[:, t]: cheapest cost of the periods from t on if an order arrives at t; column T: none left to serve.
    least_ST = np.zeros((N, T + 1))
    for t in range(T - 1, -1, -1):
        served_ST = np.cumsum(unmet_ST[:, t:] * held_ST[:, : T - t], axis=1)
        least_ST[:, t] = fixed_S + (served_ST + least_ST[:, t + 1 :]).min(axis=1)
        least_ST[~can_arrive_ST[:, t], t] = np.inf
    lost_before_ST = lost_S[:, None] * np.concatenate([np.zeros((N, 1)), np.cumsum(unmet_ST, axis=1)], axis=1)
    return idle.holding_cost_S + idle.write_down_S + (lost_before_ST + least_ST).min(axis=1)


def _unmet_without_orders_ST(scenario: ReplayScenario) -> WideArray:
    simulator = Simulator(scenario.start, costs=scenario.costs, max_lead_time=1)
    none_N, now_N = np.zeros(scenario.num_rows, dtype=np.float32), np.ones(scenario.num_rows, dtype=np.int64)
    columns = [
        simulator.step(none_N, demand_N=scenario.demand_NT[:, t], lead_time_N=now_N).unmet_N
        for t in range(scenario.num_periods)
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def _can_arrive_ST(scenario: ReplayScenario) -> npt.NDArray[np.bool_]:
    N, T = scenario.demand_NT.shape
    periods = np.arange(T)
    review_ST = np.stack(
        [is_review_period_S(scenario.terms, period=scenario.first_period + t) for t in range(T)], axis=1
    )
    arrival_ST = periods + scenario.lead_time_NT
    can_arrive_ST = np.zeros((N, T), dtype=bool)
    rows, columns = np.nonzero(review_ST & (arrival_ST < T))
    can_arrive_ST[rows, arrival_ST[rows, columns]] = True
    return can_arrive_ST
