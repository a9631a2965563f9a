"""The order plan: one line for every series, with what was wished, what is ordered, and why.

A plan is a table; ``OrderLine`` objects are views made when asked for, so that 100,000 lines cost arrays only. The
ledger of a line sums to its quantity, also where that is 0. :func:`rl.ordering.make_order_plan` makes plans.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final, overload

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from cluster.errors import PlanningError
from cluster.sealing import SUFFIX, seal, write_whole
from rl.constraints import Reason
from rl.reasons import explain_change


def _field(name: str, kind: pa.DataType, unit: str, description: str) -> pa.Field:
    return pa.field(name, kind, metadata={"unit": unit, "description": description})


_QUANTITIES: Final = (
    ("order_qty", "to order"),
    ("wish_qty", "wished by the policy, before minimum, packs, cap, storage and order days; in eighths"),
    *((f"ledger_{reason}_qty", f"change by: {reason}; the ledger columns sum to order_qty") for reason in Reason),
    ("on_hand_qty", "on the shelf"),
    ("on_order_qty", "ordered and not received"),
    ("backorder_qty", "owed to customers"),
    ("reserved_qty", "on the shelf but promised"),
    ("inventory_position_qty", "on hand + on order - backorder - reserved"),
    ("forecast_qty", "expected demand over the protection interval"),
    ("min_order_qty", "minimum order"),
    ("pack_size_qty", "pack"),
    ("order_cap_qty", "most per order"),
    ("storage_capacity_qty", "most on hand and on order"),
)
PLAN_SCHEMA: Final = pa.schema(
    [
        _field("item_id", pa.string(), "id", "product"),
        _field("location_id", pa.string(), "id", "place that holds the stock"),
        _field("category_id", pa.string(), "id", "product category"),
        _field("order_on", pa.date32(), "date", "day of the order"),
        _field("arrives_on", pa.date32(), "date", "day on which an order of today is on the shelf"),
        _field("next_order_on", pa.date32(), "date", "next day on which this series can be ordered"),
        *(_field(name, pa.float64(), "units", text) for name, text in _QUANTITIES),
        _field("lead_time_days", pa.int64(), "days", "from order to shelf"),
        _field("protection_days", pa.int64(), "days", "lead time + review period: what the order must last"),
        _field("unit_cost", pa.float64(), "currency per unit", "purchase price"),
        _field("order_value", pa.float64(), "currency", "order_qty x unit_cost"),
        _field("money_at_risk", pa.float64(), "currency", "expected cost of lost sales if this line is not ordered"),
        _field("policy", pa.string(), "name", "policy that decided"),
        _field("reason", pa.string(), "text", "why this quantity, in one sentence"),
        _field("remark", pa.string(), "text", "what to know of the input; empty for most"),
    ]
)
"""Columns of a plan, with unit and description."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One step from the wish to the quantity."""

    reason: Reason
    change_qty: float
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLine:
    """What to order of one series, and why. Units and days; columns of ``PLAN_SCHEMA``."""

    item_id: str
    location_id: str
    category_id: str
    policy: str
    wish_qty: float
    order_qty: float
    ledger: tuple[LedgerEntry, ...]
    reason: str
    remark: str
    on_hand_qty: float
    on_order_qty: float
    backorder_qty: float
    reserved_qty: float
    inventory_position_qty: float
    forecast_qty: float
    lead_time_days: int
    protection_days: int
    arrives_on: date
    unit_cost: float
    order_value: float
    money_at_risk: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTotals:
    """Sums over a plan's lines."""

    num_lines: int
    num_orders: int
    order_qty: float
    order_value: float
    money_at_risk: float


class OrderLines(Sequence[OrderLine]):
    """A plan's lines, made when asked for."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, row: int) -> OrderLine: ...

    @overload
    def __getitem__(self, row: slice) -> "OrderLines": ...

    def __getitem__(self, row: int | slice) -> "OrderLine | OrderLines":
        """The line of one row, or those of several."""
        if isinstance(row, slice):
            return OrderLines(self._table.take(list(range(*row.indices(len(self))))))
        if not -len(self) <= row < len(self):
            raise IndexError(f"line {row} of {len(self)}")
        return _line(self._table.slice(row % len(self), 1).to_pylist()[0])

    def __iter__(self) -> Iterator[OrderLine]:
        for batch in self._table.to_batches(max_chunksize=4_096):
            yield from map(_line, batch.to_pylist())


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPlan:
    """Orders of one day. ``notes`` say what was assumed, late or unknown."""

    on_date: date
    table: pa.Table
    notes: tuple[str, ...] = ()

    @property
    def lines(self) -> OrderLines:
        """One line per series, in the order of the index; zero orders too."""
        return OrderLines(self.table)

    @property
    def totals(self) -> PlanTotals:
        """Lines, orders, units and money."""
        quantity_S = self.table["order_qty"].to_numpy()
        return PlanTotals(
            num_lines=self.table.num_rows,
            num_orders=int((quantity_S > 0).sum()),
            order_qty=float(quantity_S.sum()),
            order_value=float(self.table["order_value"].to_numpy().sum()),
            money_at_risk=float(self.table["money_at_risk"].to_numpy().sum()),
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the plan's content: equal plans have equal digests, on any machine."""
        sink = pa.BufferOutputStream()
        pa.csv.write_csv(self.table, sink)
        return hashlib.sha256(sink.getvalue()).hexdigest()

    def to_table(self) -> pa.Table:
        """All lines as an Arrow table of ``PLAN_SCHEMA``."""
        return self.table

    def write(self, path: Path) -> None:
        """Write the plan as ``.csv`` or ``.parquet``, whole or not at all; encrypted if ``.sealed`` comes behind.

        Raises
        ------
        PlanningError
            If the suffix is another one or the file cannot be written.
        ConfigError
            If it is to be sealed and there is no key (``cluster.sealing``).
        """
        is_sealed = path.suffix == SUFFIX
        writers = {".csv": pa.csv.write_csv, ".parquet": pa.parquet.write_table}
        writer = writers.get(path.with_suffix("").suffix.lower() if is_sealed else path.suffix.lower())
        if writer is None:
            raise PlanningError(
                f"{path}: a plan is written as .csv or .parquet, with .sealed behind if encrypted; change the suffix"
            )
        if is_sealed:
            sink = pa.BufferOutputStream()
            writer(self.table, sink)
            write_whole(path, seal(sink.getvalue().to_pybytes()))
            return
        aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            writer(self.table, aside)
            aside.replace(path)
        except OSError as error:
            raise PlanningError(
                f"{path}: cannot be written ({error.strerror or error}); choose another place"
            ) from error
        finally:
            aside.unlink(missing_ok=True)


def _line(row: dict[str, Any]) -> OrderLine:
    ledger = tuple(
        LedgerEntry(reason=reason, change_qty=change, sentence=explain_change(reason, row))
        for reason in Reason
        if (change := row[f"ledger_{reason}_qty"]) or reason is Reason.WISH
    )
    names = [name for name in OrderLine.__dataclass_fields__ if name != "ledger"]
    return OrderLine(ledger=ledger, **{name: row[name] for name in names})
