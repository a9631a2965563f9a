"""Who gets in where: the table of roles and routes, and what stands at the gate."""

import asyncio
import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import ValidationError
from serving_home import Home
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send
from test_serve_api import assert_problem

from cluster.config import Settings, load_settings
from cluster.settings.service import ServeSettings
from serve.access.callers import Callers
from serve.access.entrance import admit
from serve.access.gate import Gate
from serve.access.rates import Rates
from serve.access.roles import Role
from serve.access.tokens import Token, TokenBook
from serve.guard import Limits, guard_api
from serve.handles import Services
from serve.ingress import make_api
from serve.releases import Releases
from serve.routes import models, state
from serve.store.database import DatabaseDownError, open_database
from serve.watch.log import JsonLines

ALL = "viewer planner operator service"
# The authorisation table: what each role may call. A route that is not here fails the test below.
READING, DECIDING, TELLING = "viewer planner operator", "planner operator", "operator service"
TABLE = {
    ("GET", "/v1/recommendations"): ALL,
    ("POST", "/v1/intents"): ALL,
    ("POST", "/v1/events"): TELLING,
    ("POST", "/v1/forecasts"): ALL,
    ("POST", "/v1/order-plans"): ALL,
    ("GET", "/v1/models"): READING,
    ("POST", "/v1/models/promote"): "operator",
    ("POST", "/v1/models/roll-back"): "operator",
    ("POST", "/v1/plan-runs"): DECIDING,
    ("GET", "/v1/plan-runs"): READING,
    ("GET", "/v1/plan-runs/{run_id}"): READING,
    ("POST", "/v1/plan-runs/{run_id}/cancel"): DECIDING,
    ("GET", "/v1/plan-runs/{run_id}/lines"): READING,
    ("GET", "/v1/plan-lines/{line_id}"): READING,
    ("POST", "/v1/plan-lines/approve"): DECIDING,
    ("POST", "/v1/plan-lines/{line_id}/approve"): DECIDING,
    ("POST", "/v1/plan-lines/{line_id}/edit"): DECIDING,
    ("POST", "/v1/plan-lines/{line_id}/snooze"): DECIDING,
    ("POST", "/v1/plan-lines/{line_id}/reject"): DECIDING,
    ("POST", "/v1/plan-lines/{line_id}/reopen"): DECIDING,
    ("POST", "/v1/exports"): DECIDING,
    ("GET", "/v1/exports"): READING,
    ("GET", "/v1/exports/{export_id}"): READING,
    ("POST", "/v1/stock"): TELLING,
    ("POST", "/v1/orders"): TELLING,
    ("POST", "/v1/receipts"): TELLING,
    ("GET", "/v1/stock"): READING,
    ("GET", "/v1/open-orders"): READING,
    ("POST", "/v1/open-orders/{open_order_id}/cancel"): DECIDING,
    ("GET", "/v1/audit"): READING,
    ("GET", "/metrics"): READING,
    ("GET", "/healthz"): "anybody",
    ("GET", "/readyz"): "anybody",
}
LIMITS = Limits(max_body_bytes=1_000, timeout_s=5)
GUARDED = {call: roles for call, roles in TABLE.items() if roles != "anybody"}


@pytest.fixture(scope="module")
def settings(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Those of the shop, with tokens and a database of their own."""
    database = tmp_path_factory.mktemp("database") / "tokens.db"
    given = {"access": "tokens", "database_url": f"sqlite:///{database}", "rate_per_s": 0.0}
    return home.settings.model_copy(update={"serve": home.settings.serve.model_copy(update=given)})


@pytest.fixture(scope="module")
def book(settings: Settings) -> TokenBook:
    return TokenBook(open_database(settings))


@pytest.fixture(scope="module")
def tokens(book: TokenBook) -> dict[Role, str]:
    return {role: book.create(f"a-{role}", role=role, lasts=timedelta(days=1), actor="test") for role in Role}


@pytest.fixture(scope="module")
def closed(settings: Settings, services: Services, releases: Releases) -> Iterator[TestClient]:
    """The service that asks for tokens."""
    with TestClient(make_api(services, settings=settings, releases=releases), raise_server_exceptions=False) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def call(client: TestClient, method: str, path: str, **headers: str) -> Any:
    return client.request(method, path.replace("{", "").replace("}", ""), headers=headers)


def test_the_table_names_every_route(closed: TestClient) -> None:
    paths = closed.get("/openapi.json").json()["paths"]
    assert {(method.upper(), path) for path, operations in paths.items() for method in operations} == set(TABLE)


@pytest.mark.parametrize(("method", "path"), TABLE)
@pytest.mark.parametrize("role", Role)
def test_each_role_gets_where_the_table_lets_it(
    closed: TestClient, tokens: dict[Role, str], method: str, path: str, role: Role
) -> None:
    response = call(closed, method, path, **bearer(tokens[role]))
    if TABLE[method, path] == "anybody" or role in TABLE[method, path].split():
        # An empty request is refused by most routes, but by the route.
        assert response.status_code in (200, 202, 404, 409, 422)
    else:
        assert f"the role {role} may not do this" in assert_problem(response, 403)["detail"]


@pytest.mark.parametrize(("method", "path"), TABLE)
def test_without_a_token_only_health_answers(closed: TestClient, method: str, path: str) -> None:
    response = call(closed, method, path)
    if TABLE[method, path] == "anybody":
        assert response.status_code == 200
    else:
        assert "send a token" in assert_problem(response, 401)["detail"]
        assert response.headers["www-authenticate"] == 'Bearer realm="restock"'


@pytest.mark.parametrize("name", ["expired", "revoked", "forged", "cut", "doubled", "other scheme", "empty", "bytes"])
@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_a_token_that_is_not_good_opens_nothing(
    closed: TestClient, book: TokenBook, tokens: dict[Role, str], method: str, path: str, name: str
) -> None:
    good = tokens[Role.OPERATOR]
    if name in ("expired", "revoked") and f"an-{name}" not in {token.name for token in book.all()}:
        lasts = timedelta(days=1) if name == "revoked" else timedelta(microseconds=1)
        BAD[name] = book.create(f"an-{name}", role=Role.OPERATOR, lasts=lasts, actor="test")
        if name == "revoked":
            book.revoke("an-revoked", actor="test")
    value = {
        "forged": f"Bearer {good[:20]}{'0' * 10}{good[30:]}",
        "cut": f"Bearer {good[:-1]}",
        "doubled": f"Bearer {good} {good}",
        "other scheme": f"Basic {good}",
        "empty": "Bearer",
        "bytes": "Bearer \xff\xfe' OR 1=1 --",
    }.get(name) or f"Bearer {BAD[name]}"
    problem = assert_problem(call(closed, method, path, authorization=value.encode("latin-1")), 401)
    assert good not in json.dumps(problem)


BAD: dict[str, str] = {}


def test_what_has_no_route_needs_no_token(closed: TestClient) -> None:
    assert_problem(closed.get("/nowhere"), 404)
    assert_problem(closed.delete("/v1/forecasts"), 405)
    assert closed.get("/docs").status_code == 200


@pytest.mark.parametrize(
    "path", ["//v1/models", "/v1//models", "/V1/models", "/v1/models%2f", "/v1/./models", "/v1/models;x"]
)
def test_a_path_written_otherwise_does_not_get_around(closed: TestClient, path: str) -> None:
    response = closed.get(path, follow_redirects=False)
    assert response.status_code in (307, 401, 404), response.text
    assert "versions" not in response.text


def test_one_token_is_enough_and_a_second_header_does_not_help(closed: TestClient, tokens: dict[Role, str]) -> None:
    good = ("authorization", f"Bearer {tokens[Role.VIEWER]}")
    assert closed.get("/v1/models", headers=[good]).status_code == 200
    assert closed.get("/v1/models", headers=[("authorization", "Bearer x"), good]).status_code == 401


def test_the_document_says_who_is_let_in(closed: TestClient) -> None:
    document = closed.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["token"] == {"type": "http", "scheme": "bearer"}
    for (method, path), roles in TABLE.items():
        operation = document["paths"][path][method.lower()]
        if roles == "anybody":
            assert "security" not in operation
        else:
            assert operation["security"] == [{"token": []}]
            assert f"Roles: {', '.join(roles.split())}." in operation["description"]
            assert {"401", "403", "429"} <= set(operation["responses"])


def test_a_route_that_does_not_say_what_it_needs_cannot_be_served(settings: Settings) -> None:
    router = APIRouter()

    @router.get("/v1/forgotten")
    def forgotten() -> None:
        """Nothing."""

    with pytest.raises(AssertionError, match=r"/v1/forgotten: say what the route needs"):
        admit(lambda *_: None, routes=router.routes, database=open_database(settings), settings=settings)


def test_neither_tokens_nor_what_they_ask_are_in_the_log(
    closed: TestClient, tokens: dict[Role, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        closed.get("/v1/recommendations?user_id=secret-user", headers=bearer(tokens[Role.SERVICE]))
        closed.get("/v1/models", headers=bearer(tokens[Role.SERVICE]))
        closed.get("/v1/models", headers=bearer(tokens[Role.SERVICE][:-1]))
    ours = "\n".join(JsonLines().format(record) for record in caplog.records if record.name.startswith("restock"))
    assert '"route": "/v1/models", "status": 403' in ours
    assert '"actor": "a-service"' in ours
    assert tokens[Role.SERVICE].split("_")[2][:16] not in caplog.text
    assert "secret-user" not in ours


def test_the_body_of_a_stranger_is_not_read(settings: Settings, services: Services) -> None:
    api = make_api(services, settings=settings)
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body was read")

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/forecasts",
        "raw_path": b"/v1/forecasts",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-length", b"4000000")],
        "client": ("192.0.2.1", 5),
    }
    asyncio.run(api(scope, receive, send))
    assert sent[0]["status"] == 401
    assert (b"connection", b"close") in sent[0]["headers"]


def limited(services: Services, settings: Settings, **serve: object) -> TestClient:
    given = settings.serve.model_copy(update={"rate_per_s": 0.01, "burst": 2, **serve})
    api = make_api(services, settings=settings.model_copy(update={"serve": given}))
    return TestClient(api, raise_server_exceptions=False)


def test_too_many_requests_are_told_when_to_come_back(
    settings: Settings, services: Services, tokens: dict[Role, str]
) -> None:
    client = limited(services, settings)
    mine, other = bearer(tokens[Role.SERVICE]), bearer(tokens[Role.VIEWER])

    def ask(headers: dict[str, str]) -> Any:
        return client.get("/v1/recommendations?user_id=1", headers=headers)

    assert [ask(mine).status_code for _ in range(2)] == [200, 200]
    late = ask(mine)
    assert_problem(late, 429)
    assert 1 <= int(late.headers["retry-after"]) <= 100
    assert ask(other).status_code == 200


def test_guesses_spend_the_share_of_their_address_only(
    settings: Settings, services: Services, tokens: dict[Role, str]
) -> None:
    client = limited(services, settings)
    assert [client.get("/v1/models").status_code for _ in range(4)] == [401, 401, 429, 429]
    assert client.get("/v1/models", headers=bearer(tokens[Role.VIEWER])).status_code == 200


def test_development_lets_everybody_do_everything_at_a_rate(home: Home, services: Services) -> None:
    client = limited(services, home.settings)
    assert [client.get("/v1/models").status_code for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "EVIL.example", "127.0.0.1.evil.example:80", "a.b"]
)
def test_a_page_whose_name_was_pointed_to_this_machine_is_refused(
    home: Home, services: Services, settings: Settings, tokens: dict[Role, str], host: str
) -> None:
    for path in ("/v1/models", "/healthz", "/docs", "/nowhere"):
        assert_problem(limited(services, home.settings).get(path, headers={"host": host}), 421)
    with_token = limited(services, settings).get("/v1/models", headers=bearer(tokens[Role.VIEWER]) | {"host": host})
    assert with_token.status_code == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "127.0.0.1", "[::1]:8000", "[::1]"])
def test_names_of_this_machine_are_answered_in_development(home: Home, services: Services, host: str) -> None:
    assert limited(services, home.settings).get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com", ""])
def test_development_is_refused_beyond_loopback(host: str) -> None:
    with pytest.raises(ValidationError, match="must be a loopback address"):
        ServeSettings(access="development", host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_development_on_loopback_is_allowed(host: str) -> None:
    assert ServeSettings(access="development", host=host).access == "development"


def test_development_is_refused_where_the_proxy_binds_to_every_address() -> None:
    with pytest.raises(ValidationError, match="HAProxy binds to every address"):
        ServeSettings(access="development", proxy="haproxy")


def test_tokens_are_the_default() -> None:
    assert load_settings().serve.access == "tokens"


def test_pages_of_other_sites_get_nothing_by_default(closed: TestClient, tokens: dict[Role, str]) -> None:
    origin = {"origin": "https://shop.example"}
    preflight = closed.options("/v1/models", headers=origin | {"access-control-request-method": "GET"})
    assert_problem(preflight, 405)
    answer = closed.get("/v1/models", headers=origin | bearer(tokens[Role.VIEWER]))
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_listed_origins_may_call_and_others_may_not(
    settings: Settings, services: Services, tokens: dict[Role, str]
) -> None:
    client = limited(services, settings, rate_per_s=0.0, cors_origins=("https://shop.example",))
    asked = {"access-control-request-method": "GET", "access-control-request-headers": "authorization"}
    preflight = client.options("/v1/models", headers=asked | {"origin": "https://shop.example"})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://shop.example"
    assert "access-control-allow-credentials" not in preflight.headers
    answer = client.get("/v1/models", headers=bearer(tokens[Role.VIEWER]) | {"origin": "https://shop.example"})
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    refused = client.options("/v1/models", headers=asked | {"origin": "https://evil.example"})
    assert "serve.cors_origins" in assert_problem(refused, 400)["detail"]
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize("origin", ["*", "https://*", "shop.example", "https://shop.example/", "null", "https://a b"])
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError, match="is not an origin"):
        ServeSettings(cors_origins=(origin,))


class Down:
    """A book whose database does not answer."""

    def find(self, text: str) -> Token | None:
        raise DatabaseDownError("the database does not answer: nothing was written; try again in a moment")

    def note_use(self, token: Token) -> None:
        raise AssertionError("no token was found")


def test_while_the_database_is_down_health_answers_and_strangers_are_told(tokens: dict[Role, str]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("in")(scope, receive, send)

    routes = [route for of in (state, models) for route in of.router.routes if isinstance(route, APIRoute)]
    callers, rates = Callers(Down(), fresh_s=5, stale_s=60), Rates(rate_per_s=0, burst=1)
    client = TestClient(guard_api(app, limits=LIMITS, gate=partial(Gate, routes=routes, callers=callers, rates=rates)))
    problem = assert_problem(client.get("/v1/models", headers=bearer(tokens[Role.VIEWER])), 503)
    assert "database" in problem["detail"]
    for path in ("/healthz", "/readyz"):
        assert client.get(path, headers=bearer(tokens[Role.VIEWER])).text == "in"
