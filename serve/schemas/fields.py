"""What all bodies share: strict fields with their limits, and the two kinds of body."""

from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from cluster.schema import DEFAULT_LOCATION

MAX_UNITS = 1e9
MAX_ROWS = 100_000
MAX_ITEMS = 100
MAX_EVENTS = 1_000
MAX_PAGE = 1_000
MAX_TOLD = 10_000


def _iso_day(value: object) -> object:
    # Pydantic would also take 5 for five seconds after 1970.
    if isinstance(value, date):
        return value
    if not isinstance(value, str):
        raise ValueError("write a date as YYYY-MM-DD")
    return value


Id = Annotated[
    str, Field(strict=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$", description="external id")
]
Units = Annotated[float, Field(strict=True, ge=0, le=MAX_UNITS, allow_inf_nan=False, description="units")]
Day = Annotated[date, BeforeValidator(_iso_day)]
# Years that no shop has seen do not survive a change of time zone.
Moment = Annotated[AwareDatetime, Field(ge=datetime(1970, 1, 1, tzinfo=UTC))]
Level = Annotated[float, Field(strict=True, gt=0, lt=1, allow_inf_nan=False)]


class RequestBody(BaseModel):
    """A misspelt key is an error, and nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AnswerBody(BaseModel):
    """Documents an answer; the tests check answers against it."""

    model_config = ConfigDict(extra="forbid")


def example(value: dict[str, Any]) -> ConfigDict:
    """Configuration of a request with an example for its documentation."""
    return ConfigDict(json_schema_extra={"examples": [value]})


class Series(RequestBody):
    """One item at one location."""

    item_id: Id
    location_id: Id = DEFAULT_LOCATION


AsOf = Annotated[
    Day | None,
    Field(
        description="first day that is not known yet; default: the day after history. Nothing from this day on is read"
    ),
]
# PostgreSQL has no character 0.
Reason = Annotated[
    str, Field(strict=True, max_length=1_000, pattern=r"^[^\x00]*$", description="why; kept in the audit")
]
GivenReason = Annotated[Reason, Field(min_length=1)]
Cursor = Annotated[str | None, Field(max_length=1_000, description="'next' of the page before; default: the first")]
Limit = Annotated[int, Field(ge=1, le=MAX_PAGE, description="most rows of the page")]
Next = Annotated[str | None, Field(description="'after' of the next page; null: this is the last")]
Version = Annotated[
    int, Field(strict=True, ge=1, le=2**31 - 1, description="version of the line that was looked at; another one: 409")
]
