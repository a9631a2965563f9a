"""How the service is: which models answer, whether it is alive, whether it is ready, what it measures."""

import asyncio
import logging
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from sqlalchemy import select

from serve.access.roles import Scope, needs
from serve.problems import NotReadyError
from serve.routes.context import REFUSALS, DatabaseOf, ProcessesOf, ServicesOf
from serve.schemas.state import HealthAnswer, ReadyAnswer
from serve.store.database import Database, DatabaseDownError
from serve.watch.scrape import scrape

_log = logging.getLogger("restock.serve")
router = APIRouter()


@router.get("/healthz", response_model=HealthAnswer, tags=["health"])
@needs(Scope.OPEN)
async def healthz() -> JSONResponse:
    """Answer that this process is alive; it asks no model."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz", response_model=ReadyAnswer, responses={503: REFUSALS[503]}, tags=["health"])
@needs(Scope.OPEN)
async def readyz(services: ServicesOf, database: DatabaseOf) -> JSONResponse:
    """Ask every model a real question; 503 names those that do not. Without its database it is ready."""
    checks = {
        "forecaster": services.forecaster.check.remote(),
        "recommender": services.recommender.check.remote(),
        "policy": services.policy.check.remote(),
        "planner": services.planner.check.remote(),
    }
    found = await asyncio.gather(*map(_outcome, checks.values()))
    failed = [name for name, outcome in zip(checks, found, strict=True) if outcome is None]
    if failed:
        raise NotReadyError(f"no answer from: {', '.join(failed)}; the service is starting, or needs its operator")
    stored = await asyncio.to_thread(_database_state, database)
    return JSONResponse({"status": "ready", "checks": dict(zip(checks, found, strict=True)) | {"database": stored}})


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"description": "Prometheus text format"}},
    tags=["health"],
)
@needs(Scope.READ)
async def metrics(processes: ProcessesOf, database: DatabaseOf) -> PlainTextResponse:
    """Show what every process of the service has measured, for Prometheus; `docs/metrics.md` lists it."""
    return PlainTextResponse(await scrape(processes, database=database), media_type=CONTENT_TYPE_PLAIN_0_0_4)


def _database_state(database: Database) -> str:
    try:
        with database.reading() as session:
            session.execute(select(1))
    except DatabaseDownError as error:
        _log.warning("readiness: %s", error)
        return "does not answer: reads are as of the last state, writes are refused"
    return "answers"


async def _outcome(check: Any) -> str | None:
    """What a check says, None where it fails: whatever the reason is, that model is not ready."""
    try:
        return str(await check)
    except Exception as error:
        _log.warning("readiness: %s", getattr(error, "cause", None) or error)
        return None
