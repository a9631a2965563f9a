"""Whatever comes in: an answer or a problem document, never a 5xx."""

import json
import math
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_home import ITEMS
from starlette.testclient import TestClient

from serve.schemas.forecasts import ForecastAnswer
from serve.schemas.order_plans import OrderPlanAnswer
from serve.schemas.recommendations import RecommendationAnswer
from serve.schemas.state import Problem

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

hostile_text = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["'; DROP TABLE orders; --", "../../etc/passwd", "\ud800", "\x00", "a" * 300, "${HOME}", "{{7*7}}", "‮", "NaN"]
    ),
)
hostile_number = st.one_of(
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([1e308, -1e308, 10**400, math.nan, math.inf, -0.0, 5e-324, 1e9, 0.5, 0.1, 14, 15]),
)
leaf = st.one_of(st.none(), st.booleans(), hostile_number, hostile_text, st.sampled_from([*ITEMS, "main"]))
anything = st.recursive(
    leaf,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(hostile_text, inner, max_size=4)),
    max_leaves=20,
)
day = st.one_of(st.dates().map(str), st.sampled_from(["2024-04-30", "2024-04-29", "2024-04-16", "2024-02-30"]), leaf)
identity = st.one_of(st.sampled_from(ITEMS), hostile_text)


def fields(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=optional)


one_series = fields(item_id=identity, location_id=st.one_of(st.just("main"), hostile_text))
good_series = st.lists(st.sampled_from(ITEMS), min_size=1, max_size=7, unique=True).map(
    lambda items: [{"item_id": item} for item in items]
)
some_series = st.one_of(good_series, st.lists(one_series, max_size=4), anything)
quantity = st.one_of(st.floats(0, 1e9), hostile_number, leaf)
stock_row = fields(
    item_id=identity, on_hand_qty=quantity, reserved_qty=quantity, backorder_qty=quantity, snapshot_on=day
)
good_stock = st.lists(
    st.fixed_dictionaries(
        {"item_id": st.sampled_from(ITEMS), "on_hand_qty": st.floats(0, 1e9)},
        optional={"reserved_qty": st.floats(0, 1e9), "backorder_qty": st.floats(0, 1e9)},
    ),
    min_size=1,
    max_size=5,
)
good_orders = st.lists(
    st.fixed_dictionaries(
        {"item_id": st.sampled_from(ITEMS), "open_qty": st.floats(0, 1e9), "expected_on": st.dates().map(str)}
    ),
    max_size=5,
)
forecast_body = st.one_of(
    fields(
        series=some_series,
        horizon=st.one_of(st.integers(1, 14), hostile_number),
        levels=st.one_of(st.lists(st.floats(0.1, 0.9), max_size=4), st.lists(hostile_number, max_size=4), anything),
        as_of=day,
    ),
    anything,
)
plan_body = st.one_of(
    fields(
        series=some_series,
        limit=st.one_of(st.integers(1, 7), hostile_number),
        as_of=day,
        stock=st.one_of(good_stock, st.lists(stock_row, max_size=3), anything),
        open_orders=st.one_of(good_orders, anything),
    ),
    st.fixed_dictionaries({"series": good_series, "stock": good_stock, "open_orders": good_orders}),
    anything,
)


def post(client: TestClient, path: str, body: Any) -> Any:
    # Python writes NaN and Infinity, and lone surrogates as escapes: what a hostile client would send.
    return client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})


def assert_answer_or_problem(response: Any, model: type[Any]) -> None:
    if response.status_code == 200:
        model.model_validate(response.json())
    else:
        assert 400 <= response.status_code < 500, response.text
        assert response.headers["content-type"] == "application/problem+json"
        Problem.model_validate(response.json())


@FUZZ
@given(body=forecast_body)
def test_forecasts(client: TestClient, body: Any) -> None:
    assert_answer_or_problem(post(client, "/v1/forecasts", body), ForecastAnswer)


@FUZZ
@given(body=plan_body)
def test_order_plans(client: TestClient, body: Any) -> None:
    assert_answer_or_problem(post(client, "/v1/order-plans", body), OrderPlanAnswer)


@FUZZ
@given(
    query=st.dictionaries(
        st.one_of(st.sampled_from(["user_id", "k"]), hostile_text),
        st.one_of(identity, st.integers().map(str)),
        max_size=3,
    )
)
def test_recommendations(client: TestClient, query: dict[str, str]) -> None:
    safe = {name.encode("utf-8", "replace").decode(): value.encode("utf-8", "replace") for name, value in query.items()}
    response = client.get("/v1/recommendations", params=safe)
    assert_answer_or_problem(response, RecommendationAnswer)


@FUZZ
@given(
    content=st.binary(max_size=200), kind=st.sampled_from(["application/json", "text/plain", "", "application/xml; x"])
)
def test_any_bytes_of_any_type(client: TestClient, content: bytes, kind: str) -> None:
    response = client.post("/v1/order-plans", content=content, headers={"content-type": kind})
    assert_answer_or_problem(response, OrderPlanAnswer)
