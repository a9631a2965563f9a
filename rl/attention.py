"""Which lines of an order plan want a planner's eye, and what a changed quantity must fit.

Shapes: S series.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cluster.errors import InfeasibleOrderError
from cluster.panel import BoolArray

# Packs of 0.1 are no binary numbers.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Marks of plan lines.

    Parameters
    ----------
    is_stockout_risk_S
        Demand is expected to exceed what is there and on its way before an order of today arrives, or before the next
        one does although this one is placed.
    is_overstock_S
        What is there and on its way lasts for more than the given days.
    """

    is_stockout_risk_S: BoolArray
    is_overstock_S: BoolArray


def mark_lines(table: pa.Table, *, overstock_days: float) -> Attention:
    """Marks of the lines of a plan (``rl.orders.PLAN_SCHEMA``), from its quantities alone."""
    names = ("inventory_position_qty", "order_qty", "forecast_qty", "lead_time_days", "protection_days")
    position_S, order_S, forecast_S, lead_S, protection_S = (table[name].to_numpy() for name in names)
    daily_S = forecast_S / np.maximum(protection_S, 1)
    is_late_S = position_S < daily_S * lead_S
    is_short_S = position_S + order_S < forecast_S
    is_overstock_S = (position_S > 0) & (position_S > daily_S * overstock_days)
    return Attention(is_stockout_risk_S=np.asarray(is_late_S | is_short_S), is_overstock_S=np.asarray(is_overstock_S))


@dataclass(frozen=True, slots=True, kw_only=True)
class LineTerms:
    """What the supplier and the store accept for one line, in units; columns of ``rl.orders.PLAN_SCHEMA``."""

    min_order_qty: float
    pack_size_qty: float
    order_cap_qty: float
    storage_capacity_qty: float
    inventory_position_qty: float


def check_line_quantity(order_qty: float, terms: LineTerms) -> None:
    """Refuse a quantity that cannot be ordered on these terms; 0 always can.

    Raises
    ------
    InfeasibleOrderError
        Saying which rule it breaks, and the nearest quantities that do not.
    """
    if order_qty == 0:
        return
    pack = terms.pack_size_qty or 1.0
    packs = order_qty / pack
    if abs(packs - round(packs)) > _ROUNDING * max(1.0, packs):
        below, above = np.floor(packs) * pack, np.ceil(packs) * pack
        raise InfeasibleOrderError(
            f"{order_qty:g} is not a multiple of the pack of {pack:g}; take {below:g} or {above:g}"
        )
    if order_qty < terms.min_order_qty:
        raise InfeasibleOrderError(f"{order_qty:g} is below the minimum of {terms.min_order_qty:g}; take that, or 0")
    if order_qty > terms.order_cap_qty:
        raise InfeasibleOrderError(f"{order_qty:g} is above the most per order, {terms.order_cap_qty:g}; take less")
    room = terms.storage_capacity_qty - max(terms.inventory_position_qty, 0.0)
    if order_qty > room:
        raise InfeasibleOrderError(f"{order_qty:g} does not fit: storage has room for {max(room, 0):g}; take less")
