"""What clients get of the audit."""

from typing import Annotated, Any

from pydantic import AwareDatetime, Field

from serve.schemas.fields import AnswerBody, Cursor, Id, Limit, Next, RequestBody


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
