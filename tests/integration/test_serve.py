"""The real thing: Ray Serve's proxy and replicas, over HTTP on a free port."""

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving_home import AFTER_ON, ITEMS, Home, make_home, publish_forecaster, publish_policy

from cluster.errors import ConflictError
from cluster.manifest import slug_of
from serve.app import ServiceHandle, start

pytestmark = pytest.mark.integration

PLAN = {"series": [{"item_id": "item-0"}], "stock": [{"item_id": "item-0", "on_hand_qty": 0}]}
CALLS = [
    ("GET", "/v1/recommendations?user_id=user-1&k=3", None),
    ("POST", "/v1/forecasts", {"series": [{"item_id": item} for item in ITEMS]}),
    ("POST", "/v1/order-plans", PLAN),
    ("GET", "/v1/models", None),
    ("GET", "/healthz", None),
    ("GET", "/readyz", None),
    ("GET", "/docs", None),
    ("GET", "/openapi.json", None),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    limits = ("serve.request_timeout_s=300", "serve.max_body_bytes=10000", "serve.num_replicas=2")
    return make_home(tmp_path_factory.mktemp("shop"), overrides=limits)


@pytest.fixture(scope="module")
def service(home: Home, ray_session: None) -> Iterator[ServiceHandle]:
    with start(home.settings) as service:
        yield service
    service.stop()  # twice is once


@pytest.fixture
def client(service: ServiceHandle) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        yield client


def assert_problem(response: httpx.Response, status: int) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    assert "/" + "home" not in response.text


@pytest.mark.parametrize(("method", "path", "body"), CALLS, ids=[path for _, path, _ in CALLS])
def test_every_route_answers(client: httpx.Client, method: str, path: str, body: object) -> None:
    response = client.request(method, path, json=body, headers={"X-Request-ID": "mine-1"})
    assert response.status_code == 200, response.text
    assert response.headers.get_list("x-request-id") == ["mine-1"]
    assert response.headers["x-content-type-options"] == "nosniff"


def test_only_the_replicas_listen_beyond_loopback(service: ServiceHandle) -> None:
    """Ray's ports unpickle what they are sent; Serve opens one per replica on every address (docs/service.md)."""
    listening = [
        (connection.laddr.ip, process.name())
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert service.url.startswith("http://127.0.0.1:")
    assert len(listening) > 5
    exposed = {name for address, name in listening if address not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")}
    assert {name.partition(":restock")[0] for name in exposed} <= {"ray::ServeReplica"}


def test_one_scrape_shows_what_every_process_measured(client: httpx.Client) -> None:
    def measured() -> tuple[float, set[str], set[str]]:
        samples = [
            sample
            for family in text_string_to_metric_families(client.get("/metrics").text)
            for sample in family.samples
        ]
        plans = {"method": "POST", "route": "/v1/order-plans", "status": "200"}
        num_plans = sum(sample.value for sample in samples if plans.items() <= sample.labels.items())
        sizes = [sample.labels for sample in samples if sample.name == "restock_batch_size_count"]
        return num_plans, {row["deployment"] for row in sizes}, {row["process"] for row in sizes}

    before, _, _ = measured()
    for _ in range(6):
        assert client.post("/v1/order-plans", json=PLAN).status_code == 200
    after, deployments, processes = measured()
    assert after - before == 6
    assert {"planner", "forecaster", "policy"} <= deployments
    assert len(processes) >= 3


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/nowhere", None, 404),
        ("PUT", "/v1/forecasts", b"{}", 405),
        ("GET", "/v1/recommendations", None, 422),
        ("POST", "/v1/forecasts", b"{", 422),
        ("POST", "/v1/forecasts", b"[" * 9_000, 400),
        ("POST", "/v1/forecasts", b'{"series": [{"item_id": "nothing"}]}', 422),
        ("POST", "/v1/forecasts", b'{"series": [{"item_id": "item-1"}], "levels": [NaN]}', 422),
        ("POST", "/v1/forecasts", b'{"series": [{"item_id": "item-1"}], "horizon": 1e400}', 422),
        ("POST", "/v1/forecasts", b'{"series": [{"item_id": "item-1"}], "as_of": "2031-01-01"}', 409),
        ("POST", "/v1/forecasts", b'{"series": [{"item_id": "\\ud800"}]}', 422),
        ("POST", "/v1/forecasts", b'{"series": [{"item_id": "\'; DROP TABLE x;--"}]}', 422),
        ("POST", "/v1/order-plans", b'{"stock": [{"item_id": "item-1", "on_hand_qty": -1}]}', 422),
        ("POST", "/v1/order-plans", b" " * 10_001, 413),
        ("GET", "/v1/../../etc/passwd", None, 404),
    ],
)
def test_hostile_input_gets_a_problem_document(
    client: httpx.Client, method: str, path: str, content: bytes | None, status: int
) -> None:
    response = client.request(method, path, content=content, headers={"content-type": "application/json"})
    assert_problem(response, status)


def test_a_body_without_declared_length_is_cut_off_by_the_proxy(client: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(2_000):
            yield b" " * 1_000

    # The connection may be closed while we still send: refused as well.
    with contextlib.suppress(httpx.WriteError):
        assert_problem(client.post("/v1/forecasts", content=endless()), 413)
    assert client.get("/healthz").status_code == 200


def test_clients_cannot_command_the_proxy(client: httpx.Client) -> None:
    """Serve alone would time out at once, or wait for a model that nobody has."""
    headers = {"x-request-timeout-seconds": "0.000001", "serve_multiplexed_model_id": "x", "x-session-id": "y"}
    assert client.get("/healthz", headers=headers).status_code == 200


def test_concurrent_requests_all_get_their_own_answer(service: ServiceHandle) -> None:
    def ask(number: int) -> tuple[str, str]:
        item = ITEMS[number % len(ITEMS)]
        with httpx.Client(base_url=service.url, timeout=30) as client:
            response = client.post(
                "/v1/order-plans", json={"series": [{"item_id": item}]}, headers={"X-Request-ID": f"r{number}"}
            )
        assert response.headers["x-request-id"] == f"r{number}"
        return item, response.json()["lines"][0]["item_id"]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(32)))
    assert all(asked == answered for asked, answered in answers)


def replica_pids() -> set[int]:
    children = psutil.Process().children(recursive=True)
    return {child.pid for child in children if "ray::ServeReplica" in "".join(child.cmdline())}


def test_a_plan_is_made_beside_the_requests_and_its_orders_count(client: httpx.Client) -> None:
    stock = [{"item_id": item, "on_hand_qty": 0.0} for item in ITEMS]
    body = {"counted_on": AFTER_ON.isoformat(), "stock": stock}
    assert client.post("/v1/stock", json=body, headers={"idempotency-key": "count"}).status_code == 200
    asked = [client.post("/v1/plan-runs", json={}).json() for _ in range(3)]
    assert len({run["run_id"] for run in asked}) == 1
    path = f"/v1/plan-runs/{asked[0]['run_id']}"
    end = time.monotonic() + 120
    while (run := client.get(path).json())["state"] != "done":
        assert time.monotonic() < end, run
        time.sleep(0.1)
    line = client.get(f"{path}/lines", params={"ordered_only": True}).json()["lines"][0]
    outcomes = [client.post(f"/v1/plan-lines/{line['line_id']}/approve", json={"version": 1}) for _ in range(2)]
    assert [outcome.status_code for outcome in outcomes] == [200, 409]
    asked_for = {"series": [{"item_id": line["item_id"]}]}
    answer = client.post("/v1/order-plans", json=asked_for).json()["lines"][0]
    assert answer["on_order_qty"] == line["order_qty"]


def test_a_shop_that_is_sold_out_stays_ready_and_recommends_nothing(client: httpx.Client) -> None:
    stock = [{"item_id": item, "on_hand_qty": 0.0} for item in ITEMS]
    body = {"counted_on": AFTER_ON.isoformat(), "stock": stock}
    assert client.post("/v1/stock", json=body, headers={"idempotency-key": "empty"}).status_code == 200
    end_s = time.monotonic() + 60
    while (answer := client.get("/v1/recommendations?user_id=user-1&k=3").json())["items"]:
        assert time.monotonic() < end_s, answer
        time.sleep(0.2)
    assert client.get("/readyz").status_code == 200


def test_what_is_told_to_be_sold_out_leaves_the_next_recommendations(client: httpx.Client) -> None:
    def shown() -> set[str]:
        # Two replicas answer: each user is one's.
        users = [f"user-{number}" for number in range(8)]
        answers = [client.get("/v1/recommendations", params={"user_id": user, "k": 8}).json() for user in users]
        assert not any(answer["is_fallback"] for answer in answers)
        return {item["item_id"] for answer in answers for item in answer["items"]}

    def count(units: float, items: Sequence[str] = ITEMS[6:7]) -> None:
        stock = [{"item_id": item, "on_hand_qty": units} for item in items]
        body = {"counted_on": str(AFTER_ON), "stock": stock, "is_complete": False}
        told = client.post("/v1/stock", json=body, headers={"idempotency-key": f"shelf-{units}"})
        assert told.status_code == 200, told.text
        # Within a second on a machine that has the time; what is tested is that it comes.
        end_s = time.monotonic() + 60
        while (ITEMS[6] in shown()) != (units > 0) and time.monotonic() < end_s:
            time.sleep(0.2)

    count(7, ITEMS)
    assert ITEMS[6] in shown()
    count(0)
    assert ITEMS[6] not in shown()
    count(5)
    assert ITEMS[6] in shown()


def test_releases_go_live_or_are_refused_without_a_failed_request(home: Home, service: ServiceHandle) -> None:
    """A good version, a broken one and a roll-back, while others ask for plans."""
    outcomes: list[tuple[int, str]] = []
    done = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=service.url, timeout=30) as client:
            while not done.is_set():
                response = client.post("/v1/order-plans", json=PLAN)
                outcomes.append((response.status_code, response.json().get("model_versions", {}).get("forecaster")))

    def release(verb: str, **body: str) -> httpx.Response:
        return httpx.post(f"{service.url}/v1/models/{verb}", json={"name": "forecaster", **body}, timeout=300)

    replicas = replica_pids()
    good, broken = publish_forecaster(home, seed=1), publish_forecaster(home, seed=2)
    home.store.promote("forecaster", "v0001")
    (weights,) = home.store.load("forecaster", broken).folder.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:100])
    with ThreadPoolExecutor(2) as pool, contextlib.ExitStack() as stack:
        stack.callback(done.set)
        asking = [pool.submit(ask) for _ in range(2)]
        time.sleep(1)
        promoted = release("promote", version=good)
        refused = release("promote", version=broken)
        time.sleep(1)
        returned = release("roll-back")
        time.sleep(1)
        done.set()
        for future in asking:
            future.result()
    assert replica_pids() == replicas, "models are swapped in running replicas"
    assert promoted.json()["version"] == good
    assert returned.json()["version"] == "v0001"
    assert_problem(refused, 409)
    assert f"{good} goes on serving" in refused.json()["detail"]
    assert {status for status, _ in outcomes} == {200}
    served = [version for _, version in outcomes]
    assert (served[0], served[-1]) == ("v0001", "v0001")
    assert set(served) == {"v0001", good}


def test_a_new_category_policy_is_served_after_a_refresh(home: Home, service: ServiceHandle) -> None:
    body = {"series": [{"item_id": "item-7"}]}
    assert httpx.post(f"{service.url}/v1/order-plans", json=body).json()["lines"][0]["is_fallback"] is True
    publish_policy(home, f"policy/{slug_of('odds')}", cycle_service_level=0.7)
    service.refresh()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        line = httpx.post(f"{service.url}/v1/order-plans", json=body).json()["lines"][0]
        if not line["is_fallback"]:
            break
        time.sleep(0.2)
    assert line["is_fallback"] is False


def test_a_second_service_on_the_same_ray_is_refused(home: Home, service: ServiceHandle) -> None:
    with pytest.raises(ConflictError, match="already runs on this Ray"):
        start(home.settings)
    assert httpx.get(f"{service.url}/readyz").status_code == 200
