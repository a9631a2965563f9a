"""The audit: one row for every change, written in the transaction that makes the change."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from serve.store.tables import AuditRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What was changed: an ``action`` on a ``subject`` (``line``, ``run``, ``stock``, ``open_order`` ...)."""

    action: str
    subject: str
    subject_id: str
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


def record(session: Session, changes: Sequence[Change], *, actor: str) -> None:
    """Write down changes of this transaction."""
    if changes:
        who = {"at": datetime.now(UTC), "actor": actor}
        session.execute(insert(AuditRow), [asdict(change) | who for change in changes])


def history_of(session: Session, *, subject: str, subject_id: str, limit: int) -> list[AuditRow]:
    """Latest changes of one thing, oldest first."""
    statement = select(AuditRow).where(AuditRow.subject == subject, AuditRow.subject_id == subject_id)
    return list(session.scalars(statement.order_by(AuditRow.audit_id.desc()).limit(limit)))[::-1]
