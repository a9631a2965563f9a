"""The way in: what the settings say of callers, as one piece before an application."""

from collections.abc import Sequence

from fastapi.routing import APIRoute
from starlette.types import ASGIApp

from cluster.config import Settings
from serve.access.callers import Callers
from serve.access.cross_origin import CrossOrigin
from serve.access.gate import Gate
from serve.access.rates import Rates
from serve.access.tokens import TokenBook
from serve.store.database import Database


def admit(app: ASGIApp, *, routes: Sequence[APIRoute], database: Database, settings: Settings) -> ASGIApp:
    """Put the gate before an application, and before the gate what browsers of other sites are told."""
    serving = settings.serve
    callers = None
    if serving.access == "tokens":
        book = TokenBook(database)
        callers = Callers(book, fresh_s=serving.token_cache_s, stale_s=serving.token_grace_s)
    rates = Rates(rate_per_s=serving.rate_per_s, burst=serving.burst)
    gate = Gate(app, routes=routes, callers=callers, rates=rates)
    return CrossOrigin(gate, origins=serving.cors_origins) if serving.cors_origins else gate
