"""What stands around every request: id, size, time, headers and the log line. Plain ASGI, no routes.

The same pieces run in two places. In front of the routes (:func:`guard_api`), whatever proxy there is; and in Ray
Serve's Python proxy (:func:`proxy_middlewares`), which would otherwise buffer bodies of any size, obey the control
headers of strangers and answer its own errors as plain text.
"""

import asyncio
import json
import logging
import os
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPMethod, HTTPStatus
from typing import Any

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.problems import MEDIA_TYPE, SERVER_DETAIL, make_problem
from serve.watch.log import bind_request_id
from serve.watch.metrics import REQUEST_SECONDS, REQUESTS, REQUESTS_IN_PROGRESS, meter

REQUEST_ID = "x-request-id"
_REQUEST_ID_FORM = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Ray Serve obeys these from anyone: time-outs, disconnects, and which replica answers.
_CONTROL_HEADERS = frozenset(
    {"x-request-timeout-seconds", "x-request-disconnect-disabled", "serve-multiplexed-model-id", "x-session-id"}
)
_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
_OUR_HEADERS = frozenset({REQUEST_ID.encode(), *(name for name, _ in _SECURITY_HEADERS)})
_LIMITS_VARIABLE = "RESTOCK_PROXY_LIMITS"
_log = logging.getLogger("restock.access")
_errors = logging.getLogger("restock.serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may take: bytes of body, and seconds until its answer starts."""

    max_body_bytes: int
    timeout_s: float


def guard_api(app: ASGIApp, *, limits: Limits, gate: Callable[[ASGIApp], ASGIApp] = lambda app: app) -> ASGIApp:
    """Put the guard in front of an application; its own answers are problem documents too.

    Parameters
    ----------
    gate
        What decides, before the body is read, who gets in (``serve.access``).
    """
    return RequestHeaders(AccessLog(Deadline(gate(BodyLimit(app, limits=limits)), limits=limits)))


def proxy_environment(limits: Limits) -> dict[str, str]:
    """Variables that make Serve's Python proxy load :func:`proxy_middlewares` with these limits."""
    return {
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": f"{__name__}:proxy_middlewares",
        _LIMITS_VARIABLE: json.dumps({"max_body_bytes": limits.max_body_bytes, "timeout_s": limits.timeout_s}),
    }


def proxy_middlewares() -> list[Middleware]:
    """Called by Serve's proxy when it starts; the last one is outermost."""
    limits = Limits(**json.loads(os.environ[_LIMITS_VARIABLE]))
    return [Middleware(PlainErrors), Middleware(BodyLimit, limits=limits), Middleware(RequestHeaders)]


class RequestHeaders:
    """Gives each request one id, takes control headers away, and adds security headers to the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _id_of(scope):
            # Serve puts the proxy's middlewares around these routes where replicas take requests themselves.
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        kept = [(name, value) for name, value in scope["headers"] if not _is_control(name)]
        scope["headers"] = [*kept, (REQUEST_ID.encode(), request_id.encode())]
        scope.setdefault("state", {})["request_id"] = request_id
        bind_request_id(request_id)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                theirs = [pair for pair in message.get("headers", ()) if pair[0].lower() not in _OUR_HEADERS]
                ours = ((REQUEST_ID.encode(), request_id.encode()), *_SECURITY_HEADERS)
                message = {**message, "headers": [*theirs, *ours]}
            await send(message)

        await self._app(scope, receive, send_with_headers)


class BodyLimit:
    """Reads the body before the application does, counting bytes: 413 above the limit, 408 if it does not come."""

    def __init__(self, app: ASGIApp, *, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request."""
        state = scope.setdefault("state", {})
        if scope["type"] != "http" or state.get("body_is_counted") or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                body = await self._read(receive)
        except TimeoutError:
            await send_problem(scope, send, HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time")
            return
        if body is None:
            detail = f"the body is longer than {self._limits.max_body_bytes} bytes; ask for fewer series at a time"
            await send_problem(scope, send, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
            return
        state["body_is_counted"] = True
        await self._app(scope, _replay(body, receive), send)

    async def _read(self, receive: Receive) -> list[Message] | None:
        messages: list[Message] = []
        num_bytes = 0
        while True:
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._limits.max_body_bytes:
                return None
            messages.append(message)
            if not message.get("more_body", False):
                return messages


class Deadline:
    """Answers 504 if the application has not started its answer in time, and 500 if it broke without one."""

    def __init__(self, app: ASGIApp, *, limits: Limits) -> None:
        self._app = app
        self._timeout_s = limits.timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_started = False
        timer = asyncio.timeout(self._timeout_s)

        async def watched(message: Message) -> None:
            nonlocal has_started
            # What an application says about its own cancellation is not the answer.
            if has_started or not timer.expired():
                has_started = True
                await send(message)

        try:
            async with timer:
                await self._app(scope, receive, watched)
        except Exception as error:
            if not timer.expired():
                _errors.error("request %s failed", _id_of(scope), exc_info=error)
        if timer.expired() and not has_started:
            detail = f"no answer within {self._timeout_s:g} s; ask for fewer series, or try again later"
            await send_problem(scope, send, HTTPStatus.GATEWAY_TIMEOUT, detail)
        elif not has_started:
            await send_problem(scope, send, HTTPStatus.INTERNAL_SERVER_ERROR, SERVER_DETAIL)


class AccessLog:
    """Logs one JSON line per request, and counts it: who called and which route; no query, no body, no customer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status, num_bytes = 0, 0

        async def counted(message: Message) -> None:
            nonlocal status, num_bytes
            status = message.get("status", status)
            num_bytes += len(message.get("body", b""))
            await send(message)

        meter().add(REQUESTS_IN_PROGRESS)
        try:
            await self._app(scope, receive, counted)
        finally:
            seconds = time.perf_counter() - started
            meter().add(REQUESTS_IN_PROGRESS, -1)
            _count(scope, status=status, seconds=seconds)
            fields = _fields(scope, status=status, num_bytes=num_bytes, seconds=seconds)
            _log.info("request", extra={"fields": fields, "request_id": _id_of(scope)})


class PlainErrors:
    """Turns what Serve's proxy says by itself (no replica, time-out, crash) into problem documents."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request."""
        is_replaced = False

        async def checked(message: Message) -> None:
            nonlocal is_replaced
            if message["type"] == "http.response.start" and _is_plain_error(message):
                is_replaced = True
                # The proxy says 408 when *we* were slow: that is a 504.
                status = message["status"] if message["status"] != HTTPStatus.REQUEST_TIMEOUT else 504
                await send_problem(scope, send, status, SERVER_DETAIL)
            elif not is_replaced:
                await send(message)

        await self._app(scope, receive, checked if scope["type"] == "http" else send)


async def send_problem(
    scope: Scope, send: Send, status: int, detail: str, *, headers: Mapping[str, str] | None = None
) -> None:
    """Answer with a problem document and close the connection: its body may not have been read."""
    body = make_problem(status, detail=detail, request_id=_id_of(scope))
    ours = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), "connection": "close"}
    raw = [(name.encode(), value.encode()) for name, value in (ours | dict(headers or {})).items()]
    await send({"type": "http.response.start", "status": int(status), "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _id_of(scope: Scope) -> str:
    return str(scope.get("state", {}).get("request_id", ""))


def _request_id(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name.lower() == REQUEST_ID.encode()), b"")
    text = given.decode("latin-1")
    return text if _REQUEST_ID_FORM.fullmatch(text) else uuid.uuid4().hex


def _has_body(scope: Scope) -> bool:
    # Of HTTP/1.1 without one of these, the server has told already that nothing follows.
    return scope.get("http_version") == "2" or any(
        name.lower() in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"]
    )


def _is_control(name: bytes) -> bool:
    text = name.decode("latin-1").lower().replace("_", "-")
    return text in _CONTROL_HEADERS or text == REQUEST_ID


def _is_plain_error(message: Message) -> bool:
    kind = next((value for name, value in message.get("headers", []) if name.lower() == b"content-type"), b"")
    return int(message["status"]) >= HTTPStatus.BAD_REQUEST and not kind.startswith(MEDIA_TYPE.encode())


def _replay(messages: list[Message], receive: Receive) -> Receive:
    waiting = iter(messages)

    async def replayed() -> Message:
        for message in waiting:
            return message
        return await receive()

    return replayed


def _route(scope: Scope) -> str:
    # The route's own form: a path that no route has is a stranger's text.
    return getattr(scope.get("route"), "path", "unknown")


def _count(scope: Scope, *, status: int, seconds: float) -> None:
    # A method is a stranger's text as well, and every label value is a series that is kept.
    method = scope["method"] if scope["method"] in HTTPMethod.__members__ else "other"
    meter().add(REQUESTS, 1, method, _route(scope), str(status))
    meter().observe(REQUEST_SECONDS, seconds, method, _route(scope))


def _fields(scope: Scope, *, status: int, num_bytes: int, seconds: float) -> dict[str, Any]:
    return {
        "actor": scope.get("state", {}).get("actor", ""),
        "method": scope["method"],
        "route": _route(scope),
        "status": status,
        "milliseconds": round(seconds * 1000, 1),
        "bytes": num_bytes,
    }
