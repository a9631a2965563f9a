"""What planners send and get when they decide on lines."""

from typing import Annotated

from pydantic import Field

from serve.schemas.fields import MAX_PAGE, AnswerBody, Day, GivenReason, Id, Reason, RequestBody, Units, Version


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
