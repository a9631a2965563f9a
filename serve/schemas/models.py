"""What clients send and get about the versions that serve."""

from datetime import date
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from serve.schemas.fields import AnswerBody, RequestBody, example


class ServedModel(AnswerBody):
    """One model version that answers now."""

    name: str
    version: str
    kind: str
    created_at: AwareDatetime
    trained_until_on: Annotated[date, Field(description="first day that the model has not seen")]


class ModelsAnswer(AnswerBody):
    """The versions that answer now."""

    version: Annotated[str, Field(description="version of Restock")]
    models: list[ServedModel]


ModelName = Annotated[
    str,
    Field(
        strict=True,
        max_length=120,
        pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_.-]+)?$",
        description="as GET /v1/models has it",
    ),
]
Why = Annotated[str, Field(strict=True, max_length=500, description="kept in the history of the alias")]


class PromoteRequest(RequestBody):
    """Which version is to serve."""

    model_config = example({"name": "forecaster", "version": "v0002", "reason": "less bias on the last four weeks"})

    name: ModelName
    version: Annotated[str, Field(strict=True, pattern=r"^v\d{4,9}$", description="a stored version")]
    reason: Why = ""


class RollBackRequest(RequestBody):
    """Which model is to go back to its champion of before."""

    model_config = example({"name": "forecaster", "reason": "stockouts since the swap"})

    name: ModelName
    reason: Why = ""


class PromotionAnswer(AnswerBody):
    """The champion has moved, and serves."""

    name: str
    version: str
    previous: Annotated[str | None, Field(description="champion of before")]
    kind: Literal["promote", "roll_back"]
