"""Sentences of an order plan: why a line orders what it orders, in plain English.

Each function takes a line as a mapping of the plan's columns (``rl.orders.PLAN_SCHEMA``). :func:`explain_line` also
reads ``driver``: what moves demand, empty where nothing is to be told.
"""

from collections.abc import Mapping
from typing import Any

from rl.constraints import Reason

Row = Mapping[str, Any]


def explain_line(row: Row) -> str:
    """One sentence: the quantity, the stock and demand behind it, and what changed the wish."""
    if row["order_qty"] > 0:
        return f"Order {_units(row['order_qty'])}: {_stock(row)} against {_demand(row)}; {_path(row)}."
    if row["wish_qty"] > 0:
        return f"No order: {_obstacle(row)}; {_stock(row)} against {_demand(row)}."
    return f"No order: {_stock(row)} {_idle(row)}."


def explain_change(reason: Reason, row: Row) -> str:
    """What one ledger entry did."""
    if reason is Reason.WISH:
        return f"The {row['policy']} policy wishes {_number(row['wish_qty'])}."
    return f"{_change(reason, row).capitalize()}."


def _path(row: Row) -> str:
    changes = [_change(reason, row) for reason in Reason if reason is not Reason.WISH and row[f"ledger_{reason}_qty"]]
    wish = f"the {row['policy']} policy wishes {_number(row['wish_qty'])}"
    return ", ".join([wish, *changes])


def _change(reason: Reason, row: Row) -> str:
    if reason is Reason.CALENDAR:
        return f"not an order day, the next one is {row['next_order_on']}"
    if reason is Reason.MINIMUM:
        return f"raised to the minimum of {_number(row['min_order_qty'])}"
    if reason is Reason.PACK:
        up = "rounded up" if row["ledger_pack_qty"] > 0 else "rounded"
        packs = "whole units" if row["pack_size_qty"] == 1 else f"packs of {_number(row['pack_size_qty'])}"
        return f"{up} to {packs}"
    if reason is Reason.CAP:
        return f"cut to whole packs within the cap of {_number(row['order_cap_qty'])} per order"
    if reason is Reason.STORAGE:
        return f"cut to the room left in storage for {_number(row['storage_capacity_qty'])}"
    if reason is Reason.SHARED_STORAGE:
        return "cut to its part of the storage that series share, the lowest cover first"
    return "dropped, since what is left is below the smallest order"


def _obstacle(row: Row) -> str:
    wish = f"{_number(row['wish_qty'])} wished, but "
    if row["ledger_calendar_qty"]:
        return f"{wish}today is not an order day, the next one is {row['next_order_on']}"
    smallest = max(row["min_order_qty"], row["pack_size_qty"])
    if row["ledger_shared_storage_qty"]:
        return f"{wish}the storage that series share has no room left for it"
    if row["order_cap_qty"] < smallest:
        return f"{wish}the smallest order of {_number(smallest)} exceeds the cap of {_number(row['order_cap_qty'])}"
    return f"{wish}storage for {_number(row['storage_capacity_qty'])} has no room for the smallest order"


def _stock(row: Row) -> str:
    parts = [f"{_units(row['on_hand_qty'])} on hand"]
    if row["on_order_qty"]:
        parts.append(f"{_number(row['on_order_qty'])} on order")
    if row["backorder_qty"]:
        parts.append(f"{_number(row['backorder_qty'])} owed")
    if row["reserved_qty"]:
        parts.append(f"{_number(row['reserved_qty'])} reserved")
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]


def _demand(row: Row) -> str:
    expected = f"{_number(row['forecast_qty'])} expected in the {row['protection_days']}-day protection interval"
    return f"{expected}{_driver(row)}"


def _driver(row: Row) -> str:
    return f" ({row['driver']})" if row["driver"] else ""


def _idle(row: Row) -> str:
    expected = _number(row["forecast_qty"])
    are = "is" if expected == "1" else "are"
    interval = f"the {row['protection_days']}-day protection interval, in which {expected} {are} expected{_driver(row)}"
    if row["inventory_position_qty"] >= row["forecast_qty"]:
        return f"{_verb(row, 'cover', 'covers')} {interval}"
    return f"{_verb(row, 'do not', 'does not')} cover {interval}, but the {row['policy']} policy wishes nothing yet"


def _verb(row: Row, plural: str, singular: str) -> str:
    is_one = row["on_hand_qty"] == 1 and not (row["on_order_qty"] or row["backorder_qty"] or row["reserved_qty"])
    return singular if is_one else plural


def _units(value: float) -> str:
    return f"{_number(value)} unit" if value == 1 else f"{_number(value)} units"


def _number(value: float) -> str:
    """At most one decimal, none where it is whole."""
    return f"{value:.0f}" if value == round(value) else f"{value:.1f}"
