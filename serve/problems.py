"""Errors as problem details (RFC 9457): one shape for every refusal, and nothing of our insides in any.

::

    {"type": "about:blank", "title": "Data error", "status": 422, "detail": "...", "request_id": "...",
     "errors": [{"pointer": "/series/0/item_id", "detail": "Field required"}]}

A 4xx says what to change. A 5xx says only that we know, with the request id under which the log has the rest.
"""

import json
import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from cluster.errors import DataError, RestockError

MEDIA_TYPE = "application/problem+json"
SERVER_DETAIL = "the service could not answer; try again, and give the operator the request id if it goes on"
_MAX_ERRORS = 20
_MAX_TEXT = 300
_log = logging.getLogger("restock.serve")


class UnknownSeriesError(DataError):
    """The request names series that the dataset does not have."""

    title = "Unknown series"


class NotFoundError(DataError):
    """What the request speaks of is not there."""

    http_status = 404
    title = "Not found"


class NotReadyError(RestockError):
    """A part of the service does not answer."""

    http_status = 503
    title = "Not ready"


def make_problem(
    status: int,
    *,
    detail: str,
    request_id: str,
    title: str | None = None,
    errors: Sequence[dict[str, str]] = (),
) -> bytes:
    """Body of a problem document, as ASCII JSON: hostile text in it stays harmless."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": title or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "request_id": request_id,
    }
    if errors:
        body["errors"] = list(errors)
    return json.dumps(body).encode("ascii")


def document_problems(document: dict[str, Any]) -> dict[str, Any]:
    """Give every refusal in an OpenAPI document our media type; FastAPI knows only one for all answers of a route."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status.startswith(("4", "5")):
                    response["content"] = {MEDIA_TYPE: response["content"].pop("application/json")}
    return document


def request_id_of(request: Request) -> str:
    """The id that the guard gave this request."""
    return str(request.scope.get("state", {}).get("request_id", ""))


def add_problem_handlers(api: FastAPI) -> None:
    """Answer every error of an application as a problem document."""
    api.add_exception_handler(RestockError, _on_restock_error)
    api.add_exception_handler(RequestValidationError, _on_validation_error)
    api.add_exception_handler(HTTPException, _on_http_exception)
    api.add_exception_handler(Exception, _on_bug)


def _respond(request: Request, status: int, **problem: Any) -> Response:
    body = make_problem(status, request_id=request_id_of(request), **problem)
    return Response(body, status_code=status, media_type=MEDIA_TYPE)


async def _on_restock_error(request: Request, error: Exception) -> Response:
    # An error that crossed a handle arrives wrapped, with the remote traceback as its text.
    cause = getattr(error, "cause", None) or error
    assert isinstance(cause, RestockError)
    if isinstance(cause, NotReadyError) or cause.http_status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return _respond(request, cause.http_status, title=cause.title, detail=str(cause))
    _log.error("request %s: %s", request_id_of(request), cause)
    return _respond(request, cause.http_status, title=cause.title, detail=SERVER_DETAIL)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    errors = [{"pointer": _pointer(e["loc"]), "detail": str(e["msg"])[:_MAX_TEXT]} for e in found[:_MAX_ERRORS]]
    more = f", the first {_MAX_ERRORS} of {len(found)} are listed" if len(found) > _MAX_ERRORS else ""
    detail = f"the request is not as documented{more}; see /docs for its form"
    return _respond(request, HTTPStatus.UNPROCESSABLE_ENTITY, title="Invalid request", detail=detail, errors=errors)


def _pointer(loc: Sequence[str | int]) -> str:
    # JSON pointer (RFC 6901) into the body, or the name of a query parameter.
    source, *rest = loc
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in rest]
    text = "/" + "/".join(parts) if source == "body" else f"{source}: {'/'.join(parts)}"
    return text[:_MAX_TEXT]


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _respond(request, error.status_code, detail=str(error.detail)[:_MAX_TEXT])
    response.headers.update(error.headers or {})
    return response


async def _on_bug(request: Request, error: Exception) -> Response:
    # Starlette raises it again after this answer, and the guard logs it.
    return _respond(request, HTTPStatus.INTERNAL_SERVER_ERROR, detail=SERVER_DETAIL)
