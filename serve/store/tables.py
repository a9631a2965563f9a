"""What is kept in SQL: runs, lines and their ledgers, orders, stock, events, batches, and the audit of every change.

::

    plan_run ─── run_input                        what a plan was computed from
       └─< plan_line ─< ledger_entry              what is proposed, decided, and why
              └── open_order                      an approved line is on order at once
    series_record                                 decisions per series: two plans cannot order one need twice
    stock ─ movement ─ batch                      counts, sales and receipts, told once each
    live_event ─ batch                            what users do right now, kept for some days
    forgotten_user                                whom replicas are to forget too; kept for a session's time to live
    audit_entry                                   who, when, before, after, reason; append-only
    access_token                                  who may call, as what, until when

Quantities are units, money is in account currency, instants are UTC. ``serve.migrations`` makes these tables.
"""

from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, ClassVar, Final

from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_NAMES: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcInstant(TypeDecorator[datetime]):
    """An instant with its zone; SQLite, which knows no zones, keeps the UTC time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """As UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class RunState(StrEnum):
    """Where a plan run is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class LineState(StrEnum):
    """Where a plan line is in its life."""

    PROPOSED = "proposed"
    SNOOZED = "snoozed"
    REJECTED = "rejected"
    APPROVED = "approved"
    EXPORTED = "exported"


class OrderState(StrEnum):
    """Where an open order is."""

    OPEN = "open"
    RECEIVED = "received"
    CANCELLED = "cancelled"


def _one_of(column: str, states: type[StrEnum]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(state.value) for state in states)})", name=column)


class Table(DeclarativeBase):
    """Base of every table; constraints have names, so that migrations can speak of them on every database."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map: ClassVar = {
        datetime: UtcInstant,
        dict[str, Any]: JSON,
        list[str]: JSON,
        RunState: String(20),
        LineState: String(20),
        OrderState: String(20),
    }


Id = String(200)


class PlanRun(Table):
    """One plan of all asked series, keyed by the digest of everything that it is computed from."""

    __tablename__ = "plan_run"
    __table_args__ = (_one_of("state", RunState),)

    run_id: Mapped[str] = mapped_column(Id, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    on_date: Mapped[date] = mapped_column(index=True)
    state: Mapped[RunState] = mapped_column(index=True)
    num_series: Mapped[int]
    num_planned: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(index=True)
    created_by: Mapped[str] = mapped_column(Id)
    finished_at: Mapped[datetime | None]
    worker: Mapped[str | None] = mapped_column(Id)
    lease_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)
    sources: Mapped[dict[str, Any]]
    notes: Mapped[list[str]]
    counted_on: Mapped[date | None]
    failure: Mapped[str | None] = mapped_column(Text)


class RunInput(Table):
    """The tables that a run is computed from, as Parquet: whoever takes a run over computes the same plan."""

    __tablename__ = "run_input"

    run_id: Mapped[str] = mapped_column(Id, ForeignKey("plan_run.run_id"), primary_key=True)
    series: Mapped[bytes] = mapped_column(LargeBinary)
    stock: Mapped[bytes | None] = mapped_column(LargeBinary)
    open_orders: Mapped[bytes] = mapped_column(LargeBinary)


class PlanLine(Table):
    """What to order of one series in one run, and what was decided; ``version`` counts the decisions from 1."""

    __tablename__ = "plan_line"
    __table_args__ = (
        _one_of("state", LineState),
        CheckConstraint("order_qty >= 0", name="order_qty"),
        UniqueConstraint("run_id", "item_id", "location_id"),
        Index("ix_plan_line_by_risk", "run_id", "money_at_risk", "position"),
        Index("ix_plan_line_by_state", "run_id", "state"),
    )

    line_id: Mapped[str] = mapped_column(Id, primary_key=True)
    run_id: Mapped[str] = mapped_column(Id, ForeignKey("plan_run.run_id"))
    position: Mapped[int]
    item_id: Mapped[str] = mapped_column(Id)
    location_id: Mapped[str] = mapped_column(Id)
    category_id: Mapped[str] = mapped_column(Id)
    state: Mapped[LineState]
    version: Mapped[int]
    proposed_qty: Mapped[float]
    order_qty: Mapped[float]
    unit_cost: Mapped[float]
    order_value: Mapped[float]
    money_at_risk: Mapped[float]
    arrives_on: Mapped[date]
    is_stockout_risk: Mapped[bool]
    is_overstock: Mapped[bool]
    is_new_item: Mapped[bool]
    is_over_budget: Mapped[bool]
    decisions_seen: Mapped[int]
    snoozed_until: Mapped[date | None]
    export_id: Mapped[str | None] = mapped_column(Id, ForeignKey("export.export_id"), index=True)
    facts: Mapped[dict[str, Any]]


class LedgerRow(Table):
    """One step from the wish to the quantity; the steps of a line sum to its ``order_qty``."""

    __tablename__ = "ledger_entry"

    line_id: Mapped[str] = mapped_column(Id, ForeignKey("plan_line.line_id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    reason: Mapped[str] = mapped_column(String(40))
    change_qty: Mapped[float]
    sentence: Mapped[str] = mapped_column(Text)


class SeriesRecord(Table):
    """How often orders of a series were decided, and until when it is left alone.

    A line keeps the number that its plan saw. Approving it asks for that number and raises it, in one statement: of two
    plans that saw the same need, one can order for it.
    """

    __tablename__ = "series_record"

    item_id: Mapped[str] = mapped_column(Id, primary_key=True)
    location_id: Mapped[str] = mapped_column(Id, primary_key=True)
    num_decisions: Mapped[int] = mapped_column(default=0)
    snoozed_until: Mapped[date | None]


class OpenOrder(Table):
    """Units ordered, and what of them is still to come."""

    __tablename__ = "open_order"
    __table_args__ = (
        _one_of("state", OrderState),
        CheckConstraint("open_qty >= 0", name="open_qty"),
        Index("ix_open_order_series", "item_id", "location_id"),
    )

    open_order_id: Mapped[str] = mapped_column(Id, primary_key=True)
    line_id: Mapped[str | None] = mapped_column(Id, ForeignKey("plan_line.line_id"), unique=True)
    item_id: Mapped[str] = mapped_column(Id)
    location_id: Mapped[str] = mapped_column(Id)
    state: Mapped[OrderState] = mapped_column(index=True)
    open_qty: Mapped[float]
    received_qty: Mapped[float] = mapped_column(default=0.0)
    expected_on: Mapped[date]


class Stock(Table):
    """Units at a series' place now: the count at the start of ``counted_on``, and what moved since."""

    __tablename__ = "stock"
    __table_args__ = (
        CheckConstraint("on_hand_qty >= 0 AND reserved_qty >= 0 AND backorder_qty >= 0", name="quantities"),
    )

    item_id: Mapped[str] = mapped_column(Id, primary_key=True)
    location_id: Mapped[str] = mapped_column(Id, primary_key=True)
    on_hand_qty: Mapped[float]
    reserved_qty: Mapped[float]
    backorder_qty: Mapped[float]
    counted_on: Mapped[date] = mapped_column(index=True)


class Movement(Table):
    """Units that came (+) or went (-) on a day; a count that is told late is followed by what moved since it."""

    __tablename__ = "movement"
    __table_args__ = (Index("ix_movement_series", "item_id", "location_id", "moved_on"),)

    movement_id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    item_id: Mapped[str] = mapped_column(Id)
    location_id: Mapped[str] = mapped_column(Id)
    moved_on: Mapped[date] = mapped_column(index=True)
    change_qty: Mapped[float]


class LiveEventRow(Table):
    """One thing that a user did; the user by the name that :mod:`cluster.privacy` gives."""

    __tablename__ = "live_event"
    __table_args__ = (UniqueConstraint("user_id", "occurred_at", "item_id", "behaviour"),)

    event_id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(Id)
    item_id: Mapped[str] = mapped_column(Id)
    behaviour: Mapped[str] = mapped_column(String(20))
    occurred_at: Mapped[datetime]
    told_at: Mapped[datetime] = mapped_column(index=True)


class ForgottenUser(Table):
    """One who asked to be forgotten, for as long as a replica may still have a session of theirs in memory."""

    __tablename__ = "forgotten_user"

    forgotten_id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(Id)
    forgotten_at: Mapped[datetime]


class Batch(Table):
    """What somebody told once under an idempotency key, and the answer: told again, it is answered again."""

    __tablename__ = "batch"

    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    batch_key: Mapped[str] = mapped_column(Id, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    answer: Mapped[dict[str, Any]]
    received_at: Mapped[datetime]
    received_from: Mapped[str] = mapped_column(Id)


class Export(Table):
    """Lines handed over together; a line is in one export at most."""

    __tablename__ = "export"

    export_id: Mapped[str] = mapped_column(Id, primary_key=True)
    run_id: Mapped[str] = mapped_column(Id, ForeignKey("plan_run.run_id"), index=True)
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(Id)
    num_lines: Mapped[int]


class AuditRow(Table):
    """One change of anything above. The database refuses to change or delete a row."""

    __tablename__ = "audit_entry"
    __table_args__ = (Index("ix_audit_entry_subject", "subject", "subject_id"),)

    audit_id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(Id)
    action: Mapped[str] = mapped_column(String(40))
    subject: Mapped[str] = mapped_column(String(40))
    subject_id: Mapped[str] = mapped_column(Id)
    before: Mapped[dict[str, Any]]
    after: Mapped[dict[str, Any]]
    reason: Mapped[str] = mapped_column(Text)


class TokenRow(Table):
    """One access token: whose it is, and what stands for its text, which is not kept. Rows are never deleted."""

    __tablename__ = "access_token"

    token_id: Mapped[str] = mapped_column(String(12), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(20))
    salt: Mapped[bytes] = mapped_column(LargeBinary)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
