"""What clients send and get about lines that are handed over."""

from typing import Literal

from pydantic import AwareDatetime

from serve.schemas.fields import AnswerBody, Cursor, Id, Limit, Next, RequestBody


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
