"""The gate: who is asking, may they, and not too often. It stands before a request's body is read.

Plain ASGI. It looks up the route by itself, so that what is refused costs no more than a look at the headers.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from math import ceil

from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.access.callers import Caller, Callers
from serve.access.rates import Rates
from serve.access.roles import Role, roles_with, scope_of
from serve.access.roles import Scope as Needed
from serve.guard import send_problem
from serve.problems import NotReadyError

DEVELOPMENT = "development"
_NO_TOKEN = "send a token: 'authorization: Bearer rst_...'; 'restock tokens create' makes one"
_BAD_TOKEN = "the token is unknown, expired or revoked; ask the operator for another"
_REBOUND = "development access answers to localhost and addresses only; serve.access=tokens answers to every name"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    status: HTTPStatus
    detail: str
    headers: dict[str, str]


class Gate:
    """Lets a request through to the application, or answers it with a problem document.

    The caller's name is in ``scope["state"]["actor"]`` from here on, and the role in ``["role"]``.

    Parameters
    ----------
    routes
        Routes of the application; each says what it needs (``serve.access.roles.needs``).
    callers
        Who knows the tokens; None lets everybody on this machine do everything, as ``development``.
    """

    def __init__(self, app: ASGIApp, *, routes: Sequence[APIRoute], callers: Callers | None, rates: Rates) -> None:
        self._app = app
        self._needed = [(route, scope_of(route)) for route in routes]
        self._callers = callers
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        needed = self._needs(scope)
        if self._callers is None and _is_rebound(scope):
            await send_problem(scope, send, HTTPStatus.MISDIRECTED_REQUEST, _REBOUND)
            return
        try:
            caller = await self._caller(scope, needed)
        except NotReadyError as error:
            await send_problem(scope, send, error.http_status, str(error))
            return
        wait_s = self._rates.take(_address(scope) if caller is None else caller.key)
        refusal = _too_often(wait_s) if wait_s else _refusal(scope, caller, needed)
        if refusal is not None:
            await send_problem(scope, send, refusal.status, refusal.detail, headers=refusal.headers)
            return
        if caller is not None:
            scope["state"] |= {"actor": caller.name, "role": caller.role}
        await self._app(scope, receive, send)

    def _needs(self, scope: Scope) -> Needed:
        for route, needed in self._needed:
            if route.matches(scope)[0] is Match.FULL:
                # Also for the log and the metrics, should the request end here.
                scope["route"] = route
                return needed
        return Needed.OPEN  # no such route or method: the application says so

    async def _caller(self, scope: Scope, needed: Needed) -> Caller | None:
        if self._callers is None:
            return Caller(name=DEVELOPMENT, role=Role.OPERATOR, key=_address(scope))
        if needed is Needed.OPEN:
            return None
        return await self._callers.caller_of(_token(scope))


def _refusal(scope: Scope, caller: Caller | None, needed: Needed) -> _Refusal | None:
    if needed is Needed.OPEN:
        return None
    if caller is None:
        return _Refusal(
            status=HTTPStatus.UNAUTHORIZED,
            detail=_BAD_TOKEN if _token(scope) else _NO_TOKEN,
            headers={"www-authenticate": 'Bearer realm="restock"'},
        )
    if caller.role.may(needed):
        return None
    roles = " or ".join(roles_with(needed))
    detail = f"the role {caller.role} may not do this; it takes a token of {roles}"
    return _Refusal(status=HTTPStatus.FORBIDDEN, detail=detail, headers={})


def _too_often(wait_s: float) -> _Refusal:
    seconds = ceil(wait_s)
    detail = f"too many requests; come back in {seconds} s, or ask for more series in one request"
    return _Refusal(status=HTTPStatus.TOO_MANY_REQUESTS, detail=detail, headers={"retry-after": str(seconds)})


def _is_rebound(scope: Scope) -> bool:
    """Whether the request was meant for a host of the internet: a page whose name was pointed to this machine."""
    host = Headers(scope=scope).get("host", "").lower()
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return "." in name
    return False


def _token(scope: Scope) -> str:
    kind, _, text = Headers(scope=scope).get("authorization", "").partition(" ")
    return text.strip() if kind.lower() == "bearer" else ""


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""
