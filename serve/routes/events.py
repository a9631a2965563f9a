"""What users do right now: kept once, and told to those who recommend."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from recsys.sessions import LiveEvent
from serve.access.roles import Scope, needs
from serve.handles import Services
from serve.routes.context import REFUSALS, ActorOf, Key, PlanningOf, ServicesOf, UsersOf
from serve.schemas.events import EventsAnswer, EventsRequest
from serve.store.live_events import EVENTS, keep_events

router = APIRouter(tags=["recommendations"])
_log = logging.getLogger("restock.serve")


@router.post("/v1/events", response_model=EventsAnswer, responses=REFUSALS)
@needs(Scope.TELL)
async def events(
    body: EventsRequest, key: Key, planning: PlanningOf, actor: ActorOf, services: ServicesOf, users: UsersOf
) -> JSONResponse:
    """Tell what a user just did: their next recommendations follow it, until the session is over."""
    now = datetime.now(UTC)
    told = [
        LiveEvent(
            item_id=row.item_id,
            behaviour=row.event_type,
            at_s=int(min(row.occurred_at or now, now).timestamp()),
        )
        for row in body.events
    ]
    user_id = users.hash_id(body.user_id)
    answer, is_repeat = await planning.take(
        EVENTS,
        key,
        body.model_dump(mode="json") | {"user_id": user_id},
        actor=actor,
        act=lambda session, _: {"num_kept": keep_events(session, {user_id: told}, now=now)},
    )
    if not is_repeat:
        await tell_recommenders(services, {user_id: told})
    return JSONResponse({"user_id": body.user_id, **answer, "is_repeat": is_repeat})


async def tell_recommenders(services: Services, told: Mapping[str, Sequence[LiveEvent]]) -> None:
    """Tell the replicas that recommend to these users now; the others, and those that are away, read the database."""
    asked = [
        services.recommender.options(session_id=user_id).observe.remote(user_id, events)
        for user_id, events in told.items()
    ]
    for outcome in await asyncio.gather(*asked, return_exceptions=True):
        if isinstance(outcome, Exception):
            _log.warning("recommender: %s; it will read the events from the database", outcome)
