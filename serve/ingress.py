"""The HTTP routes, and nothing else: a route checks its input, asks one deployment and writes the answer.

Errors: ``serve.problems``. Size, time, headers, log: ``serve.guard``. This module imports no model and no torch.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version as version_of
from typing import Annotated, Any, cast

import pyarrow as pa
from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.types import ASGIApp

from cluster.config import Settings
from cluster.errors import DataError
from cluster.privacy import UserIds, open_user_ids
from cluster.schema import OPEN_ORDERS, STOCK
from recsys.sessions import LiveEvent
from serve import schemas
from serve.answers import PlanQuestion
from serve.guard import Limits, guard_api, log_to_stdout
from serve.problems import NotReadyError, add_problem_handlers, document_problems

_log = logging.getLogger("restock.serve")
_DESCRIPTION = """
How much of every product to order, what will sell, and what sells to whom.

Every error is a problem document (RFC 9457) with the id of the request. Send `X-Request-ID` to choose that id.
"""
_PROBLEM = {"model": schemas.Problem}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: _PROBLEM | {"description": "the body is not JSON"},
    408: _PROBLEM | {"description": "the body did not arrive in time"},
    409: _PROBLEM | {"description": "history or model is of another date than the request"},
    413: _PROBLEM | {"description": "the body is too long"},
    422: _PROBLEM | {"description": "the request is not as documented, or names what does not exist"},
    503: _PROBLEM | {"description": "a model is not available"},
    504: _PROBLEM | {"description": "no answer in time"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Handles of the deployments; anything whose methods answer to ``.remote()`` with an awaitable will do."""

    forecaster: Any
    recommender: Any
    sessions: Any
    policy: Any
    planner: Any


class _Api(FastAPI):
    """FastAPI whose document says what refusals look like."""

    def openapi(self) -> dict[str, Any]:
        """The document, made at the first call."""
        if self.openapi_schema is None:
            self.openapi_schema = document_problems(super().openapi())
        return self.openapi_schema


class Ingress:
    """The deployment that Serve's proxy sends requests to."""

    def __init__(self, services: dict[str, Any], settings: Settings) -> None:
        log_to_stdout()
        self._services = Services(**services)
        self._settings = settings

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Serve after the constructor."""
        return make_api(self._services, settings=self._settings)


def make_api(services: Services, *, settings: Settings) -> ASGIApp:
    """The guarded application over the given services."""
    api = _Api(title="Restock", version=version_of("restock"), description=_DESCRIPTION, redoc_url=None)
    api.state.services = services
    api.state.users = open_user_ids(settings)
    api.state.max_series = settings.serve.max_series_per_request
    api.include_router(router)
    add_problem_handlers(api)
    limits = Limits(max_body_bytes=settings.serve.max_body_bytes, timeout_s=settings.serve.request_timeout_s)
    return guard_api(api, limits=limits)


def _services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


def _users(request: Request) -> UserIds:
    return cast(UserIds, request.app.state.users)


def _max_series(request: Request) -> int:
    return cast(int, request.app.state.max_series)


ServicesOf = Annotated[Services, Depends(_services)]
UsersOf = Annotated[UserIds, Depends(_users)]
MaxSeriesOf = Annotated[int, Depends(_max_series)]
router = APIRouter()


@router.get(
    "/v1/recommendations", response_model=schemas.RecommendationAnswer, responses=_REFUSALS, tags=["recommendations"]
)
async def recommendations(
    query: Annotated[schemas.RecommendationQuery, Query()], services: ServicesOf, users: UsersOf
) -> JSONResponse:
    """Recommend what a user is likely to want next; an unknown user gets popular items, marked as a fallback."""
    # From here on users are called by their hash; the client is answered by the name that it gave.
    user_id = users.hash_id(query.user_id)
    live = await _live_events(services, user_id)
    answer = await services.recommender.recommend.remote([user_id], k=query.k, live=live)
    return JSONResponse(answer.to_json(0) | {"user_id": query.user_id})


@router.post("/v1/intents", response_model=schemas.IntentAnswer, responses=_REFUSALS, tags=["recommendations"])
async def intents(body: schemas.IntentRequest, services: ServicesOf) -> JSONResponse:
    """Say how likely a visit ends in a purchase, from what was done in it so far; nothing of it is stored."""
    events = [(event.item_id, event.event_type, event.occurred_at.timestamp()) for event in body.events]
    answer = await services.recommender.intent.remote(events)
    return JSONResponse(answer.to_json())


@router.post("/v1/events", response_model=schemas.EventsAnswer, responses=_REFUSALS, tags=["recommendations"])
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


@router.post("/v1/forecasts", response_model=schemas.ForecastAnswer, responses=_REFUSALS, tags=["forecasts"])
async def forecasts(body: schemas.ForecastRequest, services: ServicesOf, max_series: MaxSeriesOf) -> JSONResponse:
    """Forecast demand as quantiles: of each period, and summed from the first period on."""
    _check_number(len(body.series), max_series)
    series = [(row.item_id, row.location_id) for row in body.series]
    answer = await services.forecaster.predict.remote(
        series, horizon=body.horizon, levels=body.levels, as_of=body.as_of
    )
    return JSONResponse(answer.to_json())


@router.post("/v1/order-plans", response_model=schemas.OrderPlanAnswer, responses=_REFUSALS, tags=["order plans"])
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
    return JSONResponse(answer.to_json())


@router.get("/v1/models", response_model=schemas.ModelsAnswer, responses={503: _REFUSALS[503]}, tags=["models"])
async def models(services: ServicesOf) -> JSONResponse:
    """List the versions that answer now."""
    forecaster, recommender, policies = await asyncio.gather(
        services.forecaster.describe.remote(),
        services.recommender.describe.remote(),
        services.policy.describe.remote(),
    )
    served = [forecaster, recommender, *policies]
    return JSONResponse({"version": version_of("restock"), "models": [model.to_json() for model in served]})


@router.get("/healthz", response_model=schemas.HealthAnswer, tags=["health"])
async def healthz() -> JSONResponse:
    """Answer that this process is alive; it asks no model."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz", response_model=schemas.ReadyAnswer, responses={503: _REFUSALS[503]}, tags=["health"])
async def readyz(services: ServicesOf) -> JSONResponse:
    """Ask every model a real question; 503 names those that do not answer."""
    checks = {
        "forecaster": services.forecaster.check.remote(),
        "recommender": services.recommender.check.remote(),
        "sessions": services.sessions.check.remote(),
        "policy": services.policy.check.remote(),
        "planner": services.planner.check.remote(),
    }
    found = await asyncio.gather(*map(_outcome, checks.values()))
    failed = [name for name, outcome in zip(checks, found, strict=True) if outcome is None]
    if failed:
        raise NotReadyError(f"no answer from: {', '.join(failed)}; the service is starting, or needs its operator")
    return JSONResponse({"status": "ready", "checks": dict(zip(checks, found, strict=True))})


async def _outcome(check: Any) -> str | None:
    """What a check says, None where it fails: whatever the reason is, that model is not ready."""
    try:
        return str(await check)
    except Exception as error:
        _log.warning("readiness: %s", getattr(error, "cause", None) or error)
        return None


def _table(rows: Sequence[BaseModel], schema: pa.Schema) -> pa.Table:
    """Rows of a request as a table of the shop's own schema; columns that clients do not give are null."""
    columns = {name: [getattr(row, name, None) for row in rows] for name in schema.names}
    # A snapshot without a date is of the as-of day, so nullability is the request's, not the file's.
    return pa.table({name: pa.array(values, schema.field(name).type) for name, values in columns.items()})


def _check_number(num_series: int, max_series: int) -> None:
    if num_series > max_series:
        raise DataError(f"{num_series} series in one request, at most {max_series} are answered; split the request")
