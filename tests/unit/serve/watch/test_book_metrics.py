"""What the metrics say of stored plans is what the tables hold, on both databases; and that one is down."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from planned_shop import Shop, count_stock
from sqlalchemy import select

from cluster.config import load_settings
from serve.plans.approvals import Decision, Verb, decide
from serve.plans.rows import line_id_of
from serve.store.database import Database, open_database
from serve.store.tables import PlanLine
from serve.watch.book_metrics import read_book
from serve.watch.metrics import STORED

SHOP = Shop(num_series=4)


def values_of(database: Database, **clock: object) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in read_book(database, **clock)
        for sample in family.samples
    }


def test_an_empty_database_has_no_plan_and_no_share(database: Database) -> None:
    assert values_of(database) == {
        ("restock_database_up",): 1,
        ("restock_open_orders",): 0,
        ("restock_open_order_units",): 0,
    }


def test_lines_of_the_newest_plan_by_what_was_decided(database: Database) -> None:
    count_stock(database, SHOP)
    run_id = SHOP.make_plan(database)
    for position, verb in ((0, Verb.APPROVE), (1, Verb.APPROVE), (2, Verb.REJECT)):
        line_id = line_id_of(run_id, position)
        decide(database, Decision(line_id=line_id, version=1, verb=verb, reason="because"), actor="ann")
    values = values_of(database)
    with database.reading() as session:
        lines = session.scalars(select(PlanLine).order_by(PlanLine.position)).all()
    states = {"approved": lines[:2], "rejected": lines[2:3], "proposed": lines[3:], "snoozed": [], "exported": []}
    for state, held in states.items():
        assert values["restock_stored_lines", state] == len(held)
        assert values["restock_stored_order_units", state] == pytest.approx(sum(line.order_qty for line in held))
        assert values["restock_stored_order_value", state] == pytest.approx(sum(line.order_value for line in held))
    assert values["restock_approval_ratio",] == pytest.approx(2 / 3)
    ordered = [line.order_qty for line in lines[:2] if line.order_qty]
    assert ordered
    assert values["restock_open_orders",] == len(ordered)
    assert values["restock_open_order_units",] == pytest.approx(sum(ordered))
    assert {name for name, *_ in values} == {metric.name for metric in STORED}
    later = values_of(database, clock=lambda: datetime.now(UTC) + timedelta(days=29))
    assert ("restock_approval_ratio",) not in later
    assert later["restock_stored_lines", "approved"] == 2


def test_a_database_that_does_not_answer_is_said(tmp_path: Path) -> None:
    database = open_database(load_settings(overrides=[f'home="{tmp_path}"']))
    database.close()
    for file in tmp_path.glob("restock.db*"):
        file.unlink()
    (tmp_path / "restock.db").mkdir()
    assert values_of(database) == {("restock_database_up",): 0}
