"""The HTTP face: the deployment that takes requests, and the application of all routes under their guard.

Routes: ``serve.routes``. Errors: ``serve.problems``. Size, time, headers, log: ``serve.guard``. This module imports no
model and no torch.
"""

from collections.abc import Sequence
from importlib.metadata import version as version_of
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from cluster.config import Settings
from cluster.privacy import open_user_ids
from serve.guard import Limits, guard_api, log_to_stdout
from serve.metrics import Measured
from serve.problems import add_problem_handlers, document_problems
from serve.routes import answers, state
from serve.routes.context import Services

_DESCRIPTION = """
How much of every product to order, what will sell, and what sells to whom.

Every error is a problem document (RFC 9457) with the id of the request. Send `X-Request-ID` to choose that id.
"""


class _Api(FastAPI):
    """FastAPI whose document says what refusals look like."""

    def openapi(self) -> dict[str, Any]:
        """The document, made at the first call."""
        if self.openapi_schema is None:
            self.openapi_schema = document_problems(super().openapi())
        return self.openapi_schema


class Ingress(Measured):
    """The deployment that Serve's proxy sends requests to."""

    def __init__(self, services: dict[str, Any], settings: Settings) -> None:
        log_to_stdout()
        self._services = Services(**services)
        self._settings = settings

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Serve after the constructor."""
        from ray import serve  # here: the routes alone need no Ray

        context = serve.get_replica_context()
        itself = serve.get_deployment_handle(context.deployment, context.app_name)
        return make_api(self._services, settings=self._settings, ingresses=(itself,))


def make_api(services: Services, *, settings: Settings, ingresses: Sequence[Any] = ()) -> ASGIApp:
    """The guarded application over the given services.

    Parameters
    ----------
    ingresses
        Handle of the ingress itself, where it has replicas in other processes.
    """
    api = _Api(title="Restock", version=version_of("restock"), description=_DESCRIPTION, redoc_url=None)
    api.state.services = services
    api.state.ingresses = tuple(ingresses)
    api.state.users = open_user_ids(settings)
    api.state.max_series = settings.serve.max_series_per_request
    for routes in (answers, state):
        api.include_router(routes.router)
    add_problem_handlers(api)
    limits = Limits(max_body_bytes=settings.serve.max_body_bytes, timeout_s=settings.serve.request_timeout_s)
    return guard_api(api, limits=limits)
