"""The order plan: one line for every series, with what was wished, what is ordered, and why.

A plan is a table; ``OrderLine`` objects are views made when asked for, so that 100,000 lines cost arrays only. The
ledger of a line sums to its quantity, also where that is 0.

Shapes: S series, H horizon periods, Q quantile levels, R ledger reasons.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from cluster.errors import PlanningError
from cluster.panel import Calendar, SeriesIndex
from cluster.sealing import SUFFIX, seal, write_whole
from forecasting.forecast import Forecast
from rl.constraints import OrderSteps, Reason, feasible_steps, is_review_period_S
from rl.inventory import FloatArray, InventoryState, SharedStorage, SupplyTerms
from rl.policies.protocol import Policy
from rl.reasons import explain_change, explain_line

WideArray = npt.NDArray[np.float64]


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


def make_order_plan(
    *,
    index: SeriesIndex,
    state: InventoryState,
    forecast: Forecast,
    terms: SupplyTerms,
    policy_of_series: Sequence[Policy],
    on_date: date,
    calendar: Calendar,
    remark_S: Sequence[str] | None = None,
    driver_S: Sequence[str] | None = None,
    notes: Sequence[str] = (),
    shared_storage: SharedStorage | None = None,
) -> OrderPlan:
    """Ask each series' policy, make its wish feasible, and write down why.

    Parameters
    ----------
    state
        Stock at the start of ``on_date``, receipts included.
    forecast
        Made for a decision on ``on_date``.
    policy_of_series
        One per series; series of the same policy are asked together.
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
        _wishes_S(policy_of_series, state=state, forecast=forecast, terms=terms),
        state=state,
        terms=terms,
        is_review_S=is_review_period_S(terms, period=calendar.period_of(on_date)),
        shared_storage=shared_storage,
    )
    columns = _ids(index, policy_of_series)
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


def _wishes_S(
    policy_of_series: Sequence[Policy], *, state: InventoryState, forecast: Forecast, terms: SupplyTerms
) -> FloatArray:
    if len(policy_of_series) != len(terms):
        raise ValueError(f"need one policy for each of {len(terms)} series, got {len(policy_of_series)}")
    rows_of: dict[int, list[int]] = {}
    for row, policy in enumerate(policy_of_series):
        rows_of.setdefault(id(policy), []).append(row)
    wish_S = np.zeros(len(terms), dtype=np.float32)
    for rows in map(np.array, rows_of.values()):
        policy = policy_of_series[rows[0]]
        wish_S[rows] = policy.order_quantity_S(state.take(rows), forecast.take(rows), terms.take(rows))
    return wish_S


def _ids(index: SeriesIndex, policy_of_series: Sequence[Policy]) -> dict[str, Any]:
    return {
        "item_id": index.item_ids_S.tolist(),
        "location_id": index.location_ids_S.tolist(),
        "category_id": index.category_ids_S.tolist(),
        "policy": [policy.name for policy in policy_of_series],
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


def _line(row: dict[str, Any]) -> OrderLine:
    ledger = tuple(
        LedgerEntry(reason=reason, change_qty=change, sentence=explain_change(reason, row))
        for reason in Reason
        if (change := row[f"ledger_{reason}_qty"]) or reason is Reason.WISH
    )
    names = [name for name in OrderLine.__dataclass_fields__ if name != "ledger"]
    return OrderLine(ledger=ledger, **{name: row[name] for name in names})
