"""What is measured is what happened, and the page and the code name the same metrics."""

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from serving_home import ITEMS
from starlette.testclient import TestClient

from serve.store.database import Database
from serve.watch.metrics import BATCH_SIZE, CATALOGUE, REQUESTS, Meter, Reading, merge
from serve.watch.scrape import scrape

PAGE = Path(__file__).resolve().parents[4] / "docs" / "metrics.md"


def samples_of(client: TestClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Values by name and labels, without the process."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, frozenset((k, v) for k, v in sample.labels.items() if k != "process")): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def growth(client: TestClient, act: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    before = samples_of(client)
    act()
    after = samples_of(client)
    return {key: value - before.get(key, 0.0) for key, value in after.items() if value != before.get(key, 0.0)}


def labels(**given: str) -> frozenset[tuple[str, str]]:
    return frozenset(given.items())


def test_a_plan_is_counted_once_in_every_deployment_it_went_through(client: TestClient) -> None:
    body = {
        "series": [{"item_id": item} for item in (ITEMS[0], ITEMS[1], ITEMS[7])],
        "stock": [{"item_id": ITEMS[0], "on_hand_qty": 1e9}],
    }
    answers: list[dict[str, Any]] = []
    grown = growth(client, lambda: answers.append(client.post("/v1/order-plans", json=body).json()))
    route = {"method": "POST", "route": "/v1/order-plans"}
    assert grown["restock_requests_total", labels(**route, status="200")] == 1
    assert grown["restock_request_seconds_count", labels(**route)] == 1
    for deployment in ("planner", "forecaster", "policy"):
        assert grown["restock_batch_size_sum", labels(deployment=deployment)] == 3
        assert grown["restock_batch_size_count", labels(deployment=deployment)] == 1
    lines = answers[0]["lines"]
    ordered = [line for line in lines if line["order_qty"] > 0]
    assert 0 < len(ordered) < 3
    assert grown["restock_plan_lines_total", labels(outcome="ordered")] == len(ordered)
    assert grown["restock_plan_lines_total", labels(outcome="nothing")] == 3 - len(ordered)
    assert grown["restock_order_units_total", labels()] == pytest.approx(sum(line["order_qty"] for line in lines))
    assert grown["restock_order_value_total", labels()] == pytest.approx(sum(line["order_value"] for line in lines))
    assert grown["restock_answers_total", labels(answer="order-plans")] == 3
    assert grown["restock_fallback_answers_total", labels(answer="order-plans")] == 1


def test_a_stranger_is_a_fallback_and_a_customer_is_not(client: TestClient) -> None:
    def ask() -> None:
        for user in ("user-1", "nobody-of-ours"):
            client.get("/v1/recommendations", params={"user_id": user})

    grown = growth(client, ask)
    assert grown["restock_answers_total", labels(answer="recommendations")] == 2
    assert grown["restock_fallback_answers_total", labels(answer="recommendations")] == 1


def test_what_strangers_write_is_no_label(client: TestClient) -> None:
    def ask() -> None:
        client.request("BREW", "/v1/coffee")
        client.get("/v1/../secret-path")

    grown = growth(client, ask)
    assert grown["restock_requests_total", labels(method="other", route="unknown", status="404")] == 1
    assert grown["restock_requests_total", labels(method="GET", route="unknown", status="404")] == 1


def test_only_what_the_catalogue_names_is_shown(client: TestClient) -> None:
    shown = {name for name, _ in samples_of(client)}
    assert shown <= {name for metric in CATALOGUE for name in metric.sample_names}


def test_processes_stay_apart_and_one_that_answers_twice_counts_once() -> None:
    one, other = Meter(), Meter()
    one.add(REQUESTS, 2, "GET", "/x", "200")
    other.add(REQUESTS, 5, "GET", "/x", "200")
    readings = [
        Reading(process="a:1", families=one.read().families),
        Reading(process="a:1", families=one.read().families),
        Reading(process="b:1", families=other.read().families),
    ]
    values = {
        sample.labels["process"]: sample.value
        for family in merge(readings)
        for sample in family.samples
        if sample.name == REQUESTS.name
    }
    assert values == {"a:1": 2, "b:1": 5}


def test_a_replica_that_does_not_answer_leaves_the_others_shown(
    caplog: pytest.LogCaptureFixture, database: Database
) -> None:
    other = Meter()
    other.observe(BATCH_SIZE, 7, "planner")

    async def results_async(**_: Any) -> list[Any]:
        return [Reading(process="other:1", families=other.read().families), TimeoutError("replica 2 is late")]

    handle = SimpleNamespace(broadcast=lambda _: SimpleNamespace(results_async=results_async))
    text = asyncio.run(scrape([handle, SimpleNamespace()], database=database)).decode()
    assert 'restock_batch_size_sum{deployment="planner",process="other:1"} 7.0' in text
    assert "replica 2 is late" in caplog.text


def test_a_reading_travels_between_processes() -> None:
    import pickle

    meter = Meter()
    meter.add(REQUESTS, 1, "GET", "/x", "200")
    back = pickle.loads(pickle.dumps(meter.read()))
    assert all(isinstance(family, Family) for family in back.families)


def test_the_page_lists_the_catalogue() -> None:
    rows = re.findall(r"^\| `(restock_\w+)` \| (\w+) \| (.*?) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    listed = [(name, kind, tuple(re.findall(r"`(\w+)`", labels)), meaning) for name, kind, labels, meaning in rows]
    assert listed == [(metric.name, metric.kind, metric.labels, metric.meaning) for metric in CATALOGUE]


def test_the_queries_of_the_page_use_what_exists() -> None:
    used = set(
        re.findall(r"\brestock_\w+", " ".join(re.findall(r"\| `(\w+ ?\w*.*?)` \|$", PAGE.read_text(), re.MULTILINE)))
    )
    assert used
    assert used <= {name for metric in CATALOGUE for name in metric.sample_names}
