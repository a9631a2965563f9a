"""A day of a shop's planning in a process of its own, which is killed at a given moment: ``kill -9``, nothing less.

As a program it reads such days from its input, a JSON object a line, forks a process for each, and prints the exit
code: what takes long, the imports, is done once.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

from planned_shop import SETTINGS, TODAY, Shop
from sqlalchemy import event, select

from cluster.config import load_settings
from cluster.errors import ConflictError
from recsys.sessions import LiveEvent
from serve.plans.approvals import approve_all
from serve.plans.exports import export_approved
from serve.plans.work import work_on_run
from serve.store.database import Database, open_database
from serve.store.intake import take_once
from serve.store.live_events import keep_events
from serve.store.stock_book import Count, Counted, Received, Sold, book_receipts, book_sales, take_count
from serve.store.tables import OpenOrder, PlanLine, PlanRun, RunState

SHOP = Shop(num_series=5)
COUNTED_QTY = 3.0
SOLD_QTY = 1.0
VISITED_S = 1_700_000_000
# A silent worker is replaced at once: the test need not wait.
_SETTINGS = SETTINGS.model_copy(update={"lease_s": 0.02, "chunk_series": 2})


def live_a_day(url: str, kill_at: int | None, only_commits: bool) -> None:
    """Count, sell, look around, plan, approve, export and receive; what was done before a crash is not done again.

    Parameters
    ----------
    kill_at
        Number of the moment at which the process is killed: before each statement, before and after each commit.
    only_commits
        Moments are those around commits.
    """
    database = open_database(load_settings(overrides=[f'serve.database_url="{url}"']))
    with database.reading():
        pass
    if kill_at is not None:
        _kill(database, moment=kill_at, only_commits=only_commits)
    _tell(database, "count", _count)
    _tell(database, "sale", _sell)
    _tell(database, "visit", _visit)
    run_id = _plan(database)
    with database.reading() as session:
        lines = session.scalars(select(PlanLine.line_id).where(PlanLine.run_id == run_id)).all()
    approve_all(database, [(line_id, 1) for line_id in lines], actor="ann")
    try:
        with database.writing() as session:
            export_approved(session, run_id, actor="ann")
    except ConflictError:
        pass  # exported before the crash
    _tell(database, "delivery", _receive)
    database.close()


def _kill(database: Database, *, moment: int, only_commits: bool) -> None:
    seen, was_commit = 0, False

    def pass_by(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def commit(*_: Any) -> None:
        nonlocal was_commit
        was_commit = True
        pass_by()

    def begin(*_: Any) -> None:
        # The first one after a commit: what was committed is there, and nothing of what follows.
        nonlocal was_commit
        if was_commit:
            was_commit = False
            pass_by()

    event.listen(database.engine, "commit", commit)
    event.listen(database.engine, "begin", begin)
    if not only_commits:
        event.listen(database.engine, "before_cursor_execute", pass_by)


def _tell(database: Database, key: str, act: Callable[[Any], dict[str, Any]]) -> None:
    with database.writing() as session:
        take_once(session, kind="day", key=key, content=key, actor="till", act=lambda: act(session))


def _count(session: Any) -> dict[str, Any]:
    stock = [Counted(item_id=item_id, location_id=place, on_hand_qty=COUNTED_QTY) for item_id, place in SHOP.keys]
    count = Count(counted_on=TODAY, stock=stock, open_orders=None, is_complete=True)
    return take_count(session, count, actor="ann", source="count")


def _sell(session: Any) -> dict[str, Any]:
    """What customers bought leaves the shelf and is an event of theirs, in one transaction."""
    bought = [LiveEvent(item_id=item_id, behaviour="purchase", at_s=VISITED_S) for item_id, _ in SHOP.keys]
    keep_events(session, {"buyer": bought}, now=datetime.fromtimestamp(VISITED_S, UTC))
    sold = [Sold(item_id=item_id, location_id=place, sold_qty=SOLD_QTY, sold_on=TODAY) for item_id, place in SHOP.keys]
    return book_sales(session, sold, actor="till", source="sale")


def _receive(session: Any) -> dict[str, Any]:
    """All that is on order comes."""
    receipts = [
        Received(open_order_id=order.open_order_id, received_qty=order.open_qty, received_on=TODAY)
        for order in session.scalars(select(OpenOrder))
    ]
    return book_receipts(session, receipts, actor="till", source="delivery")


def _visit(session: Any) -> dict[str, Any]:
    seen = {"user": [LiveEvent(item_id=item_id, at_s=VISITED_S) for item_id, _ in SHOP.keys]}
    return {"num_kept": keep_events(session, seen, now=datetime.fromtimestamp(VISITED_S, UTC))}


def _plan(database: Database, on_date: date = TODAY) -> str:
    """The first plan of the day, whoever began it."""
    with database.reading() as session:
        begun = session.scalar(select(PlanRun.run_id).order_by(PlanRun.created_at).limit(1))
    run_id = begun if begun is not None else SHOP.ask(database, on_date=on_date)[0]
    while True:
        work_on_run(database, SHOP.plan, settings=_SETTINGS, worker=f"worker-{os.getpid()}", run_id=run_id)
        with database.reading() as session:
            if session.get_one(PlanRun, run_id).state == RunState.DONE:
                return run_id
        time.sleep(0.01)


def main() -> None:
    """Fork a process for every line of the input."""
    for request in sys.stdin:
        process_id = os.fork()
        if process_id == 0:
            code = 1
            try:
                live_a_day(**json.loads(request))
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(process_id, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
