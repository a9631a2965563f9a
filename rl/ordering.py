"""From the policies' wishes to the day's order plan, column by column.

Shapes: S series, H horizon periods, Q quantile levels, R ledger reasons.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.panel import Calendar, SeriesIndex, StrArray
from forecasting.forecast import Forecast
from rl.constraints import OrderSteps, Reason, feasible_steps, is_review_period_S
from rl.inventory import FloatArray, InventoryState, SharedStorage, SupplyTerms
from rl.orders import PLAN_SCHEMA, OrderPlan
from rl.policies.protocol import JointPolicies, Policy
from rl.reasons import explain_line

WideArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What policies want of each series: units, and the name of the policy that wants them."""

    wish_S: FloatArray
    policy_S: StrArray


def ask_policies(
    policy_of_series: Sequence[Policy],
    *,
    state: InventoryState,
    forecast: Forecast,
    terms: SupplyTerms,
    stacks: Sequence[JointPolicies] = (),
) -> Wishes:
    """Ask each policy once, about all of its series; there is one policy per series.

    Parameters
    ----------
    stacks
        Some of these policies together, by :func:`rl.policies.stacks.make_stacks`: the same wishes, sooner.
    """
    if len(policy_of_series) != len(terms):
        raise ValueError(f"need one policy for each of {len(terms)} series, got {len(policy_of_series)}")
    rows_of: dict[int, list[int]] = {}
    for row, policy in enumerate(policy_of_series):
        rows_of.setdefault(id(policy), []).append(row)
    asked = [(policy_of_series[rows[0]], np.array(rows)) for rows in rows_of.values()]
    wish_S = np.zeros(len(terms), dtype=np.float32)
    for stack in stacks:
        together = stack.worth_joining(asked)
        if together:
            wish_S += stack.order_quantity_S(together, state=state, forecast=forecast, terms=terms)
            asked = [pair for pair in asked if all(pair[0] is not policy for policy, _ in together)]
    for policy, rows in asked:
        wish_S[rows] = policy.order_quantity_S(state.take(rows), forecast.take(rows), terms.take(rows))
    return Wishes(wish_S=wish_S, policy_S=np.array([policy.name for policy in policy_of_series], dtype=np.str_))


def make_order_plan(
    *,
    index: SeriesIndex,
    state: InventoryState,
    forecast: Forecast,
    terms: SupplyTerms,
    wishes: Wishes,
    on_date: date,
    calendar: Calendar,
    remark_S: Sequence[str] | None = None,
    driver_S: Sequence[str] | None = None,
    notes: Sequence[str] = (),
    shared_storage: SharedStorage | None = None,
) -> OrderPlan:
    """Make each series' wish feasible, and write down why: the one way from wishes to a plan, here and in the service.

    Parameters
    ----------
    state
        Stock at the start of ``on_date``, receipts included.
    forecast
        Made for a decision on ``on_date``.
    wishes
        Of every series, by :func:`ask_policies`.
    on_date
        Day of the order.
    remark_S
        What to know of each series' input, e.g. ``StockReading.remark_S``.
    driver_S
        What moves each series' demand, told in its reason, e.g. by :func:`forecasting.explain.driver_phrases`.
    notes
        Kept with the plan.
    shared_storage
        Storage that series share, if any.
    """
    steps = feasible_steps(
        wishes.wish_S,
        state=state,
        terms=terms,
        is_review_S=is_review_period_S(terms, period=calendar.period_of(on_date)),
        shared_storage=shared_storage,
    )
    columns = _ids(index, wishes.policy_S)
    columns |= _dates(terms, on_date=on_date, calendar=calendar)
    columns |= _quantities(steps, state=state, forecast=forecast, terms=terms)
    columns |= _money(steps, state=state, forecast=forecast, terms=terms)
    columns["remark"] = list(remark_S) if remark_S is not None else [""] * len(index)
    columns["reason"] = _reasons(columns | {"driver": list(driver_S) if driver_S is not None else [""] * len(index)})
    table = pa.table([pa.array(columns[field.name], type=field.type) for field in PLAN_SCHEMA], schema=PLAN_SCHEMA)
    return OrderPlan(on_date=on_date, table=table, notes=tuple(notes))


def expected_shortage_S(forecast: Forecast, terms: SupplyTerms, *, position_S: FloatArray) -> WideArray:
    """Units of demand over L + R that an inventory position is expected to miss, from the forecast's quantiles.

    E[(D - IP)+] with each quantile standing for the levels nearest to it.
    """
    quantile_SQ = forecast.cumulative_SHQ[np.arange(len(terms)), terms.protection_interval_S - 1].astype(np.float64)
    levels_Q = forecast.levels_Q.astype(np.float64)
    edges = np.concatenate([[0.0], (levels_Q[1:] + levels_Q[:-1]) / 2, [1.0]])
    missed_SQ = np.maximum(quantile_SQ - position_S[:, None], 0)
    return np.asarray(np.sum(missed_SQ * np.diff(edges), axis=1), dtype=np.float64)


def _ids(index: SeriesIndex, policy_S: StrArray) -> dict[str, Any]:
    return {
        "item_id": index.item_ids_S.tolist(),
        "location_id": index.location_ids_S.tolist(),
        "category_id": index.category_ids_S.tolist(),
        "policy": policy_S.tolist(),
    }


def _dates(terms: SupplyTerms, *, on_date: date, calendar: Calendar) -> dict[str, Any]:
    days = calendar.period_days
    period = calendar.period_of(on_date)
    first = np.datetime64(calendar.date_on(period), "D")
    wait_S = terms.review_period_S - (period - terms.review_phase_S) % terms.review_period_S
    arrives_S = np.where(terms.lead_time_S > 0, first + terms.lead_time_S * days, np.datetime64(on_date, "D"))
    return {
        "order_on": np.full(len(terms), np.datetime64(on_date, "D")),
        "arrives_on": arrives_S,
        "next_order_on": first + wait_S * days,
        "lead_time_days": terms.lead_time_S * days,
        "protection_days": terms.protection_interval_S * days,
    }


def _quantities(
    steps: OrderSteps, *, state: InventoryState, forecast: Forecast, terms: SupplyTerms
) -> dict[str, WideArray]:
    ledger = {f"ledger_{reason}_qty": steps.change_SR[:, column] for column, reason in enumerate(Reason)}
    return {
        "order_qty": steps.quantity_S.astype(np.float64),
        "wish_qty": steps.change_SR[:, 0],
        **ledger,
        "on_hand_qty": _wide(state.on_hand_S),
        "on_order_qty": _wide(state.on_order_SL.sum(axis=1)),
        "backorder_qty": _wide(state.backorder_S),
        "reserved_qty": _wide(state.reserved_S),
        "inventory_position_qty": _wide(state.inventory_position_S),
        "forecast_qty": _wide(forecast.mean_over_S(terms.protection_interval_S)),
        "min_order_qty": _wide(terms.min_order_qty_S),
        "pack_size_qty": _wide(terms.pack_size_S),
        "order_cap_qty": _wide(terms.order_cap_S),
        "storage_capacity_qty": _wide(terms.storage_capacity_S),
    }


def _money(steps: OrderSteps, *, state: InventoryState, forecast: Forecast, terms: SupplyTerms) -> dict[str, WideArray]:
    unit_cost_S = _wide(terms.costs.unit_cost_S)
    shortage_S = expected_shortage_S(forecast, terms, position_S=state.inventory_position_S)
    return {
        "unit_cost": unit_cost_S,
        "order_value": np.round(unit_cost_S * steps.quantity_S, 4),
        "money_at_risk": np.round(shortage_S * terms.costs.lost_sale_S, 4),
    }


def _wide(value_S: FloatArray) -> WideArray:
    # Six decimals: 1.4 in float32 is not printed as 1.399999976158142.
    return np.asarray(np.round(value_S.astype(np.float64), 6), dtype=np.float64)


def _reasons(columns: dict[str, Any]) -> list[str]:
    lists = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in columns.items()}
    names = list(lists)
    return [explain_line(dict(zip(names, row, strict=True))) for row in zip(*lists.values(), strict=True)]
