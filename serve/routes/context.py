"""What every route shares: the services that it may ask, the refusals that it documents.

This module imports no model and no torch.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, cast

from fastapi import Depends, Header, Path, Request
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from cluster.config import Settings
from cluster.errors import DataError
from cluster.privacy import UserIds
from serve.handles import Services
from serve.plans.foreman import Foreman
from serve.problems import NotReadyError
from serve.releases import Releases
from serve.schemas.state import Problem
from serve.store.database import Database
from serve.store.intake import take_once
from serve.store.last_state import KnownAnswer, LastState

STALE_HEADER = "x-restock-as-of"
_PROBLEM = {"model": Problem}
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: _PROBLEM | {"description": "the body is not JSON"},
    404: _PROBLEM | {"description": "what the path names is not there"},
    408: _PROBLEM | {"description": "the body did not arrive in time"},
    409: _PROBLEM | {"description": "inputs are of another date than the request, or somebody else was first"},
    413: _PROBLEM | {"description": "the body is too long"},
    422: _PROBLEM | {"description": "the request is not as documented, or names what does not exist"},
    503: _PROBLEM | {"description": "a model or the database is not available"},
    504: _PROBLEM | {"description": "no answer in time"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What questions to the models need, in one piece: each that FastAPI fetches by itself costs a request as much.

    Parameters
    ----------
    max_series
        Series of one question.
    patience_s
        A model that takes longer is answered for.
    """

    services: Services
    users: UserIds
    max_series: int
    patience_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """Where stored plans are kept and computed.

    Parameters
    ----------
    last_state
        Answers reads, also while the database is down.
    """

    settings: Settings
    database: Database
    foreman: Foreman
    last_state: LastState

    async def read(self, question: str, query: Callable[[Session], Any]) -> KnownAnswer:
        """Answer of a query, outside the event loop."""
        return await asyncio.to_thread(self.last_state.read, question, query)

    async def answer(self, question: str, query: Callable[[Session], Any]) -> JSONResponse:
        """The answer of a query as it is sent."""
        known = await self.read(question, query)
        return JSONResponse(known.value, headers=self.age_of(known))

    async def take(
        self, kind: str, key: str, content: object, *, actor: str, act: Callable[[Session, str], dict[str, Any]]
    ) -> tuple[dict[str, Any], bool]:
        """Do ``act`` once for a key, outside the event loop; its answer, and whether it is a repeat.

        Raises
        ------
        ConflictError
            If the key was used for other content.
        """

        def take() -> tuple[dict[str, Any], bool]:
            with self.database.writing() as session:
                return take_once(
                    session, kind=kind, key=key, content=content, actor=actor, act=lambda: act(session, f"{kind} {key}")
                )

        return await asyncio.to_thread(take)

    def age_of(self, known: KnownAnswer) -> dict[str, str]:
        """Header that says since when an answer is old; none if it is not."""
        return {} if known.is_fresh else {STALE_HEADER: known.read_at.isoformat()}


# Coroutines, though none waits: what is not one, FastAPI runs in a thread.
async def _asking(request: Request) -> Asking:
    return cast(Asking, request.app.state.asking)


async def _services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


async def _users(request: Request) -> UserIds:
    return cast(UserIds, request.app.state.users)


async def _processes(request: Request) -> tuple[Any, ...]:
    services = await _services(request)
    return (*(getattr(services, field.name) for field in fields(services)), *request.app.state.ingresses)


async def _database(request: Request) -> Database:
    return cast(Database, request.app.state.database)


async def _releases(request: Request) -> Releases:
    releases = request.app.state.releases
    if releases is None:
        raise NotReadyError("models of this service cannot be changed over HTTP; restart it with other champions")
    return cast(Releases, releases)


async def each_once(request: Request) -> None:
    """Refuse a query that gives a parameter twice: one of them would not count, and nobody would say which."""
    names = [name for name, _ in request.query_params.multi_items()]
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if repeated:
        raise DataError(f"query: {', '.join(map(repr, repeated))} is given more than once; give one value")


async def _planning(request: Request) -> Planning:
    return cast(Planning, request.app.state.planning)


async def _actor(request: Request) -> str:
    return cast(str, request.state.actor)


Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="a name for this batch: sent again under it, it is answered again and changes nothing",
    ),
]
PathId = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
ServicesOf = Annotated[Services, Depends(_services)]
UsersOf = Annotated[UserIds, Depends(_users)]
# Handles of everything that measures, the ingress among them.
ProcessesOf = Annotated[tuple[Any, ...], Depends(_processes)]
DatabaseOf = Annotated[Database, Depends(_database)]
ReleasesOf = Annotated[Releases, Depends(_releases)]
PlanningOf = Annotated[Planning, Depends(_planning)]
# Who asks, for the audit.
ActorOf = Annotated[str, Depends(_actor)]
AskingOf = Annotated[Asking, Depends(_asking)]
