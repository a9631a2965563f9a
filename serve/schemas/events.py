"""What clients tell about their users."""

from typing import Annotated, Literal

from pydantic import Field

from serve.schemas.fields import MAX_ITEMS, AnswerBody, Id, Moment, RequestBody, example


class LiveEventRow(RequestBody):
    """One thing that a user did."""

    item_id: Id
    event_type: Annotated[
        Literal["view", "click", "cart", "purchase", "review"], Field(description="what was done")
    ] = "view"
    occurred_at: Annotated[Moment | None, Field(description="default: now; a moment in the future counts as now")] = (
        None
    )


class EventsRequest(RequestBody):
    """What one user did just now."""

    model_config = example({"user_id": "1", "events": [{"item_id": "1082185", "event_type": "cart"}]})

    user_id: Id
    events: Annotated[list[LiveEventRow], Field(min_length=1, max_length=MAX_ITEMS)]


class EventsAnswer(AnswerBody):
    """How many of the events are new."""

    user_id: str
    num_kept: Annotated[int, Field(description="without those that were told before")]
    is_repeat: Annotated[bool, Field(description="true: told before under this key; nothing was changed")]
