"""Requests per second and latency of the service, beside the same models behind bare FastAPI and uvicorn.

Each system is started with production settings (HAProxy, throughput flags) and asked over loopback by wrk. Machines are
shared and noisy: systems take turns, round by round, and a figure is the median of its rounds. ``cpu_ms`` is the CPU
time of all processes of a system per request, which says what a request costs whoever else is running.
"""

import argparse
import json
import os
import re
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.frame import make_parser, make_target, report
from benchmarks.serving_shop import open_shop, overrides_of
from cluster.config import load_settings
from serve.access.roles import Role
from serve.access.tokens import TokenBook
from serve.store.database import open_database

Row = dict[str, Any]

_START_S = 900
_ROUTES = ("recommendations", "forecasts", "order-plans")
# Connections at which order plans of the composed layout are judged: each is a batch of 100 series.
_CONNECTIONS = {"recommendations": (1, 32), "forecasts": (1, 32), "order-plans": (1, 8, 32)}


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A running system: where it listens, what its callers send, and its first process."""

    url: str
    headers: dict[str, str]
    process: psutil.Process


def main() -> None:
    """Start all systems, ask them in turns, report."""
    arguments = _parse()
    if shutil.which("wrk") is None:
        skipped = [{"system": "all", "skipped": "wrk is not installed; apt-get install wrk"}]
        report("serving", skipped, targets=[], arguments=arguments)
        return
    folder = arguments.shop or Path(tempfile.gettempdir()) / f"restock-bench-shop-{arguments.items}"
    open_shop(folder, num_items=arguments.items, seed=arguments.seed)
    samples: dict[tuple[str, str, int], list[Row]] = {}
    for turn in range(arguments.turns):
        for name in arguments.systems:
            # One at a time: systems that wait would still take memory, and Ray's processes never quite sleep.
            with _running(name, folder, arguments=arguments) as system:
                _ask_all(name, system, samples, arguments=arguments)
        print(f"turn {turn + 1} of {arguments.turns} done", file=sys.stderr, flush=True)
    rows = [_median(key, found) for key, found in samples.items()]
    report("serving", rows, targets=_targets(rows), arguments=arguments, facts=_facts(arguments))


def _parse() -> argparse.Namespace:
    parser = make_parser(__doc__ or "")
    parser.add_argument("--items", type=int, default=10_000, help="items of the shop, and series")
    parser.add_argument("--shop", type=Path, help="folder of the shop; made if missing")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--turns", type=int, default=3, help="rounds through all systems")
    parser.add_argument(
        "--systems", nargs="+", choices=["bare", "fused", "composed"], default=["bare", "fused", "composed"]
    )
    parser.add_argument("--proxy", choices=["haproxy", "python"], default="haproxy")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.items, arguments.seconds, arguments.turns = 500, 1.0, 1
    return arguments


def _ask_all(
    name: str, system: System, samples: dict[tuple[str, str, int], list[Row]], *, arguments: argparse.Namespace
) -> None:
    with tempfile.TemporaryDirectory() as scripts:
        for route in _ROUTES:
            script = _write_script(Path(scripts), route, num_items=arguments.items)
            _wrk(system, script, connections=4, seconds=1.0)  # warm: first calls import and allocate
            for connections in _CONNECTIONS[route]:
                began_s = _cpu_s(system.process)
                found = _wrk(system, script, connections=connections, seconds=arguments.seconds)
                spent_ms = 1e3 * (_cpu_s(system.process) - began_s)
                found["cpu_ms"] = spent_ms / max(found["requests"], 1)
                samples.setdefault((name, route, connections), []).append(found)


def _median(key: tuple[str, str, int], found: Sequence[Row]) -> Row:
    system, route, connections = key
    middle = {
        name: statistics.median(row[name] for row in found) for name in ("per_second", "p50_ms", "p99_ms", "cpu_ms")
    }
    counts = {name: sum(row[name] for row in found) for name in ("requests", "errors")}
    rounded = {name: round(value, 3) for name, value in middle.items()}
    return {"system": system, "route": route, "connections": connections, **rounded, **counts}


def _targets(rows: Sequence[Row]) -> list[Row]:
    at = {(row["system"], row["route"], row["connections"]): row for row in rows}
    targets = []

    def ratio(
        what: str, system: str, route: str, connections: int, *, name: str, target: float, at_least: bool
    ) -> None:
        ours, bare = at.get((system, route, connections)), at.get(("bare", route, connections))
        # Without an answered request of both there is nothing to compare.
        if ours is not None and bare is not None and ours["requests"] and bare["requests"]:
            value = round(ours[name] / bare[name], 3)
            targets.append(make_target(what, value=value, target=target, at_least=at_least))

    for route in _ROUTES:
        what = f"fused {route}: throughput over bare, 32 connections"
        ratio(what, "fused", route, 32, name="per_second", target=0.65, at_least=True)
        what = f"fused {route}: p99 over bare, 1 connection"
        ratio(what, "fused", route, 1, name="p99_ms", target=3.0, at_least=False)
    for route in _ROUTES[:2]:
        what = f"composed {route}: throughput over bare, 32 connections"
        ratio(what, "composed", route, 32, name="per_second", target=0.36, at_least=True)
    what = "composed order-plans: throughput over bare, 8 connections"
    ratio(what, "composed", "order-plans", 8, name="per_second", target=1.0, at_least=True)
    return targets


def _facts(arguments: argparse.Namespace) -> Row:
    return {
        "proxy": arguments.proxy,
        "payloads": {
            "recommendations": "1 user, k = 20",
            "forecasts": "50 series x 28 days",
            "order-plans": "100 series",
        },
        "items": arguments.items,
        "turns": arguments.turns,
        "notes": [f"load of the machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"],
    }


@contextmanager
def _running(name: str, folder: Path, *, arguments: argparse.Namespace) -> Iterator[System]:
    if name == "bare":
        shop = ["--shop", str(folder), "--items", str(arguments.items)]
        with _started(["benchmarks.serving_bare", *shop], headers={}) as system:
            yield system
        return
    sets = [*overrides_of(folder, seed=arguments.seed), f"serve.layout={name}", f"serve.proxy={arguments.proxy}"]
    with running_service([*sets, "serve.num_cpus_per_replica=0.1"]) as system:
        yield system


@contextmanager
def running_service(sets: Sequence[str]) -> Iterator[System]:
    """``restock serve`` under the given settings, until the end of the block; its callers have a token."""
    sets = [*sets, "serve.access=tokens", "serve.rate_per_s=0"]
    book = TokenBook(open_database(load_settings(overrides=sets)))
    token = book.create(
        f"benchmark-{secrets.token_hex(4)}", role=Role.OPERATOR, lasts=timedelta(days=1), actor="benchmark"
    )
    command = ["restock.cli", "serve", *(part for text in sets for part in ("--set", text))]
    with _started(command, headers={"authorization": f"Bearer {token}"}) as system:
        yield system


@contextmanager
def _started(command: Sequence[str], *, headers: dict[str, str]) -> Iterator[System]:
    port = _free_port()
    with ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())
        process = subprocess.Popen([sys.executable, "-m", *command, "--port", str(port)], stdout=log, stderr=log)
        stack.callback(_end, process)
        url = f"http://127.0.0.1:{port}"
        system = System(url=url, headers=headers, process=psutil.Process(process.pid))
        if not _answers(system, process=process):
            log.seek(0)
            said = log.read().decode(errors="replace")[-1_000:]
            raise RuntimeError(f"{url} does not answer (exit code {process.poll()}): {said}")
        yield system


def _answers(system: System, *, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the system answers; False if it ends or takes too long."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            asked = httpx.get(f"{system.url}/v1/recommendations?user_id=user-1&k=1", headers=system.headers, timeout=10)
            if asked.status_code == 200:
                return True
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(90)
    except subprocess.TimeoutExpired:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()


def _cpu_s(process: psutil.Process) -> float:
    total = 0.0
    for each in [process, *process.children(recursive=True)]:
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


_SCRIPT = """
local number = 0
request = function()
  number = number + 1
  {request}
end
done = function(summary, latency, requests)
  local e = summary.errors
  print(string.format("FOUND %d %d %d %f %f", summary.requests,
    e.connect + e.read + e.write + e.status + e.timeout, summary.duration,
    latency:percentile(50), latency:percentile(99)))
end
"""


def _write_script(folder: Path, route: str, *, num_items: int) -> Path:
    if route == "recommendations":
        line = 'return wrk.format("GET", "/v1/recommendations?k=20&user_id=user-" .. (number % 3000))'
    else:
        size = 50 if route == "forecasts" else 100
        bodies = [_body(first, size=min(size, num_items), num_items=num_items) for first in range(0, 20 * size, size)]
        header = 'wrk.headers["content-type"] = "application/json"\nlocal bodies = {}\n'
        header += "".join(f"bodies[{place}] = [==[{body}]==]\n" for place, body in enumerate(bodies))
        line = f'return wrk.format("POST", "/v1/{route}", nil, bodies[number % {len(bodies)}])'
        (folder / f"{route}.lua").write_text(header + _SCRIPT.replace("{request}", line))
        return folder / f"{route}.lua"
    (folder / f"{route}.lua").write_text(_SCRIPT.replace("{request}", line))
    return folder / f"{route}.lua"


def _body(first: int, *, size: int, num_items: int) -> str:
    items = [(first + place) % num_items for place in range(size)]
    return json.dumps({"series": [{"item_id": f"item-{item:05d}"} for item in items]})


def _wrk(system: System, script: Path, *, connections: int, seconds: float) -> Row:
    asked = [part for name, value in system.headers.items() for part in ("-H", f"{name}: {value}")]
    given = ["-t1", f"-c{connections}", f"-d{max(round(seconds), 1)}s", "--timeout", "30s", *asked]
    command = ["wrk", *given, "-s", str(script), system.url]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"FOUND (\d+) (\d+) (\d+) ([\d.]+) ([\d.]+)", printed)
    if found is None:
        raise RuntimeError(f"wrk printed no figures: {printed[-300:]}")
    requests, errors, duration_us = (int(found[place]) for place in (1, 2, 3))
    return {
        "requests": requests,
        "errors": errors,
        "per_second": requests / (duration_us / 1e6),
        "p50_ms": float(found[4]) / 1e3,
        "p99_ms": float(found[5]) / 1e3,
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
