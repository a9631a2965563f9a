"""What the service is told reaches every process that recommends, also one that starts later."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from serving_home import AFTER_ON, ITEMS, Home, make_home
from starlette.testclient import TestClient
from typer.testing import CliRunner

from restock.cli import app
from serve.ingress import make_api
from serve.layout import LocalReplicas
from serve.releases import serving_versions

# Within a second on a machine that has the time; what is tested is that it comes.
DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make_home(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def open_process(shop: Home) -> Iterator[Callable[[], TestClient]]:
    """Starts one more process of the service, in all but its memory: replicas of its own, and the same database."""
    with ExitStack() as running:

        def start() -> TestClient:
            replicas = LocalReplicas(shop.settings)
            asyncio.run(replicas.reconfigure(serving_versions(shop.settings)))
            return running.enter_context(TestClient(make_api(replicas.services, settings=shop.settings)))

        yield start


def is_known(process: TestClient, user_id: str) -> bool:
    return not process.get("/v1/recommendations", params={"user_id": user_id}).json()["is_fallback"]


def shown_to(process: TestClient, user_id: str = "user-1") -> set[str]:
    answer = process.get("/v1/recommendations", params={"user_id": user_id, "k": len(ITEMS)}).json()
    return {item["item_id"] for item in answer["items"]}


def post(process: TestClient, path: str, body: dict[str, object]) -> None:
    response = process.post(path, json=body, headers={"idempotency-key": f"{path}{body}".replace(" ", "")[:200]})
    assert response.status_code == 200, response.text


def comes(is_so: Callable[[], bool]) -> bool:
    end_s = time.monotonic() + DEADLINE_S
    while not is_so() and time.monotonic() < end_s:
        time.sleep(0.1)
    return is_so()


def visit(process: TestClient, user_id: str, item_id: str = "item-3") -> None:
    post(process, "/v1/events", {"user_id": user_id, "events": [{"item_id": item_id, "event_type": "purchase"}]})


def count(process: TestClient, item_id: str, units: float) -> None:
    stock = [{"item_id": item_id, "on_hand_qty": units}]
    post(process, "/v1/stock", {"counted_on": str(AFTER_ON), "stock": stock, "is_complete": False})


def test_events_reach_the_other_process_and_one_that_starts_later(open_process: Callable[[], TestClient]) -> None:
    told, other = open_process(), open_process()
    assert not is_known(other, "visitor")
    visit(told, "visitor")
    assert is_known(told, "visitor")
    later = open_process()
    assert comes(lambda: is_known(other, "visitor"))
    assert comes(lambda: is_known(later, "visitor"))


def test_what_a_customer_bought_is_there_after_a_restart(open_process: Callable[[], TestClient]) -> None:
    sold = {"item_id": "item-3", "sold_qty": 1, "user_id": "buyer"}
    post(open_process(), "/v1/orders", {"orders": [sold]})
    later = open_process()
    assert comes(lambda: is_known(later, "buyer"))


def test_what_is_sold_out_is_not_recommended_until_there_is_more(open_process: Callable[[], TestClient]) -> None:
    told, other = open_process(), open_process()
    assert shown_to(told) == shown_to(other) == set(ITEMS)
    count(told, "item-2", 0)
    left, later = set(ITEMS) - {"item-2"}, open_process()
    assert comes(lambda: shown_to(told) == shown_to(other) == shown_to(later) == left)
    count(told, "item-5", 1)
    post(told, "/v1/orders", {"orders": [{"item_id": "item-5", "sold_qty": 1}]})
    count(told, "item-2", 4)
    left = set(ITEMS) - {"item-5"}
    assert comes(lambda: shown_to(told) == shown_to(other) == shown_to(later) == left)


def test_who_is_forgotten_is_a_stranger_to_every_process_that_runs_and_may_come_back(
    open_process: Callable[[], TestClient], shop: Home, tmp_path: Path
) -> None:
    told, other = open_process(), open_process()
    visit(told, "leaver")
    assert comes(lambda: is_known(other, "leaver"))
    assert is_known(told, "user-2"), "from history, without a session"
    config = tmp_path / "shop.toml"
    config.write_text(f'home = "{shop.settings.home}"\n')
    for user in ("leaver", "user-2"):
        result = CliRunner().invoke(app, ["privacy", "forget", user, "--config", str(config)])
        assert result.exit_code == 0, result.output
    for process in (told, other):
        assert comes(lambda process=process: not is_known(process, "leaver") and not is_known(process, "user-2"))
        assert is_known(process, "user-3")
    for user in ("leaver", "user-2"):
        visit(told, user, "item-4")
        assert is_known(told, user)
        assert comes(lambda user=user: is_known(other, user))
