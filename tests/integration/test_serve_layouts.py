"""Both layouts over HTTP: equal answers, and no request lost with a replica."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest
from serving_home import ITEMS, Home, make_home

from serve.app import ServiceHandle, start

pytestmark = pytest.mark.integration

SERIES = {"series": [{"item_id": item} for item in ITEMS]}
CALLS: list[tuple[str, str, Any]] = [
    ("GET", "/v1/recommendations?user_id=user-1&k=5", None),
    ("POST", "/v1/forecasts", SERIES),
    ("POST", "/v1/order-plans", SERIES),
    ("GET", "/v1/models", None),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    overrides = ("serve.num_replicas=2", "serve.num_cpus_per_replica=0.1", "serve.request_timeout_s=20")
    return make_home(tmp_path_factory.mktemp("shop"), overrides=overrides)


@pytest.fixture(scope="module")
def composed(home: Home, ray_session: None) -> Iterator[ServiceHandle]:
    with start(home.settings) as service:
        yield service


def ask(url: str, call: tuple[str, str, Any]) -> httpx.Response:
    method, path, body = call
    return httpx.request(method, f"{url}{path}", json=body, timeout=30)


def pids_of(deployment: str) -> list[int]:
    """Processes of a deployment's replicas on this machine."""
    children = psutil.Process().children(recursive=True)
    return [child.pid for child in children if f":restock:{deployment}" in "".join(child.cmdline())]


class Load:
    """Asks every route over and over from a few threads while it is entered; counts what came back."""

    def __init__(self, url: str, *, threads: int = 3) -> None:
        self.outcomes: Counter[str] = Counter()
        self._url, self._done = url, threading.Event()
        self._pool = ThreadPoolExecutor(threads)
        self._threads = threads

    def __enter__(self) -> "Load":
        self._running = [self._pool.submit(self._ask, first) for first in range(self._threads)]
        time.sleep(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for running in self._running:
            running.result()
        self._pool.shutdown()

    @property
    def num_threads(self) -> int:
        """Requests that are on their way at a time."""
        return self._threads

    def _ask(self, first: int) -> None:
        number = first
        while not self._done.is_set():
            response = ask(self._url, CALLS[number % 3])
            self.outcomes[f"{response.status_code} {'' if response.is_success else response.text[:300]}".strip()] += 1
            number += 1


def test_killed_models_and_planners_lose_no_request(composed: ServiceHandle) -> None:
    victims = {name: pids_of(name) for name in ("forecaster", "recommender", "policy", "planner")}
    assert all(len(pids) == 2 for pids in victims.values())
    with Load(composed.url) as load:
        for pids in victims.values():
            os.kill(pids[0], signal.SIGKILL)
            time.sleep(1)
    assert set(load.outcomes) == {"200"}
    assert sum(load.outcomes.values()) > 10


def test_a_killed_ingress_loses_no_more_than_what_it_was_working_on(composed: ServiceHandle) -> None:
    """Serve's Python proxy asks nobody else; HAProxy does."""
    with Load(composed.url) as load:
        os.kill(pids_of("ingress")[0], signal.SIGKILL)
        time.sleep(1)
    lost = sum(count for outcome, count in load.outcomes.items() if outcome != "200")
    assert lost <= load.num_threads
    assert load.outcomes["200"] > load.num_threads


def test_live_events_reach_the_replica_that_recommends(composed: ServiceHandle) -> None:
    before = httpx.get(f"{composed.url}/v1/recommendations?user_id=visitor&k=3").json()
    assert before["is_fallback"] is True
    body = {"user_id": "visitor", "events": [{"item_id": "item-3", "event_type": "purchase"}]}
    told = httpx.post(f"{composed.url}/v1/events", json=body, headers={"idempotency-key": "visit"})
    assert told.json()["num_kept"] == 1
    for _ in range(6):
        after = httpx.get(f"{composed.url}/v1/recommendations?user_id=visitor&k=3").json()
        assert after["is_fallback"] is False


def test_layouts_answer_alike(home: Home, composed: ServiceHandle) -> None:
    answers = [ask(composed.url, call).json() for call in CALLS]
    composed.stop()
    serving = home.settings.serve.model_copy(update={"layout": "fused", "num_replicas": 1})
    with start(home.settings.model_copy(update={"serve": serving})) as fused:
        assert [ask(fused.url, call).json() for call in CALLS] == answers
        assert not pids_of("forecaster")
