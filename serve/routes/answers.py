"""What the models answer: recommendations, intents, forecasts, order plans."""

from collections.abc import Sequence
from typing import Annotated, Any

import pyarrow as pa
from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from pydantic_core import to_json

from cluster.errors import DataError
from cluster.schema import OPEN_ORDERS, PROMOTIONS, STOCK
from serve.access.roles import Scope, needs
from serve.answers import Changes, PlanQuestion
from serve.fallbacks import first_answer
from serve.routes.context import REFUSALS, AskingOf
from serve.schemas.forecasts import ForecastAnswer, ForecastRequest
from serve.schemas.order_plans import OrderPlanAnswer, OrderPlanRequest
from serve.schemas.recommendations import IntentAnswer, IntentRequest, RecommendationAnswer, RecommendationQuery
from serve.watch.counts import count_plan, count_recommendations

_LATE_ORDERS = pa.schema(
    [("item_id", pa.string()), ("location_id", pa.string()), ("sold_on", pa.date32()), ("sold_qty", pa.float64())]
)
router = APIRouter()


class Answer(JSONResponse):
    """JSON as pydantic writes it, which takes a fifth of the time: a forecast of 50 series has 25,000 numbers."""

    def render(self, content: Any) -> bytes:
        """The body; as everywhere, what is no number is an error."""
        body = to_json(content)
        # It may be text of the shop's; Python's own encoder tells.
        is_doubtful = b"NaN" in body or b"Infinity" in body
        return super().render(content) if is_doubtful else body


@router.get("/v1/recommendations", response_model=RecommendationAnswer, responses=REFUSALS, tags=["recommendations"])
@needs(Scope.ASK)
async def recommendations(query: Annotated[RecommendationQuery, Query()], asking: AskingOf) -> Answer:
    """Recommend what a user is likely to want next; an unknown user gets popular items, marked as a fallback."""
    # From here on users are called by their hash; the client is answered by the name that it gave.
    user_id = asking.users.hash_id(query.user_id)
    recommender = asking.services.recommender.options(session_id=user_id)
    answer = await first_answer(
        lambda: recommender.recommend.remote([user_id], k=query.k),
        fall_back=lambda: asking.services.planner.popular.remote([user_id], k=query.k),
        patience_s=asking.patience_s,
        what="recommender",
    )
    count_recommendations(answer)
    return Answer(answer.to_json(0) | {"user_id": query.user_id})


@router.post("/v1/intents", response_model=IntentAnswer, responses=REFUSALS, tags=["recommendations"])
@needs(Scope.ASK)
async def intents(body: IntentRequest, asking: AskingOf) -> Answer:
    """Say how likely a visit ends in a purchase, from what was done in it so far; nothing of it is stored."""
    events = [(event.item_id, event.event_type, event.occurred_at.timestamp()) for event in body.events]
    answer = await asking.services.recommender.intent.remote(events)
    return Answer(answer.to_json())


@router.post("/v1/forecasts", response_model=ForecastAnswer, responses=REFUSALS, tags=["forecasts"])
@needs(Scope.ASK)
async def forecasts(body: ForecastRequest, asking: AskingOf) -> Answer:
    """Forecast demand as quantiles: of each period, and summed from the first period on."""
    _check_number(len(body.series), asking.max_series)
    series = [(row.item_id, row.location_id) for row in body.series]
    asked = {"horizon": body.horizon, "levels": body.levels, "as_of": body.as_of}
    answer = await first_answer(
        lambda: asking.services.forecaster.predict.remote(series, **asked, changes=_changes(body)),
        fall_back=lambda: asking.services.planner.stored_forecasts.remote(series, **asked),
        patience_s=asking.patience_s,
        what="forecaster",
    )
    return Answer(answer.to_json())


@router.post("/v1/order-plans", response_model=OrderPlanAnswer, responses=REFUSALS, tags=["order plans"])
@needs(Scope.ASK)
async def order_plans(body: OrderPlanRequest, asking: AskingOf) -> Answer:
    """Say what to order of each series now, and why; nothing is ordered or stored by asking."""
    _check_number(len(body.series or ()), asking.max_series)
    question = PlanQuestion(
        series=None if body.series is None else [(row.item_id, row.location_id) for row in body.series],
        limit=min(body.limit or asking.max_series, asking.max_series),
        as_of=body.as_of,
        stock=None if body.stock is None else _table(body.stock, STOCK),
        open_orders=_table(body.open_orders, OPEN_ORDERS),
        changes=_changes(body),
        with_drivers=body.drivers,
    )
    answer = await asking.services.planner.plan.remote(question)
    count_plan(answer)
    return Answer(answer.to_json())


def _changes(body: ForecastRequest | OrderPlanRequest) -> Changes | None:
    if not body.promotions and not body.late_orders:
        return None
    return Changes(
        promotions=_table(body.promotions, PROMOTIONS) if body.promotions else None,
        late_orders=_table(body.late_orders, _LATE_ORDERS) if body.late_orders else None,
    )


def _table(rows: Sequence[BaseModel], schema: pa.Schema) -> pa.Table:
    """Rows of a request as a table of the shop's own schema; columns that clients do not give are null."""
    columns = {name: [getattr(row, name, None) for row in rows] for name in schema.names}
    # A snapshot without a date is of the as-of day, so nullability is the request's, not the file's.
    return pa.table({name: pa.array(values, schema.field(name).type) for name, values in columns.items()})


def _check_number(num_series: int, max_series: int) -> None:
    if num_series > max_series:
        raise DataError(f"{num_series} series in one request, at most {max_series} are answered; split the request")
