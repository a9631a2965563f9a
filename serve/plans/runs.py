"""Plan runs: keyed by their inputs, computed in chunks, taken over when a worker dies.

::

    queued ──> running ──> done          asked again with the same inputs: the same run, its lines and decisions
       ^          ├──────> failed        asked again: queued again, from the first chunk that is missing
       └──────────┴──────> cancelled     likewise

Each step is one transaction, and each leaves the run as it was or one step further, whoever does it and however often.
A worker holds a run by a lease that every step renews; one that has lost it (it slept, or the run was cancelled) finds
its next step refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from sqlalchemy import insert, or_, select, text, update
from sqlalchemy.orm import Session

from cluster.errors import ConflictError
from cluster.manifest import digest_of
from cluster.settings.service import PlanSettings
from serve.plans.rows import PlannedChunk, SeenSeries, make_rows
from serve.problems import NotFoundError
from serve.store.audit import Change, record
from serve.store.database import Database, insert_first, insert_missing
from serve.store.history import SeriesKey
from serve.store.stock_book import Book
from serve.store.tables import LedgerRow, PlanLine, PlanRun, RunInput, RunState, SeriesRecord

_SERIES = pa.schema(
    [
        ("item_id", pa.string()),
        ("location_id", pa.string()),
        ("is_new", pa.bool_()),
        ("decisions_seen", pa.int64()),
        ("snoozed_until", pa.date32()),
    ]
)
_MAX_NOTES = 100
_RESUMABLE = (RunState.FAILED, RunState.CANCELLED)


class RunLostError(ConflictError):
    """A worker's run was cancelled, or taken over by another: it stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInputs:
    """Everything that a plan is computed from.

    Parameters
    ----------
    on_date
        Day of the orders.
    sources
        Digests and versions: the dataset, the models, the settings that decide, the code.
    series
        What is planned, in the order of the lines.
    book
        Stock and orders to start from.
    """

    on_date: date
    sources: Mapping[str, Any]
    series: pa.Table
    book: Book

    @property
    def digest(self) -> str:
        """Key of the run: equal inputs, equal plan."""
        tables = (self.series, self.book.stock, self.book.open_orders)
        rows = [None if table is None else table.to_pydict() for table in tables]
        return digest_of([self.on_date, dict(self.sources), rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedRun:
    """A run that this worker may work on."""

    run_id: str
    worker: str
    on_date: date
    sources: Mapping[str, Any]
    num_planned: int
    seen: Sequence[SeenSeries]
    stock: pa.Table | None
    open_orders: pa.Table


def make_inputs(
    *, on_date: date, sources: Mapping[str, Any], series: Sequence[tuple[SeriesKey, bool]], book: Book
) -> RunInputs:
    """Inputs of a run of the given series; each says whether its item is new."""
    until = {key: day for key, day in book.snoozed_until.items() if day > on_date}
    rows = [
        {
            "item_id": key[0],
            "location_id": key[1],
            "is_new": is_new,
            "decisions_seen": book.num_decisions.get(key, 0),
            "snoozed_until": until.get(key),
        }
        for key, is_new in series
    ]
    return RunInputs(on_date=on_date, sources=sources, series=pa.Table.from_pylist(rows, _SERIES), book=book)


def open_run(database: Database, inputs: RunInputs, *, actor: str) -> tuple[str, bool]:
    """Queue the run of these inputs unless it is there; its id, and whether there is something to do.

    A run that failed or was cancelled is queued again and goes on where it ended.
    """
    digest = inputs.digest
    run_id = f"{inputs.on_date.isoformat()}-{digest}"
    with database.writing() as session:
        if insert_first(session, PlanRun, _new_run(inputs, run_id=run_id, digest=digest, actor=actor)):
            book = inputs.book
            stock = None if book.stock is None else _pack(book.stock)
            tables = {"series": _pack(inputs.series), "stock": stock, "open_orders": _pack(book.open_orders)}
            session.execute(insert(RunInput), [{"run_id": run_id} | tables])
            record(session, [_run_change("ask", run_id, after=RunState.QUEUED)], actor=actor)
            return run_id, True
        state = session.scalars(select(PlanRun.state).where(PlanRun.run_id == run_id)).one()
        if state in _RESUMABLE and _move(session, run_id, {"state": RunState.QUEUED, "failure": None}, given=[state]):
            record(session, [_run_change("ask", run_id, before=state, after=RunState.QUEUED)], actor=actor)
            state = RunState.QUEUED
    return run_id, state in (RunState.QUEUED, RunState.RUNNING)


def claim_run(database: Database, *, worker: str, lease_s: float, run_id: str | None = None) -> ClaimedRun | None:
    """Take a queued run, or one whose worker went silent: the one asked for, else the oldest; None if there is none."""
    now = datetime.now(UTC)
    is_free = or_(PlanRun.state == RunState.QUEUED, (PlanRun.state == RunState.RUNNING) & (PlanRun.lease_until < now))
    with database.writing() as session:
        free = select(PlanRun.run_id).where(is_free).order_by(PlanRun.created_at).limit(1)
        found = session.scalar(free if run_id is None else free.where(PlanRun.run_id == run_id))
        if found is None:
            return None
        values = {"state": RunState.RUNNING, "worker": worker, "lease_until": now + timedelta(seconds=lease_s)}
        taken: Any = session.execute(
            update(PlanRun)
            .where(PlanRun.run_id == found, is_free)
            .values(**values, attempts=PlanRun.attempts + 1)
            .execution_options(synchronize_session=False)
        )
        if not taken.rowcount:
            return None
        record(session, [_run_change("start", found, after=RunState.RUNNING)], actor=worker)
        return _claimed(session, found, worker=worker)


def keep_chunk(database: Database, run: ClaimedRun, chunk: PlannedChunk, *, start: int, settings: PlanSettings) -> None:
    """Store the lines of a run's series from ``start`` on, and renew the lease.

    Raises
    ------
    RunLostError
        If the run is not this worker's any more, or that chunk is there already.
    """
    seen = run.seen[start : start + chunk.num_lines]
    lines, ledger = make_rows(chunk, run_id=run.run_id, start=start, seen=seen, settings=settings)
    records = [{"item_id": row.item_id, "location_id": row.location_id, "num_decisions": 0} for row in seen]
    with database.writing() as session:
        held = PlanRun.run_id == run.run_id, PlanRun.worker == run.worker, PlanRun.state == RunState.RUNNING
        values = {
            "num_planned": start + chunk.num_lines,
            "lease_until": datetime.now(UTC) + timedelta(seconds=settings.lease_s),
            "notes": _with_notes(session, run.run_id, chunk.notes),
        }
        kept: Any = session.execute(update(PlanRun).where(*held, PlanRun.num_planned == start).values(**values))
        if not kept.rowcount:
            raise RunLostError(f"run {run.run_id} was cancelled or taken over; this worker stops")
        insert_missing(session, SeriesRecord, sorted(records, key=lambda row: (row["item_id"], row["location_id"])))
        session.execute(insert(PlanLine), lines)
        session.execute(insert(LedgerRow), ledger)


def finish_run(database: Database, run: ClaimedRun, *, settings: PlanSettings) -> None:
    """Mark what is beyond the budget and open the lines for decisions; raises as :func:`keep_chunk`."""
    values = {"state": RunState.DONE, "finished_at": datetime.now(UTC), "worker": None, "lease_until": None}
    with database.writing() as session:
        if not _move(session, run.run_id, values, given=[RunState.RUNNING], worker=run.worker):
            raise RunLostError(f"run {run.run_id} was cancelled or taken over; this worker stops")
        if settings.budget is not None:
            session.execute(_OVER_BUDGET, {"run_id": run.run_id, "budget": settings.budget})
        record(
            session, [_run_change("finish", run.run_id, before=RunState.RUNNING, after=RunState.DONE)], actor=run.worker
        )


def fail_run(database: Database, run: ClaimedRun, *, failure: str) -> None:
    """Say why a run cannot go on; nothing if it is not this worker's any more."""
    values = {"state": RunState.FAILED, "failure": failure, "worker": None, "lease_until": None}
    with database.writing() as session:
        if _move(session, run.run_id, values, given=[RunState.RUNNING], worker=run.worker):
            change = _run_change("fail", run.run_id, before=RunState.RUNNING, after=RunState.FAILED, reason=failure)
            record(session, [change], actor=run.worker)


def release_run(database: Database, run: ClaimedRun) -> None:
    """Let others go on with a run at once; nothing if it is not this worker's any more."""
    values = {"state": RunState.QUEUED, "worker": None, "lease_until": None}
    with database.writing() as session:
        if _move(session, run.run_id, values, given=[RunState.RUNNING], worker=run.worker):
            change = _run_change("release", run.run_id, before=RunState.RUNNING, after=RunState.QUEUED)
            record(session, [change], actor=run.worker)


def cancel_run(database: Database, run_id: str, *, actor: str, reason: str) -> None:
    """End a run that is not done; its worker stops at its next step.

    Raises
    ------
    NotFoundError
        If there is no such run.
    ConflictError
        If it has ended already.
    """
    values = {"state": RunState.CANCELLED, "worker": None, "lease_until": None}
    with database.writing() as session:
        state = session.scalar(select(PlanRun.state).where(PlanRun.run_id == run_id))
        if state is None:
            raise NotFoundError(f"no run {run_id!r}; GET /v1/plan-runs lists them")
        if not _move(session, run_id, values, given=[RunState.QUEUED, RunState.RUNNING]):
            raise ConflictError(f"run {run_id!r} is not waiting or running any more; there is nothing to cancel")
        change = _run_change("cancel", run_id, before=state, after=RunState.CANCELLED, reason=reason)
        record(session, [change], actor=actor)


# In the order of the money at risk, as a buyer would spend it; a line that orders nothing costs nothing.
_OVER_BUDGET = text(
    """
    UPDATE plan_line SET is_over_budget = true WHERE line_id IN (
        SELECT line_id FROM (
            SELECT line_id, order_value,
                   SUM(order_value) OVER (ORDER BY money_at_risk DESC, position ROWS UNBOUNDED PRECEDING) AS spent
            FROM plan_line WHERE run_id = :run_id
        ) AS lines WHERE spent > :budget AND order_value > 0
    )
    """
)


def _new_run(inputs: RunInputs, *, run_id: str, digest: str, actor: str) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "digest": digest,
        "on_date": inputs.on_date,
        "state": RunState.QUEUED,
        "num_series": inputs.series.num_rows,
        "num_planned": 0,
        "created_at": datetime.now(UTC),
        "created_by": actor,
        "attempts": 0,
        "sources": dict(inputs.sources),
        "notes": [],
        "counted_on": inputs.book.counted_on,
    }


def _move(
    session: Session, run_id: str, values: dict[str, Any], *, given: Sequence[RunState], worker: str | None = None
) -> bool:
    """Give a run new values if it is in one of the given states (and this worker's); whether it was."""
    statement = update(PlanRun).where(PlanRun.run_id == run_id, PlanRun.state.in_(given))
    if worker is not None:
        statement = statement.where(PlanRun.worker == worker)
    moved: Any = session.execute(statement.values(**values).execution_options(synchronize_session=False))
    return bool(moved.rowcount)


def _with_notes(session: Session, run_id: str, notes: Sequence[str]) -> list[str]:
    """Notes of the chunks so far and of one more, each once."""
    kept = session.scalars(select(PlanRun.notes).where(PlanRun.run_id == run_id)).one()
    return list(dict.fromkeys([*kept, *notes]))[:_MAX_NOTES]


def _claimed(session: Session, run_id: str, *, worker: str) -> ClaimedRun:
    run, kept = session.get_one(PlanRun, run_id, populate_existing=True), session.get_one(RunInput, run_id)
    return ClaimedRun(
        run_id=run_id,
        worker=worker,
        on_date=run.on_date,
        sources=run.sources,
        num_planned=run.num_planned,
        seen=[SeenSeries(**row) for row in _unpack(kept.series).to_pylist()],
        stock=None if kept.stock is None else _unpack(kept.stock),
        open_orders=_unpack(kept.open_orders),
    )


def _run_change(
    action: str, run_id: str, *, after: RunState, before: RunState | None = None, reason: str = ""
) -> Change:
    old = {} if before is None else {"state": str(before)}
    return Change(
        action=action, subject="run", subject_id=run_id, before=old, after={"state": str(after)}, reason=reason
    )


def _pack(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def _unpack(data: bytes) -> pa.Table:
    return pa.parquet.read_table(pa.BufferReader(data))
