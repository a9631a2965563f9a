"""What clients send and get about stored plans, stock and orders; as ``serve.schemas``."""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, model_validator

from serve.plan_queries import LineOrder, Mark
from serve.schemas import (
    MAX_ROWS,
    MAX_UNITS,
    AnswerBody,
    AsOf,
    Day,
    Id,
    LedgerRow,
    Moment,
    RequestBody,
    Series,
    Units,
    example,
)
from serve.tables import LineState, OrderState, RunState

MAX_PAGE = 1_000
MAX_TOLD = 10_000

# PostgreSQL has no character 0.
Reason = Annotated[
    str, Field(strict=True, max_length=1_000, pattern=r"^[^\x00]*$", description="why; kept in the audit")
]
GivenReason = Annotated[Reason, Field(min_length=1)]
Cursor = Annotated[str | None, Field(max_length=1_000, description="'next' of the page before; default: the first")]
Limit = Annotated[int, Field(ge=1, le=MAX_PAGE, description="most rows of the page")]
Next = Annotated[str | None, Field(description="'after' of the next page; null: this is the last")]
Version = Annotated[
    int, Field(strict=True, ge=1, le=2**31 - 1, description="version of the line that was looked at; another one: 409")
]


class PlanRunRequest(RequestBody):
    """Which series to plan, as of which day."""

    model_config = example({})

    as_of: AsOf = None
    series: Annotated[
        list[Series] | None, Field(min_length=1, max_length=MAX_ROWS, description="series to plan; default: all")
    ] = None


class PlanRun(AnswerBody):
    """A plan of many series, and how far it is."""

    run_id: str
    state: RunState
    on_date: Annotated[date, Field(description="day of the orders")]
    num_series: int
    num_planned: Annotated[int, Field(description="series whose lines are stored")]
    counted_on: Annotated[date | None, Field(description="day of the stock; null: it was assumed")]
    model_versions: dict[str, str]
    notes: Annotated[list[str], Field(description="what was assumed, late or unknown")]
    failure: Annotated[str | None, Field(description="why there is no plan")]
    created_at: AwareDatetime
    created_by: str
    finished_at: AwareDatetime | None


class PlanRunAsked(PlanRun):
    """A plan that was asked for; ``is_known``: with these very inputs, before."""

    is_known: bool


class RunTotals(AnswerBody):
    """Sums over a run's lines, as they are now."""

    num_lines: int
    num_orders: int
    order_qty: float
    order_value: float
    money_at_risk: float
    num_stockout_risk: int
    num_overstock: int
    num_over_budget: int
    num_new_item: int


class PlanRunDetail(PlanRun):
    """A plan, and what its lines come to."""

    totals: RunTotals
    states: Annotated[dict[LineState, int], Field(description="lines in each state")]


class PlanRuns(AnswerBody):
    """Plans, newest first."""

    runs: list[PlanRun]
    next: Next


class RunQuery(RequestBody):
    """Which runs."""

    state: RunState | None = None
    limit: Limit = 100
    after: Cursor = None


class StoredLine(AnswerBody):
    """What to order of one series, why, and what was decided. Units, money in account currency."""

    line_id: str
    run_id: str
    item_id: str
    location_id: str
    category_id: str
    state: LineState
    version: Annotated[int, Field(description="raised by every decision; a decision names the one that it is about")]
    marks: Annotated[list[Mark], Field(description="why it wants a planner's eye")]
    proposed_qty: Annotated[float, Field(description="what the plan proposed")]
    order_qty: Annotated[float, Field(description="what is ordered if it is approved")]
    unit_cost: float
    order_value: float
    money_at_risk: Annotated[float, Field(description="expected cost of lost sales if nothing is ordered")]
    arrives_on: date
    snoozed_until: date | None
    export_id: str | None
    policy: str
    is_fallback: bool
    reason: str
    remark: str
    wish_qty: float
    on_hand_qty: float
    on_order_qty: float
    backorder_qty: float
    reserved_qty: float
    inventory_position_qty: float
    forecast_qty: float
    min_order_qty: float
    pack_size_qty: float
    order_cap_qty: Annotated[float | None, Field(description="null: no limit")]
    storage_capacity_qty: Annotated[float | None, Field(description="null: no limit")]
    lead_time_days: int
    protection_days: int


class LineQuery(RequestBody):
    """Which lines, in which order."""

    state: LineState | None = None
    mark: Annotated[Mark | None, Field(description="only lines with this mark")] = None
    category_id: Id | None = None
    item_id: Id | None = None
    ordered_only: Annotated[bool, Field(description="only lines that order something")] = False
    order: Annotated[LineOrder, Field(description="largest first, or by item and location")] = LineOrder.MONEY_AT_RISK
    limit: Limit = 100
    after: Cursor = None


class StoredLines(AnswerBody):
    """Lines of a run."""

    run_id: str
    lines: list[StoredLine]
    next: Next


class AuditChange(AnswerBody):
    """One change."""

    audit_id: int
    at: AwareDatetime
    actor: str
    action: str
    subject: str
    subject_id: str
    before: dict[str, Any]
    after: dict[str, Any]
    reason: str


class StoredLineDetail(StoredLine):
    """A line, the steps to its quantity, and everything that was done with it."""

    ledger: Annotated[list[LedgerRow], Field(description="the steps sum to order_qty")]
    history: Annotated[list[AuditChange], Field(description="oldest first")]


class ApproveRequest(RequestBody):
    """Order what the line says."""

    version: Version
    reason: Reason = ""


class EditRequest(RequestBody):
    """Order another quantity."""

    version: Version
    order_qty: Units
    reason: GivenReason
    despite_terms: Annotated[
        bool, Field(strict=True, description="true: packs, minimum, cap and storage do not bind, the supplier agreed")
    ] = False


class SnoozeRequest(RequestBody):
    """Leave the series alone until a day."""

    version: Version
    until_on: Annotated[Day, Field(description="first day on which it is proposed again")]
    reason: GivenReason


class ReasonedRequest(RequestBody):
    """Reject or reopen."""

    version: Version
    reason: GivenReason


class CancelRequest(RequestBody):
    """Cancel a run or an order."""

    reason: GivenReason


class LineVersion(RequestBody):
    """A line as it was looked at."""

    line_id: Id
    version: Version


class ApproveManyRequest(RequestBody):
    """Lines to approve, each for itself."""

    lines: Annotated[list[LineVersion], Field(min_length=1, max_length=MAX_PAGE)]


class RefusedLine(AnswerBody):
    """A line that was not approved."""

    line_id: str
    title: str
    detail: str


class ApprovedMany(AnswerBody):
    """What became of each."""

    approved: list[str]
    refused: list[RefusedLine]


class ExportRequest(RequestBody):
    """Whose approved lines to hand over."""

    run_id: Id


class PlanExport(AnswerBody):
    """Lines that were handed over together."""

    export_id: str
    run_id: str
    num_lines: int
    created_at: AwareDatetime
    created_by: str


class PlanExports(AnswerBody):
    """Exports, newest first."""

    exports: list[PlanExport]
    next: Next


class ExportQuery(RequestBody):
    """Which exports."""

    run_id: Id | None = None
    limit: Limit = 100
    after: Cursor = None


class ExportFileQuery(RequestBody):
    """Form of the file."""

    format: Literal["csv", "parquet", "json"] = "csv"


class CountedRow(Series):
    """Units of one series at the start of the day, receipts in."""

    on_hand_qty: Units
    reserved_qty: Units = 0.0
    backorder_qty: Units = 0.0


class ReportedOrder(Series):
    """An order that is still to come."""

    open_order_id: Id
    open_qty: Units
    expected_on: Annotated[Day, Field(description="on the shelf at the start of this day")]


class StockRequest(RequestBody):
    """A count of stock, and the orders that the shop's own system still expects."""

    model_config = example(
        {
            "counted_on": "2018-01-01",
            "stock": [{"item_id": "1082185", "on_hand_qty": 12}],
            "open_orders": [
                {"item_id": "1082185", "open_order_id": "po-17", "open_qty": 6, "expected_on": "2018-01-02"}
            ],
        }
    )

    counted_on: Annotated[Day, Field(description="older than what is known: 409")]
    stock: Annotated[list[CountedRow], Field(max_length=MAX_ROWS)]
    open_orders: Annotated[
        list[ReportedOrder] | None, Field(max_length=MAX_ROWS, description="null: nothing is said of them")
    ] = None
    is_complete: Annotated[
        bool, Field(strict=True, description="true: series without a row have no stock, orders without one are closed")
    ] = True


class SaleRow(Series):
    """Units that a customer bought; negative: brought back."""

    sold_qty: Annotated[
        float, Field(strict=True, ge=-MAX_UNITS, le=MAX_UNITS, allow_inf_nan=False, description="units")
    ]
    ordered_at: Annotated[Moment | None, Field(description="default: now")] = None
    user_id: Annotated[Id | None, Field(description="customer: the next recommendations follow it")] = None


class OrdersRequest(RequestBody):
    """Customers' orders."""

    model_config = example({"orders": [{"item_id": "1082185", "sold_qty": 2, "user_id": "1"}]})

    orders: Annotated[list[SaleRow], Field(min_length=1, max_length=MAX_TOLD)]


class ReceiptRow(RequestBody):
    """Units of an order that are on the shelf now."""

    open_order_id: Id
    received_qty: Annotated[float, Field(strict=True, gt=0, le=MAX_UNITS, allow_inf_nan=False, description="units")]
    received_on: Annotated[Day | None, Field(description="default: today")] = None


class ReceiptsRequest(RequestBody):
    """Deliveries."""

    receipts: Annotated[list[ReceiptRow], Field(min_length=1, max_length=MAX_TOLD)]

    @model_validator(mode="after")
    def _each_once(self) -> "ReceiptsRequest":
        names = [row.open_order_id for row in self.receipts]
        if len(set(names)) < len(names):
            raise ValueError("an order is named twice; add its units up")
        return self


class StockTaken(AnswerBody):
    """What is known after a count."""

    counted_on: date
    num_series: int
    on_hand_qty: float
    open_qty: float
    is_repeat: Annotated[bool, Field(description="true: told before under this key; nothing was changed")]


class MovesTaken(AnswerBody):
    """What sales or receipts changed."""

    num_rows: int
    num_series_changed: int
    num_series_uncounted: Annotated[int, Field(description="series whose stock nobody has counted")]
    is_repeat: Annotated[bool, Field(description="true: told before under this key; nothing was changed")]


class StockLevel(AnswerBody):
    """Units of a series now."""

    item_id: str
    location_id: str
    on_hand_qty: float
    reserved_qty: float
    backorder_qty: float
    counted_on: Annotated[date, Field(description="day of the count that later moves were added to")]


class StockLevels(AnswerBody):
    """Stock by series."""

    stock: list[StockLevel]
    next: Next


class StockQuery(RequestBody):
    """Whose stock."""

    item_id: Id | None = None
    limit: Limit = 100
    after: Cursor = None


class OpenOrder(AnswerBody):
    """An order to a supplier."""

    open_order_id: str
    line_id: Annotated[str | None, Field(description="plan line that it was approved as; null: of the shop's system")]
    item_id: str
    location_id: str
    state: OrderState
    open_qty: float
    received_qty: float
    expected_on: date


class OpenOrders(AnswerBody):
    """Orders by name."""

    open_orders: list[OpenOrder]
    next: Next


class OpenOrderQuery(RequestBody):
    """Which orders; by default those that are still to come."""

    item_id: Id | None = None
    state: OrderState | None = None
    limit: Limit = 100
    after: Cursor = None


class OrderCancelled(AnswerBody):
    """An order that will not come."""

    open_order_id: str
    state: OrderState
    open_qty: float
    expected_on: date


class AuditQuery(RequestBody):
    """Whose changes."""

    subject: Annotated[Id | None, Field(description="line, run, stock, open_order, orders, ...")] = None
    subject_id: Id | None = None
    limit: Limit = 100
    after: Cursor = None


class AuditChanges(AnswerBody):
    """Changes, latest first."""

    changes: list[AuditChange]
    next: Next
