"""Every route over the real composition and tiny real models: answers, refusals, fallbacks."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from serving_home import AFTER_ON, HORIZON, ITEMS, LEVELS, TRAINED_UNTIL_ON
from starlette.testclient import TestClient

from cluster.manifest import slug_of
from serve.routes import answers, events, models, plans, state, stock
from serve.schemas.events import EventsAnswer
from serve.schemas.forecasts import ForecastAnswer
from serve.schemas.models import ModelsAnswer
from serve.schemas.order_plans import OrderPlanAnswer, PlanLine
from serve.schemas.recommendations import RecommendationAnswer
from serve.schemas.state import Problem, ReadyAnswer

SERVED = [
    route
    for noun in (answers, events, models, plans, state, stock)
    for route in noun.router.routes
    if isinstance(route, APIRoute)
]
DAIRY = f"policy/{slug_of('dairy')}"


def series(*items: str) -> list[dict[str, str]]:
    return [{"item_id": item} for item in items]


def assert_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate(response.json())
    assert problem.status == status
    assert problem.request_id == response.headers["x-request-id"]
    assert "/home" not in response.text
    assert "Traceback" not in response.text
    return dict(response.json())


class TestForecasts:
    def test_answer_is_as_documented(self, client: TestClient) -> None:
        response = client.post("/v1/forecasts", json={"series": series("item-3", "item-0")})
        answer = ForecastAnswer.model_validate(response.json())
        assert [row.item_id for row in answer.series] == ["item-3", "item-0"]
        assert answer.as_of == AFTER_ON
        assert answer.dates == [AFTER_ON + timedelta(days=ahead) for ahead in range(HORIZON)]
        assert answer.levels == list(LEVELS)
        assert answer.model_version == "v0001"
        for row in answer.series:
            assert len(row.mean) == len(row.marginal) == len(row.cumulative) == HORIZON
            assert all(len(quantiles) == len(LEVELS) for quantiles in row.marginal)
            assert row.cumulative[0] != row.cumulative[-1]

    def test_cumulative_quantiles_rise_with_level_and_period(self, client: TestClient) -> None:
        answer = client.post("/v1/forecasts", json={"series": series("item-1")}).json()
        table = answer["series"][0]["cumulative"]
        assert all(row == sorted(row) for row in table)
        assert all(early <= late for early, late in zip(table[0], table[-1], strict=True))

    def test_horizon_and_levels_are_answered_as_asked(self, client: TestClient) -> None:
        body = {"series": series("item-1"), "horizon": 3, "levels": [0.2, 0.5]}
        answer = ForecastAnswer.model_validate(client.post("/v1/forecasts", json=body).json())
        own = client.post("/v1/forecasts", json={"series": series("item-1"), "horizon": 3}).json()["series"][0]
        assert answer.levels == [0.2, 0.5]
        assert [len(row) for row in answer.series[0].cumulative] == [2, 2, 2]
        assert answer.series[0].cumulative[2][1] == pytest.approx(own["cumulative"][2][LEVELS.index(0.5)])

    def test_the_past_is_forecast_from_what_was_known_then(self, client: TestClient) -> None:
        body = {"series": series("item-1"), "as_of": TRAINED_UNTIL_ON.isoformat(), "horizon": 1}
        answer = client.post("/v1/forecasts", json=body).json()
        assert answer["as_of"] == answer["dates"][0] == TRAINED_UNTIL_ON.isoformat()
        now = client.post("/v1/forecasts", json=body | {"as_of": None}).json()
        assert answer["series"][0]["mean"] != now["series"][0]["mean"]

    def test_a_day_that_the_model_has_seen_is_refused(self, client: TestClient) -> None:
        body = {"series": series("item-1"), "as_of": (TRAINED_UNTIL_ON - timedelta(days=1)).isoformat()}
        problem = assert_problem(client.post("/v1/forecasts", json=body), 409)
        assert f"ask as of {TRAINED_UNTIL_ON} or later" in problem["detail"]

    @pytest.mark.parametrize("day", ["2024-05-30", "2023-12-31", "2024-01-01", "9999-12-31", "0001-01-01"])
    def test_a_day_outside_history_is_refused(self, client: TestClient, day: str) -> None:
        body = {"series": series("item-1"), "as_of": day}
        assert "history starts on 2024-01-01" in assert_problem(client.post("/v1/forecasts", json=body), 409)["detail"]

    def test_a_day_without_orders_after_history_can_be_forecast_from(self, client: TestClient) -> None:
        body = {"series": series("item-1"), "as_of": (AFTER_ON + timedelta(days=2)).isoformat(), "horizon": 1}
        assert client.post("/v1/forecasts", json=body).json()["dates"] == [body["as_of"]]

    def test_unknown_series_are_named(self, client: TestClient) -> None:
        body = {"series": [*series("item-1", "nothing"), {"item_id": "item-1", "location_id": "moon"}]}
        problem = assert_problem(client.post("/v1/forecasts", json=body), 422)
        assert problem["title"] == "Unknown series"
        assert "item 'nothing' at 'main', item 'item-1' at 'moon'" in problem["detail"]

    def test_a_longer_horizon_than_the_models_is_refused(self, client: TestClient) -> None:
        body = {"series": series("item-1"), "horizon": HORIZON + 1}
        assert "horizon must be in 1..14" in assert_problem(client.post("/v1/forecasts", json=body), 422)["detail"]

    def test_a_level_in_the_unknown_tail_is_refused(self, client: TestClient) -> None:
        body = {"series": series("item-1"), "levels": [0.99]}
        detail = assert_problem(client.post("/v1/forecasts", json=body), 422)["detail"]
        assert "within 0.1 and 0.9" in detail

    def test_too_many_series_are_refused(self, client: TestClient) -> None:
        problem = assert_problem(client.post("/v1/forecasts", json={"series": series(*ITEMS)}), 422)
        assert "8 series in one request, at most 7" in problem["detail"]


@pytest.mark.parametrize("route", SERVED, ids=lambda route: f"{route.methods} {route.path}")
def test_what_routes_are_given_takes_no_thread(route: APIRoute) -> None:
    assert asyncio.iscoroutinefunction(route.endpoint)
    assert all(asyncio.iscoroutinefunction(given.call) for given in route.dependant.dependencies)


class TestRecommendations:
    def test_answer_is_as_documented(self, client: TestClient) -> None:
        response = client.get("/v1/recommendations", params={"user_id": "user-1", "k": 3})
        answer = RecommendationAnswer.model_validate(response.json())
        assert answer.user_id == "user-1"
        assert not answer.is_fallback
        assert len({item.item_id for item in answer.items}) == 3
        assert {item.item_id for item in answer.items} <= set(ITEMS)
        assert [item.score for item in answer.items] == sorted((item.score for item in answer.items), reverse=True)
        assert all(item.reason for item in answer.items)

    def test_a_stranger_gets_popular_items_and_is_told(self, client: TestClient) -> None:
        answer = client.get("/v1/recommendations", params={"user_id": "nobody"}).json()
        assert answer["is_fallback"] is True
        assert answer["items"][0]["reason"] == "popular in the last weeks"
        assert len({item["score"] for item in answer["items"]}) > 1

    def test_no_more_items_than_there_are(self, client: TestClient) -> None:
        answer = client.get("/v1/recommendations", params={"user_id": "user-1", "k": 100}).json()
        assert len(answer["items"]) == len(ITEMS)

    @pytest.mark.parametrize(
        "query", ["", "k=5", "user_id=&k=5", "user_id=1&k=0", "user_id=1&k=x", "user_id=1&limit=5", "user_id=a%00b"]
    )
    def test_a_wrong_query_is_refused(self, client: TestClient, query: str) -> None:
        assert assert_problem(client.get(f"/v1/recommendations?{query}"), 422)["errors"]


class TestEvents:
    def test_an_event_changes_the_next_answer(self, client: TestClient) -> None:
        before = client.get("/v1/recommendations", params={"user_id": "visitor-1"}).json()
        body = {"user_id": "visitor-1", "events": [{"item_id": "item-3", "event_type": "purchase"}]}
        response = client.post("/v1/events", json=body, headers={"idempotency-key": "visit-1"})
        told = EventsAnswer.model_validate(response.json())
        assert told.num_kept == 1
        assert not told.is_repeat
        after = client.get("/v1/recommendations", params={"user_id": "visitor-1"}).json()
        assert before["is_fallback"] is True
        assert after["is_fallback"] is False
        assert after["items"] != before["items"]

    def test_an_event_told_twice_is_kept_once(self, client: TestClient) -> None:
        at = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
        body = {"user_id": "visitor-2", "events": [{"item_id": "item-3", "occurred_at": at}] * 2}
        first, again, other = (
            client.post("/v1/events", json=body, headers={"idempotency-key": key}).json()
            for key in ("visit-2", "visit-2", "visit-2b")
        )
        assert (first["num_kept"], first["is_repeat"]) == (1, False)
        assert (again["num_kept"], again["is_repeat"]) == (1, True)
        assert (other["num_kept"], other["is_repeat"]) == (0, False)

    def test_a_key_is_of_one_batch(self, client: TestClient) -> None:
        headers = {"idempotency-key": "visit-4"}
        bodies = [{"user_id": "visitor-4", "events": [{"item_id": item}]} for item in ITEMS[:2]]
        assert client.post("/v1/events", json=bodies[0], headers=headers).status_code == 200
        assert_problem(client.post("/v1/events", json=bodies[1], headers=headers), 409)
        assert_problem(client.post("/v1/events", json=bodies[0]), 422)

    @pytest.mark.parametrize(
        "event",
        [{}, {"item_id": ""}, {"item_id": "a", "event_type": "theft"}, {"item_id": "a", "occurred_at": "12:00"}],
    )
    def test_a_wrong_event_is_refused(self, client: TestClient, event: dict[str, str]) -> None:
        body = {"user_id": "visitor-3", "events": [event]}
        assert_problem(client.post("/v1/events", json=body, headers={"idempotency-key": "visit-3"}), 422)


class TestOrderPlans:
    def test_answer_is_as_documented_and_ledgers_sum(self, client: TestClient) -> None:
        stock = [{"item_id": item, "on_hand_qty": row * 10.0} for row, item in enumerate(ITEMS[:6])]
        body = {"series": series(*ITEMS[:6]), "stock": stock}
        response = client.post("/v1/order-plans", json=body)
        answer = OrderPlanAnswer.model_validate(response.json())
        assert [line.item_id for line in answer.lines] == list(ITEMS[:6])
        assert answer.as_of == AFTER_ON
        assert not answer.stock_is_assumed
        for line in answer.lines:
            assert sum(entry.change_qty for entry in line.ledger) == line.order_qty
            assert line.reason.endswith(".")
            assert line.arrives_on > AFTER_ON
        assert any(line.order_qty > 0 for line in answer.lines)
        assert any(line.order_qty == 0 for line in answer.lines)

    def test_stock_is_assumed_and_marked_where_none_is_given(self, client: TestClient) -> None:
        answer = client.post("/v1/order-plans", json={"series": series("item-1")}).json()
        assert answer["stock_is_assumed"] is True
        assert any(note.startswith("Stock was not given and is assumed") for note in answer["notes"])
        assert any(note.startswith("Assumed for 8 of 8 series: lead time") for note in answer["notes"])

    def test_open_orders_count_whenever_they_come(self, client: TestClient) -> None:
        body = {"series": series("item-1"), "stock": [{"item_id": "item-1", "on_hand_qty": 0}]}
        without = client.post("/v1/order-plans", json=body).json()["lines"][0]
        coming = {"item_id": "item-1", "open_qty": 1000, "expected_on": "2024-05-02"}
        line = client.post("/v1/order-plans", json=body | {"open_orders": [coming]}).json()["lines"][0]
        assert without["order_qty"] > 0
        assert (line["on_order_qty"], line["order_qty"]) == (1000, 0)
        overdue = client.post("/v1/order-plans", json=body | {"open_orders": [coming | {"expected_on": "2024-04-01"}]})
        assert overdue.json()["lines"][0]["remark"] == "1000 units on order are overdue."

    def test_more_stock_never_orders_more(self, client: TestClient) -> None:
        orders = []
        for on_hand in (0, 5, 10, 20, 50, 1e9):
            body = {"series": series("item-2"), "stock": [{"item_id": "item-2", "on_hand_qty": on_hand}]}
            orders.append(client.post("/v1/order-plans", json=body).json()["lines"][0]["order_qty"])
        assert orders == sorted(orders, reverse=True)
        assert orders[-1] == 0

    def test_categories_use_their_own_policy_and_others_the_default_marked(self, client: TestClient) -> None:
        answer = client.post("/v1/order-plans", json={"series": series("item-0", "item-7")}).json()
        dairy, odds = answer["lines"]
        assert (dairy["category_id"], dairy["is_fallback"]) == ("dairy", False)
        assert (odds["category_id"], odds["is_fallback"]) == ("odds", True)
        assert answer["model_versions"] == {"forecaster": "v0001", DAIRY: "v0001", "policy/default": "v0001"}

    def test_the_wish_is_the_policys_on_the_served_forecast(self, client: TestClient) -> None:
        stock = [{"item_id": "item-0", "on_hand_qty": 0}]
        line = client.post("/v1/order-plans", json={"series": series("item-0"), "stock": stock}).json()["lines"][0]
        lead_days = (PlanLine.model_validate(line).arrives_on - AFTER_ON).days
        forecast = client.post("/v1/forecasts", json={"series": series("item-0"), "levels": [0.9]}).json()["series"][0]
        level = forecast["cumulative"][lead_days][0]  # demand over the lead time and one day of review
        assert line["wish_qty"] == pytest.approx(level, abs=0.13)  # ledgers keep eighths

    def test_all_series_up_to_the_limit(self, client: TestClient) -> None:
        answer = client.post("/v1/order-plans", json={}).json()
        assert len(answer["lines"]) == 7
        assert answer["num_series_left_out"] == 1
        assert len(client.post("/v1/order-plans", json={"limit": 2}).json()["lines"]) == 2

    def test_a_series_without_a_stock_row_has_none_and_says_so(self, client: TestClient) -> None:
        body = {"series": series("item-1", "item-2"), "stock": [{"item_id": "item-1", "on_hand_qty": 5}]}
        lines = client.post("/v1/order-plans", json=body).json()["lines"]
        assert [line["on_hand_qty"] for line in lines] == [5, 0]
        assert [line["remark"] for line in lines] == ["", "No stock was reported: 0 is assumed."]

    def test_stock_of_planned_series_that_were_not_asked_is_no_remark(self, client: TestClient) -> None:
        stock = [{"item_id": item, "on_hand_qty": 5} for item in (*ITEMS, "stranger")]
        answer = client.post("/v1/order-plans", json={"series": series("item-1"), "stock": stock}).json()
        lacking = [note for note in answer["notes"] if "history lacks" in note]
        assert lacking == ["stock: 1 rows name series that the history lacks (stranger): not planned."]

    @pytest.mark.parametrize("day", ["2024-04-29", "2024-05-01"])
    def test_stock_of_another_day_is_stale(self, client: TestClient, day: str) -> None:
        stock = [{"item_id": "item-1", "on_hand_qty": 5, "snapshot_on": day}]
        problem = assert_problem(client.post("/v1/order-plans", json={"series": series("item-1"), "stock": stock}), 409)
        assert problem["title"] == "Stale input"

    def test_the_past_can_be_planned_from_where_the_models_have_not_seen(self, client: TestClient) -> None:
        body = {"series": series("item-1"), "as_of": TRAINED_UNTIL_ON.isoformat()}
        assert client.post("/v1/order-plans", json=body).json()["as_of"] == TRAINED_UNTIL_ON.isoformat()
        before = (TRAINED_UNTIL_ON - timedelta(days=1)).isoformat()
        assert_problem(client.post("/v1/order-plans", json=body | {"as_of": before}), 409)

    @pytest.mark.parametrize(
        "body",
        [
            {"series": series("item-1", "item-1")},
            {"series": series("nothing")},
            {"series": series("item-1"), "stock": []},
            {"series": series("item-1"), "stock": [{"item_id": "item-1", "on_hand_qty": -1}]},
            {"series": series("item-1"), "stock": [{"item_id": "item-1", "on_hand_qty": 1}] * 2},
            {"series": series("item-1"), "open_orders": [{"item_id": "a", "open_qty": 1, "expected_on": "2024-05-02"}]},
            {"limit": 0},
            {"limit": 1.5},
            [],
            None,
            "text",
        ],
    )
    def test_a_wrong_body_is_refused(self, client: TestClient, body: object) -> None:
        assert_problem(client.post("/v1/order-plans", json=body), 422)


class TestService:
    def test_health_and_readiness(self, client: TestClient) -> None:
        assert client.get("/healthz").json() == {"status": "ok"}
        answer = ReadyAnswer.model_validate(client.get("/readyz").json())
        assert answer.status == "ready"
        assert set(answer.checks) == {"forecaster", "recommender", "policy", "planner", "database"}

    def test_models_are_those_that_answer(self, client: TestClient) -> None:
        answer = ModelsAnswer.model_validate(client.get("/v1/models").json())
        assert [model.name for model in answer.models][:2] == ["forecaster", "recommender"]
        assert DAIRY in {model.name for model in answer.models}
        assert all(model.trained_until_on == TRAINED_UNTIL_ON for model in answer.models)

    def test_openapi_documents_every_route_with_its_refusals(self, client: TestClient) -> None:
        document = client.get("/openapi.json").json()
        for path, methods in document["paths"].items():
            for operation in methods.values():
                assert operation["description"], path
        for path in ("/v1/forecasts", "/v1/order-plans"):
            responses = document["paths"][path]["post"]["responses"]
            assert {"200", "409", "413", "422", "503", "504"} <= set(responses)
            assert list(responses["422"]["content"]) == ["application/problem+json"]
        assert "swagger" in client.get("/docs").text.lower()

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [("GET", "/nowhere", 404), ("GET", "/v1/forecasts", 405), ("DELETE", "/healthz", 405), ("GET", "/../etc", 404)],
    )
    def test_no_such_route_is_a_problem(self, client: TestClient, method: str, path: str, status: int) -> None:
        assert_problem(client.request(method, path), status)

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"series": NaN}', b'{"a": ' + b"9" * 5_000 + b"}"]
    )
    def test_bodies_that_are_not_json_are_refused(self, client: TestClient, content: bytes) -> None:
        response = client.post("/v1/forecasts", content=content, headers={"content-type": "application/json"})
        assert response.status_code in (400, 422)
        assert_problem(response, response.status_code)

    def test_a_long_body_is_refused(self, client: TestClient) -> None:
        assert_problem(client.post("/v1/forecasts", content=b" " * 4_000_001), 413)
