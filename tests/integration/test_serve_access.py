"""``restock serve`` as its operator starts it: tokens are asked for, and its ports answer nobody else."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import psutil
import pytest
from serving_home import Home, make_home

pytestmark = pytest.mark.integration
LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
PLAN = {"series": [{"item_id": "item-0"}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A service in a process of its own, with the Ray that it started."""

    url: str
    said: str
    process: psutil.Process
    home: Home

    def listening(self) -> set[tuple[str, int, str]]:
        """Address, port and process name of every open port."""
        return {
            (connection.laddr.ip, connection.laddr.port, process.name())
            for process in [self.process, *self.process.children(recursive=True)]
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }


def run(home: Home, *verb: str) -> list[str]:
    given = [
        f"--set={key}={value}" for key, value in flat(home.settings.model_dump(mode="json", exclude_defaults=True))
    ]
    return [sys.executable, "-u", "-m", "restock.cli", *verb, *given]


def flat(tree: dict[str, object], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, dict) and key != "tables":
            yield from flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", json.dumps(value)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    ours = ("serve.access=tokens", "serve.token_cache_s=0.5", "runtime.num_cpus=4")
    return make_home(tmp_path_factory.mktemp("shop"), overrides=ours)


@pytest.fixture(scope="module")
def service(home: Home) -> Iterator[Running]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_A")}
    process = subprocess.Popen(
        run(home, "serve"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        said, url = "", None
        while url is None or "RESTOCK_TOKEN" not in said:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            said += line
            url = url or (found.group() if (found := re.search(r"http://127\.0\.0\.1:\d+", line)) else None)
        yield Running(url=url, said=said, process=psutil.Process(process.pid), home=home)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 0
        assert "Traceback" not in process.stderr.read()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def make_token(home: Home, name: str, role: str) -> dict[str, str]:
    made = subprocess.run(
        run(home, "tokens", "create", name, "--role", role), capture_output=True, text=True, check=True
    )
    return {"authorization": f"Bearer {made.stdout.strip()}"}


def test_a_token_opens_what_its_role_may_until_it_is_revoked(service: Running) -> None:
    planner = make_token(service.home, "anna", "planner")
    with httpx.Client(base_url=service.url, timeout=60) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/v1/models").status_code == 401
        assert client.get("/v1/models", headers=planner).status_code == 200
        events = {"user_id": "1", "events": [{"item_id": "item-0"}]}
        assert client.post("/v1/events", json=events, headers=planner | {"idempotency-key": "1"}).status_code == 403
        subprocess.run(run(service.home, "tokens", "revoke", "anna"), capture_output=True, check=True)
        deadline = time.monotonic() + 30
        while client.get("/v1/models", headers=planner).status_code == 200 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert client.get("/v1/models", headers=planner).status_code == 401
    assert "Calls need a token" in service.said


def test_every_process_that_a_request_passes_writes_its_id(service: Running) -> None:
    headers = make_token(service.home, "shop", "service") | {"x-request-id": "through-all-hops"}
    assert httpx.post(f"{service.url}/v1/order-plans", json=PLAN, headers=headers, timeout=60).status_code == 200
    (folder,) = {
        found.group(1)
        for process in service.process.children(recursive=True)
        for word in process.cmdline()
        if (found := re.fullmatch(r"--logs?[-_]dir=(.*)", word))
    }
    wanted = {"ingress", "planner", "forecaster", "policy"}
    seen: set[str] = set()
    deadline = time.monotonic() + 30
    while seen != wanted and time.monotonic() < deadline:
        for path in Path(folder).glob("worker-*.out"):
            lines = [json.loads(line) for line in path.read_text().splitlines() if "through-all-hops" in line]
            seen |= {"ingress" if line["log"] == "access" else line["deployment"] for line in lines}
        time.sleep(0.2)
    assert seen == wanted
    assert headers["authorization"][20:60] not in "".join(
        path.read_text() for path in Path(folder).glob("worker-*.out")
    )


def test_beyond_loopback_only_replicas_listen_and_they_ask_for_rays_token(service: Running) -> None:
    """Serve binds each replica's port to every address; what is sent there is unpickled (docs/security.md)."""
    exposed = {(port, name) for address, port, name in service.listening() if address not in LOOPBACK}
    assert exposed
    assert {name.partition(":restock")[0] for _, name in exposed} == {"ray::ServeReplica"}
    for port, _ in exposed:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary("/ray.serve.ASGIService/HandleRequest")
            with pytest.raises(grpc.RpcError) as refusal:
                call(b"", timeout=30)
        assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED
