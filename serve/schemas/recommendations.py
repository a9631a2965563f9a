"""What clients send and get about recommendations and a visit's intent."""

from typing import Annotated, Literal

from pydantic import Field

from serve.schemas.fields import MAX_EVENTS, MAX_ITEMS, AnswerBody, Id, Moment, RequestBody, example


class RecommendationQuery(RequestBody):
    """For whom, and how many."""

    user_id: Annotated[Id, Field(description="customer", examples=["1"])]
    k: Annotated[int, Field(ge=1, le=MAX_ITEMS, description="items to recommend")] = 10


class RecommendedItem(AnswerBody):
    """One item, best first."""

    item_id: str
    score: Annotated[float, Field(description="comparable within one answer only")]
    reason: Annotated[str, Field(description="why this item")]


class Interest(AnswerBody):
    """A category that a user is interested in."""

    category_id: str
    share: Annotated[float, Field(description="expected share of what the user does next")]


class DueItem(AnswerBody):
    """An item that a user has bought and may need again."""

    item_id: str
    probability: Annotated[float, Field(description="chance that it is bought within due_within_days")]


class RecommendationAnswer(AnswerBody):
    """What one user is likely to want next."""

    user_id: str
    is_fallback: Annotated[
        bool,
        Field(description="true: nothing is known of this user, or the recommender does not answer: popular items"),
    ]
    model_version: str
    items: list[RecommendedItem]
    interests: Annotated[list[Interest], Field(description="largest first")]
    due_items: Annotated[list[DueItem], Field(description="most likely first")]
    due_within_days: Annotated[int | None, Field(description="null: the model was stored without intervals")]


class VisitEvent(RequestBody):
    """One thing that a visitor did."""

    item_id: Id
    event_type: Annotated[Literal["view", "click", "cart", "purchase", "review"], Field(description="what it was")]
    occurred_at: Annotated[Moment, Field(description="when, with its time zone")]


class IntentRequest(RequestBody):
    """A visit so far."""

    model_config = example(
        {"events": [{"item_id": "1082185", "event_type": "view", "occurred_at": "2018-01-02T10:00:00Z"}]}
    )

    events: Annotated[list[VisitEvent], Field(min_length=1, max_length=MAX_EVENTS, description="in any order")]


class IntentAnswer(AnswerBody):
    """How likely the visit ends in a purchase."""

    probability: Annotated[
        float | None,
        Field(
            description="chance that something is bought later in this visit; null: the shop's events did not teach it"
        ),
    ]
    model_version: str
