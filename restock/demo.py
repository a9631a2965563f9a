"""``restock demo``: the main job on the public sample, then the service, called for real."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from rich.console import Console
from rich.table import Table

from cluster.config import Settings
from cluster.runtime import connect
from restock.pipeline import MainJob, run_main_job
from serve.access.roles import Role
from serve.access.tokens import TokenBook
from serve.app import start
from serve.cli import describe_access, example_calls, wait_for_signal
from serve.store.database import open_database

_TIMEOUT_S = 60.0
_TOKEN_LASTS = timedelta(minutes=5)
# A household of the sample; where the shop has no such customer, the answer is that for a stranger.
_SAMPLE_USER = "1"


def run_demo(settings: Settings, *, with_service: bool, stay_up: bool) -> dict[str, Any]:
    """Run the main job, show it, serve it, call it; return the summary.

    Parameters
    ----------
    with_service
        Start the service and call it.
    stay_up
        Keep it up until Ctrl-C.
    """
    console = Console(stderr=True, highlight=False)
    with connect(settings.runtime):
        job = run_main_job(settings)
        _show(job, console)
        if not with_service:
            return job.summary
        if job.recommender is None:
            console.print("The service is not started: it needs a recommender, and the orders name no user.")
            return job.summary
        return job.summary | {"calls": _serve(settings, job, console=console, stay_up=stay_up)}


def _serve(settings: Settings, job: MainJob, *, console: Console, stay_up: bool) -> list[dict[str, Any]]:
    with console.status("Starting the service"):
        service = start(settings)
    with service:
        calls = call_service(service.url, job, headers=call_headers(settings))
        for call in calls:
            console.print(f"\n{call['request']}", style="bold", markup=False, soft_wrap=True)
            console.print_json(json.dumps(call["answer"]), indent=None)
        console.print("\nTo repeat them:\n")
        console.print("\n\n".join(example_calls(service.url, settings=settings)), markup=False, soft_wrap=True)
        if stay_up:
            console.print(f"\nServing at {service.url}, documentation at {service.url}/docs. Ctrl-C ends it.")
            console.print(describe_access(settings), markup=False, soft_wrap=True)
            wait_for_signal()
            console.print("Stopping")
    return calls


def call_headers(settings: Settings) -> dict[str, str]:
    """What a call must carry: where the service asks for tokens, one of our own that soon expires."""
    headers = {"content-type": "application/json"}
    if settings.serve.access == "development":
        return headers
    book = TokenBook(open_database(settings))
    name = f"demo-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
    token = book.create(name, role=Role.SERVICE, lasts=_TOKEN_LASTS, actor="restock demo")
    return headers | {"authorization": f"Bearer {token}"}


def call_service(url: str, job: MainJob, *, headers: dict[str, str]) -> list[dict[str, Any]]:
    """One real answer of each route, shortened for reading."""
    plan = job.plan.table.sort_by([("order_value", "descending")]).slice(0, 2)
    lines = plan.select(["item_id", "location_id"]).to_pylist()
    stock = plan.select(["item_id", "location_id", "on_hand_qty"]).to_pylist()
    query = urlencode({"user_id": _SAMPLE_USER, "k": 3})
    return [
        _call(f"{url}/v1/recommendations?{query}", headers=headers),
        _call(
            f"{url}/v1/forecasts",
            headers=headers,
            body={"series": lines[:1], "horizon": 7, "levels": [0.1, 0.5, 0.9]},
        ),
        _call(
            f"{url}/v1/order-plans",
            headers=headers,
            body={"series": lines, "stock": stock},
            shorten=_without_ledger,
        ),
    ]


def _call(
    address: str,
    *,
    headers: dict[str, str],
    body: dict[str, Any] | None = None,
    shorten: Callable[[Any], Any] = lambda answer: answer,
) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = Request(address, data=data, headers=headers)
    with urlopen(request, timeout=_TIMEOUT_S) as response:
        answer = json.load(response)
    method = "GET" if body is None else "POST"
    shown = f"{method} {address}" + ("" if body is None else f" {json.dumps(body)}")
    return {"request": shown, "answer": shorten(answer)}


def _without_ledger(answer: dict[str, Any]) -> dict[str, Any]:
    lines = [{key: value for key, value in line.items() if key != "ledger"} for line in answer["lines"]]
    return answer | {"lines": lines}


def _show(job: MainJob, console: Console) -> None:
    console.print(_cost_table(job.summary))
    console.print(_model_table(job.summary))
    plan = job.summary["plan"]
    console.print(
        f"Plan for {plan['on_date']}: {plan['lines_to_order']:,} of {plan['lines']:,} series are ordered, "
        f"{plan['units']:,.0f} units for {plan['value']:,.0f}"
    )
    console.print(f"Report: {job.folder / 'report.html'}\nPlan:   {job.folder / 'plan.csv'}", markup=False)


def _cost_table(summary: dict[str, Any]) -> Table:
    table = Table(
        "category",
        "best textbook rule",
        "DQN",
        "PPO",
        "direct",
        "perfect foresight",
        "serves",
        title="Replay on held-out periods: cost, and % against the best textbook rule with its interval",
    )
    for category, policy in summary["policies"].items():
        if {"dqn", "ppo", "direct"} & set(policy["costs"]):
            base = policy["costs"][policy["best_textbook"]]
            table.add_row(
                category,
                f"{policy['best_textbook']} {base:,.0f}",
                _against(policy, "dqn"),
                _against(policy, "ppo"),
                _against(policy, "direct"),
                f"{policy['costs']['perfect_foresight']:,.0f}",
                policy["promoted"],
            )
    return table


def _against(policy: dict[str, Any], name: str) -> str:
    if name not in policy["against_textbook"]:
        return "-"
    estimate, low, high = (100 * value for value in policy["against_textbook"][name])
    return f"{estimate:+.1f} ({low:+.1f}..{high:+.1f})"


def _model_table(summary: dict[str, Any]) -> Table:
    table = Table("model", "figure", title="Held-out quality")
    for row in summary["forecast"]:
        table.add_row(f"forecast: {row['model']}", f"WQL {row['wql']:.3f} on {row['num_series']} series")
    for row in summary["recommender"]:
        table.add_row(
            f"recommend: {row['model']}", f"Recall@10 {row['recall_at_10']:.4f}, NDCG@10 {row['ndcg_at_10']:.4f}"
        )
    return table
