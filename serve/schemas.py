"""What clients send and get: strict pydantic models with descriptions and examples for the OpenAPI document.

Requests are validated by these models. Answers are written from arrays (``serve.answers``) and only documented by them;
the tests hold the two together.
"""

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cluster.schema import DEFAULT_LOCATION

MAX_UNITS = 1e9
MAX_ROWS = 100_000
MAX_ITEMS = 100
MAX_EVENTS = 1_000


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


class PromotionRow(RequestBody):
    """A promotion that is planned and that history does not know of."""

    item_id: Id
    location_id: Annotated[Id | None, Field(description="place where it runs; default: everywhere")] = None
    promotion_type: Annotated[Id, Field(description="channel, one that history has: display, mailer, price, ...")]
    start_on: Day
    end_on: Annotated[Day, Field(description="last day")]
    intensity: Annotated[
        float, Field(strict=True, ge=0, le=1, allow_inf_nan=False, description="share of the audience reached")
    ] = 1.0

    @model_validator(mode="after")
    def _in_order(self) -> "PromotionRow":
        if self.end_on < self.start_on:
            raise ValueError("end_on lies before start_on")
        return self


class LateOrderRow(Series):
    """Units sold that history does not hold yet."""

    sold_on: Annotated[Day, Field(description="a day of history")]
    sold_qty: Units


Promotions = Annotated[
    list[PromotionRow], Field(max_length=MAX_EVENTS, description="planned promotions: forecasts follow them")
]
LateOrders = Annotated[
    list[LateOrderRow], Field(max_length=MAX_EVENTS, description="orders that came late: forecasts follow them")
]


class ForecastRequest(RequestBody):
    """Which series to forecast, how far and at which quantile levels."""

    model_config = example(
        {"series": [{"item_id": "1082185", "location_id": "main"}], "horizon": 7, "levels": [0.1, 0.5, 0.9]}
    )

    series: Annotated[list[Series], Field(min_length=1, max_length=MAX_ROWS, description="series to forecast")]
    horizon: Annotated[
        int | None, Field(strict=True, ge=1, le=1000, description="periods ahead; default and most: the model's own")
    ] = None
    levels: Annotated[
        list[Level] | None,
        Field(min_length=1, max_length=50, description="quantile levels within the model's own; default: those"),
    ] = None
    as_of: AsOf = None
    promotions: Promotions = []
    late_orders: LateOrders = []


class SeriesForecast(AnswerBody):
    """Demand of one series, units per period; quantile rows have one entry per level."""

    item_id: str
    location_id: str
    mean: Annotated[list[float], Field(description="expected demand of each period")]
    marginal: Annotated[list[list[float]], Field(description="quantiles of the demand of each single period")]
    cumulative: Annotated[
        list[list[float]], Field(description="quantiles of demand summed from the first period to this one")
    ]


class ForecastAnswer(AnswerBody):
    """Forecasts of all requested series, in the order of the request."""

    as_of: date
    period_days: Annotated[int, Field(description="1: one period is a day; 7: a week")]
    dates: Annotated[list[date], Field(description="first day of each period")]
    levels: list[float]
    model_version: str
    is_fallback: Annotated[
        bool, Field(description="true: the forecaster does not answer, these are its last stored forecasts")
    ]
    series: list[SeriesForecast]


class RecommendationQuery(RequestBody):
    """For whom, and how many."""

    user_id: Annotated[Id, Field(description="customer", examples=["1"])]
    k: Annotated[int, Field(ge=1, le=MAX_ITEMS, description="items to recommend")] = 10


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
    """How many of the events are kept."""

    user_id: str
    num_kept: Annotated[
        int, Field(description="without those told before, older than the session or than what is kept of it")
    ]


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


class StockRow(Series):
    """What is on the shelf at the start of the as-of day, receipts in."""

    on_hand_qty: Units
    reserved_qty: Units = 0.0
    backorder_qty: Units = 0.0
    snapshot_on: Annotated[
        Day | None, Field(description="day of the count; another day than the as-of one is refused")
    ] = None


class OpenOrderRow(Series):
    """Units ordered and not received."""

    open_qty: Units
    expected_on: Annotated[Day, Field(description="on the shelf at the start of this day")]


class OrderPlanRequest(RequestBody):
    """Which series to plan, from which stock."""

    model_config = example(
        {
            "series": [{"item_id": "1082185", "location_id": "main"}],
            "stock": [{"item_id": "1082185", "location_id": "main", "on_hand_qty": 12}],
            "open_orders": [{"item_id": "1082185", "location_id": "main", "open_qty": 6, "expected_on": "2018-01-02"}],
        }
    )

    series: Annotated[
        list[Series] | None,
        Field(min_length=1, max_length=MAX_ROWS, description="series to plan; default: all, up to the limit"),
    ] = None
    limit: Annotated[
        int | None, Field(strict=True, ge=1, le=MAX_ROWS, description="most lines, where series are not named")
    ] = None
    as_of: AsOf = None
    stock: Annotated[
        list[StockRow] | None,
        Field(
            min_length=1,
            max_length=MAX_ROWS,
            description="stock of the planned series (0 without a row); if left out, the shop's own table of that "
            "day, else it is assumed, and marked",
        ),
    ] = None
    open_orders: Annotated[
        list[OpenOrderRow], Field(max_length=MAX_ROWS, description="orders on their way; they need the stock too")
    ] = []
    promotions: Promotions = []
    late_orders: LateOrders = []

    @model_validator(mode="after")
    def _orders_with_stock(self) -> "OrderPlanRequest":
        if self.open_orders and self.stock is None:
            raise ValueError("open_orders without stock: give both, or neither to have both assumed")
        return self


class LedgerRow(AnswerBody):
    """One step from the wish to the quantity."""

    reason: Annotated[str, Field(description="rule that made this change")]
    change_qty: Annotated[float, Field(description="units added or taken; the ledger sums to the quantity")]
    sentence: str


class PlanLine(AnswerBody):
    """What to order of one series, and why; also where nothing is ordered. Money in account currency."""

    item_id: str
    location_id: str
    category_id: str
    policy: Annotated[str, Field(description="policy that made the wish")]
    is_fallback: Annotated[
        bool,
        Field(description="true: a textbook rule ordered; the category's own policy is missing or does not answer"),
    ]
    wish_qty: Annotated[float, Field(description="what the policy wants, before packs, minimum and storage")]
    order_qty: Annotated[float, Field(description="what to order")]
    arrives_on: Annotated[date, Field(description="on the shelf at the start of this day if ordered now")]
    reason: Annotated[str, Field(description="why this quantity, in one sentence")]
    remark: Annotated[str, Field(description="what to know of the input; empty for most")]
    on_hand_qty: float
    on_order_qty: float
    forecast_qty: Annotated[float, Field(description="expected demand until the next order can arrive")]
    order_value: float
    money_at_risk: Annotated[float, Field(description="expected cost of lost sales if nothing is ordered")]
    ledger: list[LedgerRow]


class OrderPlanAnswer(AnswerBody):
    """The order lines of one day."""

    as_of: date
    num_series_left_out: Annotated[int, Field(description="series of the dataset beyond the limit")]
    stock_is_assumed: Annotated[bool, Field(description="true: nobody gave the stock of that day")]
    notes: Annotated[
        list[str], Field(description="what the shop did not give and was assumed; what is late or unknown")
    ]
    model_versions: dict[str, str]
    lines: list[PlanLine]


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
    errors: list[ProblemError] = []
