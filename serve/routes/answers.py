"""What the models answer: recommendations, intents, forecasts, order plans; and the events that move them."""

import logging
from collections.abc import Sequence
from typing import Annotated

import pyarrow as pa
from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from cluster.errors import DataError
from cluster.schema import OPEN_ORDERS, STOCK
from recsys.sessions import LiveEvent
from serve import schemas
from serve.answers import PlanQuestion
from serve.counts import count_plan, count_recommendations
from serve.routes.context import REFUSALS, MaxSeriesOf, Services, ServicesOf, UsersOf

_log = logging.getLogger("restock.serve")
router = APIRouter()


@router.get(
    "/v1/recommendations", response_model=schemas.RecommendationAnswer, responses=REFUSALS, tags=["recommendations"]
)
async def recommendations(
    query: Annotated[schemas.RecommendationQuery, Query()], services: ServicesOf, users: UsersOf
) -> JSONResponse:
    """Recommend what a user is likely to want next; an unknown user gets popular items, marked as a fallback."""
    # From here on users are called by their hash; the client is answered by the name that it gave.
    user_id = users.hash_id(query.user_id)
    live = await _live_events(services, user_id)
    answer = await services.recommender.recommend.remote([user_id], k=query.k, live=live)
    count_recommendations(answer)
    return JSONResponse(answer.to_json(0) | {"user_id": query.user_id})


@router.post("/v1/intents", response_model=schemas.IntentAnswer, responses=REFUSALS, tags=["recommendations"])
async def intents(body: schemas.IntentRequest, services: ServicesOf) -> JSONResponse:
    """Say how likely a visit ends in a purchase, from what was done in it so far; nothing of it is stored."""
    events = [(event.item_id, event.event_type, event.occurred_at.timestamp()) for event in body.events]
    answer = await services.recommender.intent.remote(events)
    return JSONResponse(answer.to_json())


@router.post("/v1/events", response_model=schemas.EventsAnswer, responses=REFUSALS, tags=["recommendations"])
async def events(body: schemas.EventsRequest, services: ServicesOf, users: UsersOf) -> JSONResponse:
    """Tell what a user just did: their next recommendations follow it, until the session is over."""
    told = [
        LiveEvent(
            item_id=row.item_id,
            behaviour=row.event_type,
            at_s=None if row.occurred_at is None else int(row.occurred_at.timestamp()),
        )
        for row in body.events
    ]
    num_kept = await services.sessions.observe.remote(users.hash_id(body.user_id), told)
    return JSONResponse({"user_id": body.user_id, "num_kept": num_kept})


async def _live_events(services: Services, user_id: str) -> dict[str, tuple[LiveEvent, ...]]:
    """What the user did just now; nothing where that cannot be said: stored history is better than no answer."""
    try:
        return dict(await services.sessions.recent.remote([user_id]))
    except Exception as error:
        _log.warning("sessions: %s", getattr(error, "cause", None) or error)
        return {}


@router.post("/v1/forecasts", response_model=schemas.ForecastAnswer, responses=REFUSALS, tags=["forecasts"])
async def forecasts(body: schemas.ForecastRequest, services: ServicesOf, max_series: MaxSeriesOf) -> JSONResponse:
    """Forecast demand as quantiles: of each period, and summed from the first period on."""
    _check_number(len(body.series), max_series)
    series = [(row.item_id, row.location_id) for row in body.series]
    answer = await services.forecaster.predict.remote(
        series, horizon=body.horizon, levels=body.levels, as_of=body.as_of
    )
    return JSONResponse(answer.to_json())


@router.post("/v1/order-plans", response_model=schemas.OrderPlanAnswer, responses=REFUSALS, tags=["order plans"])
async def order_plans(body: schemas.OrderPlanRequest, services: ServicesOf, max_series: MaxSeriesOf) -> JSONResponse:
    """Say what to order of each series now, and why; nothing is ordered or stored by asking."""
    _check_number(len(body.series or ()), max_series)
    question = PlanQuestion(
        series=None if body.series is None else [(row.item_id, row.location_id) for row in body.series],
        limit=min(body.limit or max_series, max_series),
        as_of=body.as_of,
        stock=None if body.stock is None else _table(body.stock, STOCK),
        open_orders=_table(body.open_orders, OPEN_ORDERS),
    )
    answer = await services.planner.plan.remote(question)
    count_plan(answer)
    return JSONResponse(answer.to_json())


def _table(rows: Sequence[BaseModel], schema: pa.Schema) -> pa.Table:
    """Rows of a request as a table of the shop's own schema; columns that clients do not give are null."""
    columns = {name: [getattr(row, name, None) for row in rows] for name in schema.names}
    # A snapshot without a date is of the as-of day, so nullability is the request's, not the file's.
    return pa.table({name: pa.array(values, schema.field(name).type) for name, values in columns.items()})


def _check_number(num_series: int, max_series: int) -> None:
    if num_series > max_series:
        raise DataError(f"{num_series} series in one request, at most {max_series} are answered; split the request")
