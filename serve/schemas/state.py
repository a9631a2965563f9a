"""Health, readiness, and the one shape of all refusals."""

from pydantic import Field

from serve.schemas.fields import AnswerBody


class HealthAnswer(AnswerBody):
    """The process answers."""

    status: str


class ReadyAnswer(AnswerBody):
    """Every model has answered a real question."""

    status: str
    checks: dict[str, str]


class ProblemError(AnswerBody):
    """One thing that is wrong with a request."""

    pointer: str
    detail: str


class Problem(AnswerBody):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[ProblemError] = Field(default=[])
