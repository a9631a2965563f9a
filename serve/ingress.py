"""The HTTP face: the deployment that takes requests, and the application of all routes under their guard.

Routes: ``serve.routes``. Errors: ``serve.problems``. Size, time, headers, log: ``serve.guard``. This module imports no
model and no torch.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version as version_of
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp

from cluster.config import Settings
from cluster.privacy import open_user_ids
from serve.access.entrance import admit
from serve.access.roles import document_access
from serve.guard import Limits, guard_api
from serve.handles import PatientHandle, Services
from serve.layout import LocalReplicas
from serve.plans.foreman import Foreman
from serve.problems import add_problem_handlers, document_problems
from serve.releases import Releases
from serve.routes import answers, events, models, plans, state, stock
from serve.routes.context import Asking, Planning
from serve.store.database import Database, open_database
from serve.store.last_state import LastState
from serve.store.sweeper import Sweeper
from serve.watch.log import write_to_output
from serve.watch.metrics import Measured

_ROUTES = (answers, events, models, plans, stock, state)
_DESCRIPTION = """
How much of every product to order, what will sell, and what sells to whom.

Every error is a problem document (RFC 9457) with the id of the request. Send `X-Request-ID` to choose that id.

Send `Authorization: Bearer <token>`; each route says which roles it takes.
"""


class _Api(FastAPI):
    """FastAPI whose document says who is let in, and what refusals look like."""

    @property
    def served(self) -> list[APIRoute]:
        """The routes that have a function of ours."""
        return [route for routes in _ROUTES for route in routes.router.routes if isinstance(route, APIRoute)]

    def openapi(self) -> dict[str, Any]:
        """The document, made at the first call."""
        if self.openapi_schema is None:
            self.openapi_schema = document_problems(document_access(super().openapi(), self.served))
        return self.openapi_schema


class Ingress(Measured):
    """The deployment that Serve's proxy sends requests to.

    Parameters
    ----------
    code
        Digest of the code that the service was started with: a release keeps to it, whatever is installed meanwhile.
    handles
        Serve's handles of the deployments behind it, named as in ``Services``; None for the ``fused`` layout: it then
        holds the replicas itself, and ``user_config`` has the versions of all of them by name.
    """

    def __init__(self, settings: Settings, code: str, handles: dict[str, Any] | None = None) -> None:
        write_to_output()
        self._settings = settings
        self._code = code
        self._fused = LocalReplicas(settings) if handles is None else None
        self._handles = handles or {}

    async def reconfigure(self, user_config: dict[str, dict[str, Any]]) -> None:
        """Serve the given versions; called by Serve in the ``fused`` layout only."""
        assert self._fused is not None
        await self._fused.reconfigure(user_config)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Serve after the constructor."""
        from ray import serve  # here: the routes alone need no Ray

        context = serve.get_replica_context()
        itself = serve.get_deployment_handle(context.deployment, context.app_name)
        patient = {name: PatientHandle(handle) for name, handle in self._handles.items()}
        services = self._fused.services if self._fused is not None else Services(**patient)
        releases = _live_releases(self._settings, code=self._code)
        return make_api(services, settings=self._settings, releases=releases, ingresses=(itself,))


def _live_releases(settings: Settings, *, code: str) -> Releases:
    from serve.app import check_apart, deploy  # here: the routes alone need no Ray

    return Releases(settings, check=check_apart, deploy=partial(deploy, code=code))


def make_api(
    services: Services, *, settings: Settings, releases: Releases | None = None, ingresses: Sequence[Any] = ()
) -> ASGIApp:
    """The guarded application over the given services.

    Parameters
    ----------
    releases
        Changes what serves; None where nothing can be changed.
    ingresses
        Handle of the ingress itself, where it has replicas in other processes.
    """
    database = open_database(settings)
    planning = _make_planning(services, database, settings)
    api = _Api(
        title="Restock",
        version=version_of("restock"),
        description=_DESCRIPTION,
        redoc_url=None,
        lifespan=partial(_working, planning),
    )
    api.state.planning = planning
    api.state.database = database
    api.state.services = services
    api.state.releases = releases
    api.state.ingresses = tuple(ingresses)
    api.state.users = users = open_user_ids(settings)
    api.state.asking = Asking(
        services=services,
        users=users,
        max_series=settings.serve.max_series_per_request,
        patience_s=settings.serve.patience_s,
    )
    for routes in _ROUTES:
        api.include_router(routes.router)
    add_problem_handlers(api)
    gate = partial(admit, routes=api.served, database=database, settings=settings)
    limits = Limits(max_body_bytes=settings.serve.max_body_bytes, timeout_s=settings.serve.request_timeout_s)
    return guard_api(api, limits=limits, gate=gate)


def _make_planning(services: Services, database: Database, settings: Settings) -> Planning:
    return Planning(
        settings=settings,
        database=database,
        foreman=Foreman(database, services.planner, settings=settings.plan),
        last_state=LastState(database),
    )


@asynccontextmanager
async def _working(planning: Planning, _: FastAPI) -> AsyncIterator[None]:
    """Work on plan runs, and drop old events, for as long as requests are answered."""
    serving = planning.settings.serve
    sweeper = Sweeper(planning.database, days=serving.event_days, session_ttl_s=serving.session_ttl_s)
    planning.foreman.start()
    sweeper.start()
    try:
        yield
    finally:
        sweeper.stop()
        await planning.foreman.stop()
        planning.database.close()
