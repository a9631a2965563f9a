"""Browsers of other sites: refused unless an origin is listed (CORS)."""

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from serve.guard import REQUEST_ID
from serve.problems import MEDIA_TYPE, make_problem

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_ASKED = ("authorization", "content-type", "idempotency-key", "if-match", REQUEST_ID)
_SHOWN = ("etag", "location", "retry-after", REQUEST_ID)


class CrossOrigin(CORSMiddleware):
    """Lets pages of the listed origins call the application; no cookie is ever asked for, callers send a token."""

    def __init__(self, app: ASGIApp, *, origins: tuple[str, ...]) -> None:
        super().__init__(
            app, allow_origins=origins, allow_methods=_METHODS, allow_headers=_ASKED, expose_headers=_SHOWN
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """The browser's question before its request, a refusal as a problem document."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < HTTPStatus.BAD_REQUEST:
            return answer
        detail = f"{bytes(answer.body).decode()}; serve.cors_origins lists whose pages may call this service"
        body = make_problem(answer.status_code, detail=detail, request_id=request_headers.get(REQUEST_ID, ""))
        headers = {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}
        return Response(body, status_code=answer.status_code, headers=headers, media_type=MEDIA_TYPE)
