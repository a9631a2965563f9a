"""What clients of the service notice while parts of it die and models change.

The service runs with two replicas of each deployment under steady load from a few clients that ask for recommendations,
forecasts and plans, and tell events. One replica of each deployment, each process of the proxy and the controller are
killed with SIGKILL; a model is swapped, a broken one is refused, the swap is rolled back; with ``--database
postgresql`` its server
is ended as by a crash and started again. A request fails if it is answered by a 5xx or not at all;
``failed_after_retries`` counts those that two more tries, half a second and a second later, did not save. At the end
every event that was answered for is told again under its key: one that the service does not know was lost.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.frame import make_parser, make_target, report
from benchmarks.postgres import PostgresServer, running_postgres
from benchmarks.serving import System, running_service
from benchmarks.serving_shop import open_shop, overrides_of
from cluster.artifacts import open_store
from cluster.config import Settings

Row = dict[str, Any]

_NUM_ITEMS, _NUM_CLIENTS, _PAUSE_S = 500, 3, 0.05
_RETRY_AFTER_S = (0.5, 1.0)
_PROXY_BACK_S = 60.0
_DATABASE_AWAY_S = 3.0
_KINDS = ("recommendations", "forecasts", "order-plans", "events")
_REPLICAS = ("forecaster", "recommender", "policy", "planner", "ingress")
_TITLES = {name: f"ServeReplica:restock:{name}" for name in _REPLICAS} | {
    "proxy": "ProxyActor",
    "controller": "ServeController",
    "HAProxy's manager": "HAProxyManager",
}
_OF_PROXY = {"python": ("proxy",), "haproxy": ("proxy", "HAProxy's manager", "HAProxy")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One request: when it was sent, how long until it was answered, and whether it failed at first and at last."""

    at_s: float
    took_s: float
    is_write: bool
    failed: bool
    failed_after_retries: bool


def main() -> None:
    """Start the service and its clients; then one drill after another."""
    arguments = _parse()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        server = stack.enter_context(running_postgres()) if arguments.database == "postgresql" else None
        shop = arguments.shop or Path(folder) / "shop"
        settings = open_shop(shop, num_items=_NUM_ITEMS, seed=arguments.seed)
        good, broken = _candidates(settings)
        sets = [*overrides_of(shop, seed=arguments.seed), f"serve.proxy={arguments.proxy}", "serve.num_replicas=2"]
        sets += [
            "serve.num_cpus_per_replica=0.05",
            "serve.request_timeout_s=300",
            "serve.patience_s=30",
            "serve.follow_s=0",
        ]
        if server:
            sets.append(f"serve.database_url={server.new_schema()}")
        with running_service(sets) as system, Clients(system) as clients:
            time.sleep(arguments.calm_s)
            rows = [clients.watch("nothing", lambda: "", calm_s=arguments.calm_s)]
            for name in arguments.kill or (*_REPLICAS, *_OF_PROXY[arguments.proxy], "controller"):
                rows.append(
                    clients.watch(f"kill -9 {name}", lambda name=name: _kill(system, name), calm_s=arguments.calm_s)
                )
            for what, verb, version in (
                ("swap a model", "promote", good),
                ("deploy a broken model", "promote", broken),
                ("roll back", "roll-back", None),
            ):
                body = {"name": "forecaster"} | ({"version": version} if version else {})
                rows.append(
                    clients.watch(
                        what, lambda verb=verb, body=body: _release(system, verb, body), calm_s=arguments.calm_s
                    )
                )
            rows.append(_restart_row(clients, server, calm_s=arguments.calm_s))
            clients.rest()
            rows.append({"event": "told again at the end", **clients.tell_again()})
    facts = {"proxy": arguments.proxy, "database": arguments.database, "clients": _NUM_CLIENTS, "replicas": 2}
    report("drill", rows, targets=_targets(rows), arguments=arguments, facts=facts)


def _parse() -> argparse.Namespace:
    parser = make_parser(__doc__ or "")
    parser.add_argument("--calm-s", type=float, default=20.0, help="seconds of load after each event")
    parser.add_argument("--shop", type=Path, help="folder of the shop; made if missing")
    parser.add_argument("--proxy", choices=["python", "haproxy"], default="python")
    parser.add_argument("--kill", nargs="+", choices=[*_TITLES, "HAProxy"], help="what to kill, in this order")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.calm_s = 3.0
    return arguments


def _restart_row(clients: "Clients", server: PostgresServer | None, *, calm_s: float) -> Row:
    if server is None:
        return {"event": "restart the database", "skipped": "SQLite has no server; --database postgresql has one"}

    def restart() -> str:
        server.stop()
        time.sleep(_DATABASE_AWAY_S)
        server.start()
        return f"away for {_DATABASE_AWAY_S:g} s and its start"

    return clients.watch("restart the database", restart, calm_s=calm_s)


def _candidates(settings: Settings) -> tuple[str, str]:
    """A copy of the forecaster that is as good, and one whose weights are cut off; nothing points to them."""
    store = open_store(settings)
    champion = store.load("forecaster")
    versions = []
    for keep in (None, 100):
        with store.writing("forecaster") as draft:
            shutil.copytree(champion.folder, draft, dirs_exist_ok=True)
            for weights in draft.glob("*.safetensors"):
                weights.write_bytes(weights.read_bytes()[:keep])
            versions.append(store.publish(draft, champion.manifest).version)
    return versions[0], versions[1]


def _kill(system: System, name: str) -> str:
    for child in system.process.children(recursive=True):
        try:
            if _is_called(name, child.cmdline()):
                child.send_signal(signal.SIGKILL)
                return f"process {child.pid}"
        except psutil.Error:
            continue
    raise RuntimeError(f"no process of {name}")


def _is_called(name: str, command: list[str]) -> bool:
    if name == "HAProxy":
        return bool(command) and Path(command[0]).name == "haproxy"
    return _TITLES[name] in "".join(command)


def _release(system: System, verb: str, body: dict[str, str]) -> str:
    _wait_for_proxy(system)
    response = httpx.post(f"{system.url}/v1/models/{verb}", json=body, headers=system.headers, timeout=300)
    return f"{response.status_code} {response.json().get('version') or response.json().get('detail', '')[:80]}"


def _wait_for_proxy(system: System) -> None:
    # An operator, too, comes back when the proxy does.
    deadline = time.monotonic() + _PROXY_BACK_S
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{system.url}/healthz", timeout=5)
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return


class Clients:
    """Ask over and over from a few threads while entered."""

    def __init__(self, system: System) -> None:
        self._client = httpx.Client(base_url=system.url, headers=system.headers, timeout=60)
        self._done = threading.Event()
        self._sent: list[Sent] = []
        self._told: set[int] = set()
        self._pool = ThreadPoolExecutor(_NUM_CLIENTS)

    def __enter__(self) -> "Clients":
        self._running = [self._pool.submit(self._ask_on, number) for number in range(_NUM_CLIENTS)]
        return self

    def __exit__(self, *_: object) -> None:
        self.rest()
        self._pool.shutdown()
        self._client.close()

    def rest(self) -> None:
        """Ask no more."""
        self._done.set()
        for running in self._running:
            running.result()

    def tell_again(self) -> Row:
        """Tell every event that was answered for once more: the service knows it, or has lost it."""
        answers = [self._tell(number).json() for number in sorted(self._told)]
        lost = sum(not answer.get("is_repeat") for answer in answers)
        return {"sent": len(answers), "failed": lost, "failed_after_retries": lost}

    def watch(self, what: str, act: Callable[[], str], *, calm_s: float) -> Row:
        """Do something, go on asking for a while, and say what became of the requests meanwhile."""
        first, began_s = len(self._sent), time.monotonic()
        outcome = act()
        acted_s = time.monotonic() - began_s
        time.sleep(calm_s)
        sent = self._sent[first:]
        failed = [request.at_s for request in sent if request.failed]
        took_s = sorted(request.took_s for request in sent)
        print(f"{what}: {len(sent)} sent, {len(failed)} failed", file=sys.stderr, flush=True)
        return {
            "event": what,
            "outcome": outcome,
            "sent": len(sent),
            "failed": len(failed),
            "failed_writes": sum(request.failed and request.is_write for request in sent),
            "failed_after_retries": sum(request.failed_after_retries for request in sent),
            "seconds_of_effect": round(max(failed) - min(failed), 2) if failed else 0.0,
            "acted_s": round(acted_s, 2),
            "median_ms": round(1e3 * took_s[len(took_s) // 2], 1) if took_s else None,
            "longest_ms": round(1e3 * took_s[-1], 1) if took_s else None,
        }

    def _ask_on(self, number: int) -> None:
        while not self._done.is_set():
            at_s = time.monotonic()
            failed = lost = self._fails(number)
            for pause_s in _RETRY_AFTER_S:
                if lost:
                    time.sleep(pause_s)
                    lost = self._fails(number)
            took_s = time.monotonic() - at_s
            self._sent.append(
                Sent(
                    at_s=at_s,
                    took_s=took_s,
                    is_write=_is_write(number),
                    failed=failed,
                    failed_after_retries=lost,
                )
            )
            number += _NUM_CLIENTS
            time.sleep(_PAUSE_S)

    def _fails(self, number: int) -> bool:
        try:
            status = self._ask(number).status_code
        except httpx.HTTPError:
            return True
        if _is_write(number) and status < 300:
            self._told.add(number)
        return status >= 500

    def _ask(self, number: int) -> httpx.Response:
        if _is_write(number):
            return self._tell(number)
        kind = _kind_of(number)
        if kind == "recommendations":
            return self._client.get(f"/v1/recommendations?user_id=user-{number}&k=10")
        items = [{"item_id": f"item-{(number + place) % _NUM_ITEMS:05d}"} for place in range(5)]
        return self._client.post(f"/v1/{kind}", json={"series": items})

    def _tell(self, number: int) -> httpx.Response:
        event = {"item_id": f"item-{number % _NUM_ITEMS:05d}", "event_type": "view"}
        body = {"user_id": f"user-{number}", "events": [event]}
        return self._client.post("/v1/events", json=body, headers={"idempotency-key": f"drill-{number}"})


def _kind_of(number: int) -> str:
    # Each client goes through all kinds: it counts in steps of the number of clients.
    return _KINDS[number // _NUM_CLIENTS % len(_KINDS)]


def _is_write(number: int) -> bool:
    return _kind_of(number) == "events"


def _targets(rows: list[Row]) -> list[Row]:
    watched = [f"kill -9 {name}" for name in _REPLICAS] + ["swap a model", "deploy a broken model", "roll back"]
    return [
        make_target(f"{row['event']}: failed requests", value=row["failed"], target=0, at_least=False)
        for row in rows
        if row["event"] in (*watched, "told again at the end")
    ]


if __name__ == "__main__":
    main()
