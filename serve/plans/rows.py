"""From the planner's table to rows of ``plan_line`` and ``ledger_entry``."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import numpy as np
import pyarrow as pa

from cluster.errors import DataError
from cluster.settings.service import PlanSettings
from rl.attention import mark_lines
from rl.orders import OrderLines
from serve.store.tables import LineState

# Asked for by filters, sorting and decisions; all else of a line is kept as its facts.
_COLUMNS: Final = ("item_id", "location_id", "category_id", "order_qty", "unit_cost", "order_value", "money_at_risk")
_FACTS: Final = (
    "policy",
    "reason",
    "remark",
    "wish_qty",
    "on_hand_qty",
    "on_order_qty",
    "backorder_qty",
    "reserved_qty",
    "inventory_position_qty",
    "forecast_qty",
    "min_order_qty",
    "pack_size_qty",
    "order_cap_qty",
    "storage_capacity_qty",
    "lead_time_days",
    "protection_days",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSeries:
    """A series of a run, and what was decided of it when the run was asked for."""

    item_id: str
    location_id: str
    is_new: bool
    decisions_seen: int
    snoozed_until: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedChunk:
    """Lines of some of a run's series, by ``rl.orders.PLAN_SCHEMA``."""

    table: pa.Table
    is_fallback_S: Sequence[bool]
    notes: Sequence[str]

    @property
    def num_lines(self) -> int:
        """How many series it holds."""
        return int(self.table.num_rows)


def line_id_of(run_id: str, position: int) -> str:
    """Name of a run's line: whoever stores it gives it the same."""
    return f"{run_id}.{position}"


def make_rows(
    chunk: PlannedChunk, *, run_id: str, start: int, seen: Sequence[SeenSeries], settings: PlanSettings
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the two tables; a series that was snoozed beyond the day of the plan starts snoozed.

    Raises
    ------
    DataError
        If the chunk does not hold the series that it should.
    """
    keys = [(row.item_id, row.location_id) for row in seen]
    got = list(zip(chunk.table["item_id"].to_pylist(), chunk.table["location_id"].to_pylist(), strict=True))
    if got != keys:
        raise DataError(f"run {run_id}: the planner answered other series than were asked for; ask for the plan again")
    marks = mark_lines(chunk.table, overstock_days=settings.overstock_days)
    # Storage without a limit is infinite, which JSON does not know.
    rows = chunk.table.to_pylist()
    lines = [
        {
            **{name: row[name] for name in _COLUMNS},
            "line_id": line_id_of(run_id, start + number),
            "run_id": run_id,
            "position": start + number,
            "state": LineState.PROPOSED if series.snoozed_until is None else LineState.SNOOZED,
            "version": 1,
            "proposed_qty": row["order_qty"],
            "arrives_on": row["arrives_on"],
            "is_stockout_risk": bool(marks.is_stockout_risk_S[number]),
            "is_overstock": bool(marks.is_overstock_S[number]),
            "is_new_item": series.is_new,
            "is_over_budget": False,
            "decisions_seen": series.decisions_seen,
            "snoozed_until": series.snoozed_until,
            "facts": _facts(row) | {"is_fallback": bool(is_fallback)},
        }
        for number, (row, series, is_fallback) in enumerate(zip(rows, seen, chunk.is_fallback_S, strict=True))
    ]
    return lines, _ledger(chunk.table, run_id=run_id, start=start)


def _facts(row: dict[str, Any]) -> dict[str, Any]:
    facts = {name: row[name] for name in _FACTS}
    return {name: None if isinstance(fact, float) and not np.isfinite(fact) else fact for name, fact in facts.items()}


def _ledger(table: pa.Table, *, run_id: str, start: int) -> list[dict[str, Any]]:
    return [
        {
            "line_id": line_id_of(run_id, start + number),
            "step": step,
            "reason": entry.reason.value,
            "change_qty": entry.change_qty,
            "sentence": entry.sentence,
        }
        for number, line in enumerate(OrderLines(table))
        for step, entry in enumerate(line.ledger)
    ]
