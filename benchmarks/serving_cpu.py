"""CPU time of a request in one process: our application around the models, beside bare FastAPI around the same ones.

No server, no proxy, no hop: both applications are called as ASGI. What is left is what routes, guard, log, metrics and
the thread of each model cost, whoever else uses the machine. ``serving`` measures the rest.

Recommendations are also asked for 32 at a time: with our batches (``serve.batch_users``), with Serve's, and without.
"""

import argparse
import asyncio
import json
import logging
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Scope

from benchmarks.frame import make_parser, make_target, report
from benchmarks.serving_bare import make_app
from benchmarks.serving_batch import RecommendsByServe
from benchmarks.serving_shop import open_shop
from cluster.config import Settings
from serve.handles import LocalHandle
from serve.ingress import make_api
from serve.layout import LocalReplicas
from serve.releases import serving_versions

Row = dict[str, Any]
Call = tuple[str, str, str, bytes, int, int]

_TARGET = 0.65
_IN_FLIGHT = 32
_WAITS_S = (0.0, 0.002, 0.01)
_CALLS = (
    ("recommendations", "GET", "/v1/recommendations", b"user_id=user-5&k=20", 0, 192),
    ("forecasts", "POST", "/v1/forecasts", b"", 50, 15),
    ("order-plans", "POST", "/v1/order-plans", b"", 100, 10),
)


def main() -> None:
    """Call each route of both applications."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--items", type=int, default=10_000, help="items of the shop, and series")
    parser.add_argument("--shop", type=Path, help="folder of the shop; made if missing")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.items = 500
    rows = _measure(arguments)
    num_together = 3 + len(_WAITS_S)
    alone, together = rows[:-num_together], rows[-num_together:]
    targets = [
        make_target(
            f"{bare['route']}: CPU time of bare over ours",
            value=round(bare["cpu_ms"] / ours["cpu_ms"], 3),
            target=_TARGET,
            at_least=True,
        )
        for bare, ours in zip(alone[::2], alone[1::2], strict=True)
    ]
    bare_ms, batched_ms, single_ms, *by_serve_ms = (row["cpu_ms"] for row in together)
    targets += [
        make_target(
            f"recommendations, {_IN_FLIGHT} at a time: CPU time of {name} over ours",
            value=round(other_ms / batched_ms, 3),
            target=target,
            at_least=True,
        )
        for name, other_ms, target in (
            ("bare", bare_ms, _TARGET),
            ("ours without batches", single_ms, 1.0),
            ("serve.batch at its best", min(by_serve_ms), 1.0),
        )
    ]
    report("serving_cpu", rows, targets=targets, arguments=arguments, facts={"items": arguments.items})


def _measure(arguments: argparse.Namespace) -> list[Row]:
    folder = arguments.shop or Path(tempfile.gettempdir()) / f"restock-bench-shop-{arguments.items}"
    settings = open_shop(folder, num_items=arguments.items, seed=arguments.seed)
    serving = settings.serve.model_copy(update={"access": "development", "rate_per_s": 0.0, "stored_series": 0})
    settings = settings.model_copy(update={"serve": serving})
    logging.getLogger("restock").addHandler(logging.NullHandler())
    apps: dict[str, ASGIApp] = {"bare": make_app(settings), "ours": _ours(settings)}
    alone = [_row(name, app, call, at_a_time=1) for call in _CALLS for name, app in apps.items()]
    one_by_one = settings.model_copy(update={"serve": serving.model_copy(update={"batch_users": 1})})
    apps |= {"ours without batches": _ours(one_by_one)}
    apps |= {f"ours with serve.batch, {1e3 * wait_s:g} ms": _ours(settings, wait_s=wait_s) for wait_s in _WAITS_S}
    return [*alone, *(_row(name, app, _CALLS[0], at_a_time=_IN_FLIGHT) for name, app in apps.items())]


def _ours(settings: Settings, *, wait_s: float | None = None) -> ASGIApp:
    """Our application; with Serve's batches instead of ours if it is said how long these wait."""
    replicas = LocalReplicas(settings)
    if wait_s is not None:
        recommender = replicas.replicas["recommender"] = RecommendsByServe(settings, wait_s=wait_s)
        replicas.services = replace(replicas.services, recommender=LocalHandle(recommender))
    asyncio.run(replicas.reconfigure(serving_versions(settings)))
    return make_api(replicas.services, settings=settings)


def _row(name: str, app: ASGIApp, call: Call, *, at_a_time: int) -> Row:
    spent_ms = round(asyncio.run(_cpu_ms(app, call, at_a_time=at_a_time)), 2)
    return {"system": name, "route": call[0], "at_a_time": at_a_time, "cpu_ms": spent_ms, "requests": call[-1]}


async def _cpu_ms(app: ASGIApp, call: Call, *, at_a_time: int) -> float:
    _, method, path, query, num_series, times = call
    series = [{"item_id": f"item-{item:05d}"} for item in range(num_series)]
    body = json.dumps({"series": series}).encode() if series else b""
    scope = {"type": "http", "http_version": "1.1", "method": method, "path": path, "query_string": query}
    scope |= {"headers": [(b"content-type", b"application/json")], "client": ("127.0.0.1", 1), "scheme": "http"}
    await _call(app, scope, body)  # first calls import and allocate
    began_s = time.process_time()
    left = iter(range(times))

    async def client() -> None:
        for _ in left:
            await _call(app, scope, body)

    await asyncio.gather(*(client() for _ in range(at_a_time)))
    return 1e3 * (time.process_time() - began_s) / times


async def _call(app: ASGIApp, scope: Scope, body: bytes) -> None:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    statuses = []

    async def receive() -> Message:
        return waiting.pop() if waiting else await asyncio.Future()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(dict(scope), receive, send)
    assert statuses == [200], statuses


if __name__ == "__main__":
    main()
