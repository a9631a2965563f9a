"""Stored plans over HTTP, over the real composition and tiny real models; on SQLite and PostgreSQL."""

import asyncio
import base64
import io
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pyarrow.csv
import pyarrow.parquet
import pytest
from pydantic import BaseModel
from serving_home import AFTER_ON, ITEMS, Home
from starlette.testclient import TestClient

from cluster.config import Settings
from serve.ingress import make_api
from serve.layout import LocalReplicas
from serve.releases import serving_versions
from serve.schemas.audit import AuditChanges
from serve.schemas.decisions import ApprovedMany
from serve.schemas.exports import PlanExport, PlanExports
from serve.schemas.plan_lines import StoredLineDetail, StoredLines
from serve.schemas.plan_runs import PlanRunAsked, PlanRunDetail, PlanRuns
from serve.schemas.state import Problem
from serve.schemas.stock import MovesTaken, OpenOrders, StockLevels, StockTaken

TODAY = AFTER_ON.isoformat()


@pytest.fixture
def plan_settings(home: Home, database_url: str) -> Settings:
    serve = home.settings.serve.model_copy(update={"database_url": database_url})
    plan = home.settings.plan.model_copy(update={"chunk_series": 3, "lease_s": 2.0})
    return home.settings.model_copy(update={"serve": serve, "plan": plan})


@pytest.fixture
def shop(plan_settings: Settings) -> Iterator[TestClient]:
    replicas = LocalReplicas(plan_settings)
    asyncio.run(replicas.reconfigure(serving_versions(plan_settings)))
    with TestClient(make_api(replicas.services, settings=plan_settings), raise_server_exceptions=False) as client:
        yield client


def get(shop: TestClient, path: str, model: type[BaseModel], **query: Any) -> dict[str, Any]:
    response = shop.get(path, params=query)
    assert response.status_code == 200, response.text
    model.model_validate(response.json())
    return dict(response.json())


def post(
    shop: TestClient,
    path: str,
    body: dict[str, Any],
    model: type[BaseModel],
    *,
    key: str | None = None,
    status: int = 200,
) -> dict[str, Any]:
    response = shop.post(path, json=body, headers={} if key is None else {"idempotency-key": key})
    assert response.status_code == status, response.text
    model.model_validate(response.json())
    return dict(response.json())


def refused(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    return Problem.model_validate(response.json()).detail


def count(shop: TestClient, on_hand_qty: float = 1.0, **more: Any) -> dict[str, Any]:
    stock = [{"item_id": item, "on_hand_qty": on_hand_qty} for item in ITEMS]
    body = {"counted_on": TODAY, "stock": stock} | more
    return post(shop, "/v1/stock", body, StockTaken, key=f"count-{on_hand_qty}-{sorted(more)}")


def make_plan(shop: TestClient, **body: Any) -> str:
    response = shop.post("/v1/plan-runs", json=body)
    assert response.status_code in (200, 202), response.text
    run_id = PlanRunAsked.model_validate(response.json()).run_id
    end = time.monotonic() + 30
    while (run := get(shop, f"/v1/plan-runs/{run_id}", PlanRunDetail))["state"] in ("queued", "running"):
        assert time.monotonic() < end, run
        time.sleep(0.02)
    assert run["state"] == "done", run
    return run_id


def lines(shop: TestClient, run_id: str, **query: Any) -> list[dict[str, Any]]:
    return list(get(shop, f"/v1/plan-runs/{run_id}/lines", StoredLines, **query)["lines"])


def test_a_plan_of_everything_is_made_beside_the_requests(shop: TestClient) -> None:
    count(shop)
    run_id = make_plan(shop)
    run = get(shop, f"/v1/plan-runs/{run_id}", PlanRunDetail)
    assert (run["num_series"], run["num_planned"]) == (len(ITEMS), len(ITEMS))
    assert (run["on_date"], run["counted_on"], run["created_by"]) == (TODAY, TODAY, "development")
    listed = lines(shop, run_id, order="series")
    assert [line["item_id"] for line in listed] == sorted(ITEMS)
    assert sum(line["order_value"] for line in listed) == pytest.approx(run["totals"]["order_value"])
    assert run["states"]["proposed"] == len(ITEMS)
    # One hop's answer and the stored plan are the same arithmetic.
    asked = [{"item_id": item} for item in ITEMS[:7]]
    at_once = {line["item_id"]: line for line in shop.post("/v1/order-plans", json={"series": asked}).json()["lines"]}
    for line in listed:
        if line["item_id"] in at_once:
            assert line["order_qty"] == at_once[line["item_id"]]["order_qty"]
            assert line["reason"] == at_once[line["item_id"]]["reason"]


def test_the_same_question_is_the_same_plan(shop: TestClient) -> None:
    count(shop)
    run_id = make_plan(shop)
    again = post(shop, "/v1/plan-runs", {}, PlanRunAsked)
    assert (again["run_id"], again["is_known"], again["state"]) == (run_id, True, "done")
    part = make_plan(shop, series=[{"item_id": ITEMS[3]}])
    assert part != run_id
    assert [line["item_id"] for line in lines(shop, part)] == [ITEMS[3]]
    listed = get(shop, "/v1/plan-runs", PlanRuns, limit=1)
    assert [run["run_id"] for run in listed["runs"]] == [part]
    rest = get(shop, "/v1/plan-runs", PlanRuns, after=listed["next"])
    assert [run["run_id"] for run in rest["runs"]] == [run_id]


def test_lines_come_in_pages_most_at_risk_first(shop: TestClient) -> None:
    count(shop)
    run_id = make_plan(shop)
    pages, after = [], None
    while True:
        page = get(shop, f"/v1/plan-runs/{run_id}/lines", StoredLines, limit=3, **({"after": after} if after else {}))
        pages.append(page["lines"])
        after = page["next"]
        if after is None:
            break
    assert [len(page) for page in pages] == [3, 3, 2]
    risks = [line["money_at_risk"] for page in pages for line in page]
    assert risks == sorted(risks, reverse=True)
    assert len({line["line_id"] for page in pages for line in page}) == len(ITEMS)


def test_lines_are_found_by_mark_state_and_category(shop: TestClient) -> None:
    stock = [{"item_id": item, "on_hand_qty": 0.0 if row else 9_999.0} for row, item in enumerate(ITEMS)]
    post(shop, "/v1/stock", {"counted_on": TODAY, "stock": stock}, StockTaken, key="count")
    run_id = make_plan(shop)
    assert [line["item_id"] for line in lines(shop, run_id, mark="overstock")] == [ITEMS[0]]
    assert ITEMS[0] not in {line["item_id"] for line in lines(shop, run_id, mark="stockout_risk")}
    assert {line["category_id"] for line in lines(shop, run_id, category_id="bread")} == {"bread"}
    assert all(line["order_qty"] > 0 for line in lines(shop, run_id, ordered_only=True))
    assert lines(shop, run_id, state="approved") == []


def test_a_line_lives_from_proposal_to_receipt(shop: TestClient) -> None:
    count(shop)
    run_id = make_plan(shop)
    line = lines(shop, run_id, ordered_only=True)[0]
    path = f"/v1/plan-lines/{line['line_id']}"
    edited = post(shop, f"{path}/edit", {"version": 1, "order_qty": 60.0, "reason": "a fair is on"}, StoredLineDetail)
    assert (edited["order_qty"], edited["proposed_qty"]) == (60, line["order_qty"])
    assert sum(step["change_qty"] for step in edited["ledger"]) == 60
    assert "version 1 any more" in refused(shop.post(f"{path}/approve", json={"version": 1}), 409)
    approved = post(shop, f"{path}/approve", {"version": 2}, StoredLineDetail)
    assert [(row["action"], row["actor"]) for row in approved["history"]] == [
        ("edit", "development"),
        ("approve", "development"),
    ]
    order = get(shop, "/v1/open-orders", OpenOrders)["open_orders"][0]
    assert (order["line_id"], order["open_qty"]) == (line["line_id"], 60)
    # On order at once: the next answer needs less.
    answer = shop.post("/v1/order-plans", json={"series": [{"item_id": line["item_id"]}]}).json()["lines"][0]
    assert (answer["on_order_qty"], answer["order_qty"]) == (60, 0)
    export = post(shop, "/v1/exports", {"run_id": run_id}, PlanExport, status=201)
    assert export["num_lines"] == 1
    assert "waits to be exported" in refused(shop.post("/v1/exports", json={"run_id": run_id}), 409)
    assert "is exported" in refused(shop.post(f"{path}/reopen", json={"version": 4, "reason": "no"}), 409)
    receipt = {"receipts": [{"open_order_id": order["open_order_id"], "received_qty": 60.0, "received_on": TODAY}]}
    post(shop, "/v1/receipts", receipt, MovesTaken, key="delivery")
    assert get(shop, "/v1/open-orders", OpenOrders)["open_orders"] == []
    level = get(shop, "/v1/stock", StockLevels, item_id=line["item_id"])["stock"][0]
    assert level["on_hand_qty"] == 61


def test_an_export_is_fetched_in_every_form(shop: TestClient) -> None:
    count(shop)
    run_id = make_plan(shop)
    wanted = [
        {"line_id": line["line_id"], "version": line["version"]} for line in lines(shop, run_id, ordered_only=True)
    ]
    assert len(wanted) > 1
    stale = wanted[0] | {"version": 7}
    done = post(shop, "/v1/plan-lines/approve", {"lines": [*wanted[1:], stale]}, ApprovedMany)
    assert len(done["approved"]) == len(wanted) - 1
    assert [row["title"] for row in done["refused"]] == ["Conflict"]
    export = post(shop, "/v1/exports", {"run_id": run_id}, PlanExport, status=201)
    assert get(shop, "/v1/exports", PlanExports, run_id=run_id)["exports"] == [export]
    path = f"/v1/exports/{export['export_id']}"
    as_json = shop.get(path, params={"format": "json"}).json()
    assert [row["line_id"] for row in as_json] == sorted(
        done["approved"], key=lambda line: int(line.rpartition(".")[2])
    )
    as_csv = pyarrow.csv.read_csv(io.BytesIO(shop.get(path).content)).to_pylist()
    as_parquet = pyarrow.parquet.read_table(io.BytesIO(shop.get(path, params={"format": "parquet"}).content))
    assert [row["order_qty"] for row in as_csv] == as_parquet["order_qty"].to_pylist()
    refused(shop.get(path, params={"format": "xlsx"}), 422)
    refused(shop.get("/v1/exports/nothing"), 404)


def test_orders_change_the_next_answers_and_are_taken_once(shop: TestClient) -> None:
    count(shop, 30.0)
    body = {"orders": [{"item_id": ITEMS[2], "sold_qty": 29.0, "user_id": "buyer-1"}]}
    before = shop.post("/v1/order-plans", json={"series": [{"item_id": ITEMS[2]}]}).json()["lines"][0]
    stranger = shop.get("/v1/recommendations", params={"user_id": "buyer-1"}).json()
    first = post(shop, "/v1/orders", body, MovesTaken, key="batch-1")
    again = post(shop, "/v1/orders", body, MovesTaken, key="batch-1")
    assert (first["num_series_changed"], first["is_repeat"], again["is_repeat"]) == (1, False, True)
    after = shop.post("/v1/order-plans", json={"series": [{"item_id": ITEMS[2]}]}).json()["lines"][0]
    assert (before["on_hand_qty"], after["on_hand_qty"]) == (30, 1)
    assert after["order_qty"] > before["order_qty"]
    known = shop.get("/v1/recommendations", params={"user_id": "buyer-1"}).json()
    assert (stranger["is_fallback"], known["is_fallback"]) == (True, False)
    other = {"orders": [{"item_id": ITEMS[2], "sold_qty": 1.0}]}
    assert "new content a new key" in refused(
        shop.post("/v1/orders", json=other, headers={"idempotency-key": "batch-1"}), 409
    )
    refused(shop.post("/v1/orders", json=other), 422)


def test_a_stale_count_and_a_plan_of_another_day_than_the_stock_are_refused(shop: TestClient) -> None:
    late = (AFTER_ON + timedelta(days=3)).isoformat()
    stock = [{"item_id": ITEMS[0], "on_hand_qty": 1.0}]
    post(shop, "/v1/stock", {"counted_on": late, "stock": stock}, StockTaken, key="late")
    older = {"counted_on": TODAY, "stock": stock}
    assert "older than what is known" in refused(
        shop.post("/v1/stock", json=older, headers={"idempotency-key": "early"}), 409
    )
    assert f"latest count of stock is of {late}" in refused(shop.post("/v1/plan-runs", json={}), 409)
    answer = shop.post("/v1/order-plans", json={"limit": 1}).json()
    assert answer["stock_is_assumed"]
    assert any("send a count of that day" in note for note in answer["notes"])


def test_without_a_count_stock_is_assumed_and_approved_lines_still_count(shop: TestClient) -> None:
    run_id = make_plan(shop)
    run = get(shop, f"/v1/plan-runs/{run_id}", PlanRunDetail)
    assert run["counted_on"] is None
    line = lines(shop, run_id, order="series")[0]
    path = f"/v1/plan-lines/{line['line_id']}"
    post(
        shop,
        f"{path}/edit",
        {"version": 1, "order_qty": 48.0, "despite_terms": True, "reason": "r"},
        StoredLineDetail,
    )
    post(shop, f"{path}/approve", {"version": 2}, StoredLineDetail)
    again = lines(shop, make_plan(shop), order="series")[0]
    assert again["on_order_qty"] == pytest.approx(line["on_order_qty"] + 48)


def test_what_is_not_there_is_not_found(shop: TestClient) -> None:
    refused(shop.get("/v1/plan-runs/nothing"), 404)
    refused(shop.get("/v1/plan-runs/nothing/lines"), 404)
    refused(shop.get("/v1/plan-lines/nothing"), 404)
    refused(shop.post("/v1/plan-lines/nothing/approve", json={"version": 1}), 404)
    refused(shop.post("/v1/plan-runs/nothing/cancel", json={"reason": "r"}), 404)
    refused(shop.post("/v1/open-orders/nothing/cancel", json={"reason": "r"}), 404)
    refused(shop.post("/v1/exports", json={"run_id": "nothing"}), 404)
    refused(shop.post("/v1/plan-runs", json={"series": [{"item_id": "nothing"}]}), 422)
    refused(shop.get("/v1/plan-runs", params={"after": "WzFd"}), 422)
    assert "given more than once" in refused(shop.get("/v1/plan-runs?limit=1&limit=2"), 422)
    refused(shop.get("/v1/plan-runs", params={"after": "%%%"}), 422)


def test_the_audit_is_complete_and_in_pages(shop: TestClient) -> None:
    count(shop)
    run_id = make_plan(shop)
    first = get(shop, "/v1/audit", AuditChanges, limit=2)
    rest = get(shop, "/v1/audit", AuditChanges, after=first["next"])
    told = [(row["subject"], row["action"]) for row in [*first["changes"], *rest["changes"]]]
    assert told == [("run", "finish"), ("run", "start"), ("run", "ask"), ("stock", "take"), ("stock", "count")]
    of_run = get(shop, "/v1/audit", AuditChanges, subject="run", subject_id=run_id)["changes"]
    assert [row["action"] for row in of_run] == ["finish", "start", "ask"]


@pytest.mark.parametrize(
    "key",
    [["\x00", "a"], [10**400, 1], [1.0, 10**30], [-(10**30)], ["2024-01-01", "a"], ["x", "y"], [], [[]], {"a": 1}],
)
def test_a_page_that_nobody_gave_is_refused_everywhere(shop: TestClient, key: Any) -> None:
    after = base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")
    run_id = make_plan(shop, series=[{"item_id": ITEMS[0]}])
    run = f"/v1/plan-runs/{run_id}/lines"
    for path in (
        "/v1/plan-runs",
        run,
        f"{run}?order=series",
        "/v1/exports",
        "/v1/stock",
        "/v1/open-orders",
        "/v1/audit",
    ):
        response = shop.get(path + ("&" if "?" in path else "?") + f"after={after}")
        assert response.status_code in (200, 422), response.text


def test_what_a_database_cannot_hold_is_refused_before_it(shop: TestClient) -> None:
    refused(shop.get("/v1/plan-runs/%00"), 422)
    refused(shop.get("/v1/plan-lines/a%00b"), 422)
    refused(shop.get("/v1/audit?subject=%00"), 422)
    refused(shop.get("/v1/stock?item_id=%00"), 422)
    refused(shop.post("/v1/plan-lines/x/reject", json={"version": 1, "reason": "a\x00b"}), 422)
    refused(shop.post("/v1/plan-lines/x/reject", json={"version": 10**30, "reason": "r"}), 422)
    refused(shop.post("/v1/plan-lines/approve", json={"lines": [{"line_id": "\x00", "version": 1}]}), 422)
