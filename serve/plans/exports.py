"""Exports: approved lines handed over, each once; the file of an export can be fetched again at any time."""

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from cluster.errors import ConflictError
from serve.plans.approvals import order_id_of, shown
from serve.plans.queries import find_run
from serve.problems import NotFoundError
from serve.store.audit import Change, record
from serve.store.tables import Export, LineState, PlanLine

_SCHEMA: Final = pa.schema(
    [
        ("open_order_id", pa.string()),
        ("item_id", pa.string()),
        ("location_id", pa.string()),
        ("order_qty", pa.float64()),
        ("unit_cost", pa.float64()),
        ("order_value", pa.float64()),
        ("arrives_on", pa.date32()),
        ("line_id", pa.string()),
        ("reason", pa.string()),
    ]
)


def export_approved(session: Session, run_id: str, *, actor: str) -> Export:
    """Hand over the approved lines of a run that order something; they cannot be changed after that.

    Raises
    ------
    NotFoundError
        If there is no such run.
    ConflictError
        If no line waits for it.
    """
    find_run(session, run_id)
    waiting = PlanLine.run_id == run_id, PlanLine.state == LineState.APPROVED, PlanLine.order_qty > 0
    lines = session.scalars(select(PlanLine).where(*waiting).order_by(PlanLine.line_id).with_for_update()).all()
    if not lines:
        raise ConflictError(f"no approved line of run {run_id!r} waits to be exported; GET /v1/exports lists what was")
    export = Export(
        export_id=f"export-{uuid.uuid4().hex[:12]}",
        run_id=run_id,
        created_at=datetime.now(UTC),
        created_by=actor,
        num_lines=len(lines),
    )
    session.add(export)
    session.flush()
    before = {line.line_id: shown(line) for line in lines}
    values = {"state": LineState.EXPORTED, "export_id": export.export_id, "version": PlanLine.version + 1}
    session.execute(update(PlanLine).where(*waiting).values(**values).execution_options(synchronize_session=False))
    session.expire_all()
    changes = [
        Change(action="export", subject="line", subject_id=line.line_id, before=before[line.line_id], after=shown(line))
        for line in lines
    ]
    record(session, changes, actor=actor)
    return export


def read_export(session: Session, export_id: str) -> pa.Table:
    """Lines of an export, by item and location; ``open_order_id`` is the name to report receipts under.

    Raises
    ------
    NotFoundError
        If there is no such export.
    """
    if session.get(Export, export_id) is None:
        raise NotFoundError(f"no export {export_id!r}; GET /v1/exports lists them")
    lines = session.scalars(select(PlanLine).where(PlanLine.export_id == export_id).order_by(PlanLine.position))
    rows = [
        {
            **{name: getattr(line, name) for name in _SCHEMA.names[1:-1]},
            "open_order_id": order_id_of(line.line_id),
            "reason": line.facts["reason"],
        }
        for line in lines
    ]
    return pa.Table.from_pylist(rows, _SCHEMA)


def _csv(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pa.csv.write_csv(table, sink)
    return bytes(sink.getvalue())


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink)
    return bytes(sink.getvalue())


def _json(table: pa.Table) -> bytes:
    return json.dumps(table.to_pylist(), default=str).encode()


FORMATS: Final[dict[str, tuple[str, Callable[[pa.Table], bytes]]]] = {
    "csv": ("text/csv; charset=utf-8", _csv),
    "parquet": ("application/vnd.apache.parquet", _parquet),
    "json": ("application/json", _json),
}
"""Name of a format -> its media type, and what writes it."""
