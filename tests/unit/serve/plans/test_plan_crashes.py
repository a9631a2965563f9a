"""A day of planning, killed (``kill -9``) between any two of its steps and begun again: as if nothing had happened."""

import itertools
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import crashing_shop
import pytest
from crashing_shop import COUNTED_QTY, SHOP, SOLD_QTY
from sqlalchemy import func, select

from benchmarks.postgres import PostgresServer, memory_folder
from cluster.config import load_settings
from serve.plans.approvals import order_id_of
from serve.store.database import open_database
from serve.store.tables import (
    AuditRow,
    Batch,
    Export,
    LedgerRow,
    LineState,
    LiveEventRow,
    Movement,
    OpenOrder,
    OrderState,
    PlanLine,
    PlanRun,
    Stock,
)

Crash = Callable[..., bool]


@pytest.fixture(scope="module")
def crash() -> Iterator[Crash]:
    """Lives a day until it is killed; whether it was."""
    command = [sys.executable, crashing_shop.__file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shop:

        def live(url: str, kill_at: int | None, *, only_commits: bool = False) -> bool:
            assert shop.stdin is not None
            assert shop.stdout is not None
            shop.stdin.write(json.dumps({"url": url, "kill_at": kill_at, "only_commits": only_commits}) + "\n")
            shop.stdin.flush()
            code = int(shop.stdout.readline())
            assert code in (0, -signal.SIGKILL)
            return code != 0

        yield live
        assert shop.stdin is not None
        shop.stdin.close()


def assert_one_day_was_lived(url: str) -> None:
    database = open_database(load_settings(overrides=[f'serve.database_url="{url}"']))
    with database.reading() as session:
        lines = session.scalars(select(PlanLine).order_by(PlanLine.position)).all()
        assert [(line.item_id, line.location_id) for line in lines] == SHOP.keys
        ordered = [line for line in lines if line.order_qty]
        assert ordered
        assert {line.state for line in ordered} == {LineState.EXPORTED}
        orders = session.scalars(select(OpenOrder)).all()
        came = {order.open_order_id: (order.state, order.received_qty, order.open_qty) for order in orders}
        assert came == {order_id_of(line.line_id): (OrderState.RECEIVED, line.order_qty, 0.0) for line in ordered}
        total = func.sum(LedgerRow.change_qty)
        sums = dict(session.execute(select(LedgerRow.line_id, total).group_by(LedgerRow.line_id)).all())
        assert sums == {line.line_id: line.order_qty for line in lines}
        on_hand = {(row.item_id, row.location_id): row.on_hand_qty for row in session.scalars(select(Stock))}
        left = COUNTED_QTY - SOLD_QTY
        assert on_hand == {(line.item_id, line.location_id): left + line.order_qty for line in lines}
        moves, events = len(lines) + len(ordered), 2 * len(lines)  # seen, and bought
        assert_counts(session, {PlanRun: 1, Export: 1, Batch: 4, Movement: moves, LiveEventRow: events})
        assert_audit(session, lines)
    database.close()


def assert_counts(session: Any, expected: dict[type[Any], int]) -> None:
    for table, number in expected.items():
        assert session.scalar(select(func.count()).select_from(table)) == number, table


def assert_audit(session: Any, lines: Any) -> None:
    """Every change has its row, and every row its change."""
    counts = select(AuditRow.subject, AuditRow.action, func.count()).group_by(AuditRow.subject, AuditRow.action)
    told = {(subject, action): number for subject, action, number in session.execute(counts)}
    starts = told.pop(("run", "start"))
    assert starts == session.scalars(select(PlanRun)).one().attempts
    assert told == {
        ("stock", "count"): 1,
        ("stock", "sale"): len(lines),
        ("day", "take"): 4,
        ("open_order", "receive"): sum(line.order_qty > 0 for line in lines),
        ("stock", "receipt"): sum(line.order_qty > 0 for line in lines),
        ("run", "ask"): 1,
        ("run", "finish"): 1,
        ("line", "approve"): len(lines),
        ("line", "export"): sum(line.order_qty > 0 for line in lines),
    }


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Makes empty databases."""
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        yield server.new_schema
        return
    names = itertools.count()
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        yield lambda: f"sqlite:///{folder}/{next(names)}.db"


def test_a_day_without_a_crash(crash: Crash, database_url: str) -> None:
    assert not crash(database_url, None)
    assert_one_day_was_lived(database_url)


def test_killed_around_every_commit_and_begun_again(crash: Crash, new_url: Callable[[], str]) -> None:
    moment = 1
    while True:
        url = new_url()
        was_killed = crash(url, moment, only_commits=True)
        if was_killed:
            assert not crash(url, None)
        assert_one_day_was_lived(url)
        if not was_killed:
            break
        moment += 1
    assert moment > 15


def test_killed_again_and_again_each_time_a_few_statements_later(crash: Crash, database_url: str) -> None:
    moment = 1
    while crash(database_url, moment):
        moment += 7
    assert moment > 40
    assert_one_day_was_lived(database_url)
