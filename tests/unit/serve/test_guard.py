"""The guard alone, around a small application: sizes, times, headers, log."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from serve.guard import (
    BodyLimit,
    Limits,
    PlainErrors,
    RequestHeaders,
    guard_api,
    proxy_environment,
    proxy_middlewares,
)
from serve.watch.log import JsonLines

LIMITS = Limits(max_body_bytes=1_000, timeout_s=0.2)


async def _echo(request: Request) -> Response:
    headers = {name: value for name, value in request.headers.items() if name.startswith("x-")}
    return JSONResponse({"bytes": len(await request.body()), "headers": headers})


async def _slow(request: Request) -> Response:
    await asyncio.sleep(10)
    return PlainTextResponse("late")


async def _swallows_cancellation(request: Request) -> Response:
    try:
        await asyncio.sleep(10)
    except asyncio.CancelledError:
        return PlainTextResponse("cancelled", status_code=500)
    return PlainTextResponse("late")


async def _broken(request: Request) -> Response:
    raise KeyError("/home/somebody/secret")


ROUTES = [
    Route("/echo", _echo, methods=["GET", "POST"]),
    Route("/slow", _slow),
    Route("/swallows", _swallows_cancellation),
    Route("/broken", _broken),
]


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(guard_api(Starlette(routes=ROUTES), limits=LIMITS)) as client:
        yield client


def assert_problem(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["request_id"] == response.headers["x-request-id"]
    return dict(body)


@pytest.mark.parametrize("size", [0, 1, 1_000])
def test_body_within_the_limit_arrives_whole(client: TestClient, size: int) -> None:
    assert client.post("/echo", content=b"x" * size).json()["bytes"] == size


def test_bytes_are_counted_not_declared(client: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(11):
            yield b"x" * 91  # 1,001 bytes, no content-length

    problem = assert_problem(client.post("/echo", content=chunks()), 413)
    assert "1000 bytes" in problem["detail"]


def test_slow_answer_is_a_504(client: TestClient) -> None:
    assert "0.2 s" in assert_problem(client.get("/slow"), 504)["detail"]


def test_what_a_cancelled_application_says_is_not_the_answer(client: TestClient) -> None:
    assert_problem(client.get("/swallows"), 504)


def test_bug_is_a_500_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    api = Starlette(routes=ROUTES)
    api.add_exception_handler(Exception, lambda request, error: Response(status_code=500))
    with TestClient(guard_api(api, limits=LIMITS)) as client:
        response = client.get("/broken", headers={"x-request-id": "abc"})
    assert response.status_code == 500
    assert "secret" not in response.text
    assert "request abc failed" in caplog.text


@pytest.mark.parametrize("given", ["abc-1.2_3", "x" * 64])
def test_request_id_is_honoured(client: TestClient, given: str) -> None:
    response = client.get("/echo", headers={"X-Request-ID": given})
    assert response.headers.get_list("x-request-id") == [given]
    assert response.json()["headers"]["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\tb", 'a"b', "é"])
def test_request_id_of_another_form_is_replaced(client: TestClient, given: str) -> None:
    response = client.get("/echo", headers={"X-Request-ID": given.encode("latin-1")})
    assert response.headers["x-request-id"] != given
    assert len(response.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    "name",
    [
        "x-request-timeout-seconds",
        "X-Request-Disconnect-Disabled",
        "serve_multiplexed_model_id",
        "serve-multiplexed-model-id",
        "x-session-id",
    ],
)
def test_headers_that_control_serve_are_taken_away(name: str) -> None:
    seen: list[bytes] = []

    async def look(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(key for key, _ in scope["headers"])
        await Response()(scope, receive, send)

    TestClient(RequestHeaders(look)).get("/", headers={name: "1", "accept": "*/*"})
    assert name.lower().encode() not in seen
    assert b"accept" in seen


def test_security_headers_are_on_every_answer(client: TestClient) -> None:
    for path in ("/echo", "/nowhere", "/slow"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"


def test_one_json_line_per_request_without_query_or_path_text(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="restock.access"):
        client.get("/echo?user_id=somebody", headers={"x-request-id": "one"})
        client.get("/nowhere/somebody", headers={"x-request-id": "two"})
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records if record.name == "restock.access"]
    assert [(line["request_id"], line["method"], line["status"]) for line in lines] == [
        ("one", "GET", 200),
        ("two", "GET", 404),
    ]
    assert "somebody" not in caplog.text
    assert lines[0]["milliseconds"] >= 0
    assert lines[0]["bytes"] > 0


def test_body_that_does_not_come_is_a_408() -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.sleep(10)
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-length", b"9")]}
    asyncio.run(BodyLimit(PlainTextResponse("never"), limits=LIMITS)(scope, receive, send))
    assert sent[0]["status"] == 408


@pytest.mark.parametrize(("said", "status"), [(500, 500), (503, 503), (408, 504), (404, 404)])
def test_plain_errors_of_a_proxy_become_problems(said: int, status: int) -> None:
    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("Traceback in /usr/lib/secret.py", status_code=said)(scope, receive, send)

    response = TestClient(RequestHeaders(PlainErrors(proxy))).get("/")
    assert "secret" not in response.text
    assert_problem(response, status)


def test_plain_success_passes() -> None:
    assert TestClient(PlainErrors(PlainTextResponse("fine"))).get("/").text == "fine"


def test_proxy_gets_the_limits_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = proxy_environment(LIMITS)
    assert environment["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] == "serve.guard:proxy_middlewares"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    app: Any = Starlette(routes=ROUTES)
    for middleware in proxy_middlewares():
        app = middleware.cls(app, *middleware.args, **middleware.kwargs)
    with TestClient(app) as client:
        assert_problem(client.post("/echo", content=b"x" * 1_001), 413)
        assert client.post("/echo", content=b"x" * 1_000).json()["bytes"] == 1_000


def test_the_guard_around_itself_does_its_work_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind HAProxy, Serve puts the proxy's middlewares around the guarded routes, in one process."""
    for name, value in proxy_environment(LIMITS).items():
        monkeypatch.setenv(name, value)
    served = guard_api(Starlette(routes=ROUTES), limits=LIMITS)
    for middleware in proxy_middlewares():
        served = middleware.cls(served, *middleware.args, **middleware.kwargs)
    with TestClient(served) as client:
        response = client.post("/echo", content=b"x" * 1_000, headers={"x-request-id": "mine", "x-session-id": "1"})
        assert response.json() == {"bytes": 1_000, "headers": {"x-request-id": "mine"}}
        names = [name for name, _ in response.headers.multi_items()]
        assert len(names) == len(set(names))
        assert {"x-request-id", "cache-control", "x-frame-options"} <= set(names)
        assert_problem(client.post("/echo", content=b"x" * 1_001), 413)
        assert_problem(client.get("/slow"), 504)


def test_a_header_of_the_application_that_the_guard_sets_too_is_replaced() -> None:
    async def cached(request: Request) -> Response:
        return PlainTextResponse("mine", headers={"Cache-Control": "max-age=60", "etag": "1"})

    with TestClient(guard_api(Starlette(routes=[Route("/cached", cached)]), limits=LIMITS)) as client:
        headers = client.get("/cached").headers
    assert headers.get_list("cache-control") == ["no-store"]
    assert headers["etag"] == "1"
