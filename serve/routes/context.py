"""What every route shares: the services that it may ask, the refusals that it documents.

This module imports no model and no torch.
"""

from dataclasses import fields
from typing import Annotated, Any, cast

from fastapi import Depends, Request

from cluster.privacy import UserIds
from serve import schemas
from serve.database import Database
from serve.handles import Services
from serve.problems import NotReadyError
from serve.releases import Releases

_PROBLEM = {"model": schemas.Problem}
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: _PROBLEM | {"description": "the body is not JSON"},
    408: _PROBLEM | {"description": "the body did not arrive in time"},
    409: _PROBLEM | {"description": "history or model is of another date than the request"},
    413: _PROBLEM | {"description": "the body is too long"},
    422: _PROBLEM | {"description": "the request is not as documented, or names what does not exist"},
    503: _PROBLEM | {"description": "a model is not available"},
    504: _PROBLEM | {"description": "no answer in time"},
}


def _services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


def _users(request: Request) -> UserIds:
    return cast(UserIds, request.app.state.users)


def _max_series(request: Request) -> int:
    return cast(int, request.app.state.max_series)


def _processes(request: Request) -> tuple[Any, ...]:
    services = _services(request)
    return (*(getattr(services, field.name) for field in fields(services)), *request.app.state.ingresses)


def _database(request: Request) -> Database:
    return cast(Database, request.app.state.database)


def _releases(request: Request) -> Releases:
    releases = request.app.state.releases
    if releases is None:
        raise NotReadyError("models of this service cannot be changed over HTTP; restart it with other champions")
    return cast(Releases, releases)


def _actor(request: Request) -> str | None:
    return cast(str | None, request.scope.get("state", {}).get("actor"))


def _patience_s(request: Request) -> float:
    return cast(float, request.app.state.patience_s)


ServicesOf = Annotated[Services, Depends(_services)]
UsersOf = Annotated[UserIds, Depends(_users)]
MaxSeriesOf = Annotated[int, Depends(_max_series)]
# Handles of everything that measures, the ingress among them.
ProcessesOf = Annotated[tuple[Any, ...], Depends(_processes)]
DatabaseOf = Annotated[Database, Depends(_database)]
# Name of the caller's token; None where nobody asks for one.
ActorOf = Annotated[str | None, Depends(_actor)]
ReleasesOf = Annotated[Releases, Depends(_releases)]
PatienceOf = Annotated[float, Depends(_patience_s)]
