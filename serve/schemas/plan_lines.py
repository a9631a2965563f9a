"""What clients get of the lines of a stored plan."""

from datetime import date
from typing import Annotated

from pydantic import Field

from serve.plans.queries import LineOrder, Mark
from serve.schemas.audit import AuditChange
from serve.schemas.fields import AnswerBody, Cursor, Id, Limit, Next, RequestBody
from serve.schemas.order_plans import LedgerRow
from serve.store.tables import LineState


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


class StoredLineDetail(StoredLine):
    """A line, the steps to its quantity, and everything that was done with it."""

    ledger: Annotated[list[LedgerRow], Field(description="the steps sum to order_qty")]
    history: Annotated[list[AuditChange], Field(description="oldest first")]
