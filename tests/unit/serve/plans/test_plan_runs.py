"""Runs: one per digest, in chunks, by whoever holds the lease; on SQLite and PostgreSQL."""

from datetime import UTC, datetime, timedelta

import pytest
from planned_shop import SETTINGS, SOURCES, TODAY, Shop, count_stock, tomorrow
from sqlalchemy import func, select, update

from cluster.errors import ConflictError, DataError, StaleInputError
from serve.plans.rows import PlannedChunk
from serve.plans.runs import RunLostError, cancel_run, claim_run, finish_run, keep_chunk
from serve.plans.work import work_on_run
from serve.store.database import Database
from serve.store.tables import AuditRow, LedgerRow, PlanLine, PlanRun, RunState

SHOP = Shop(num_series=8)


def run_of(database: Database, run_id: str) -> PlanRun:
    with database.reading() as session:
        return session.get_one(PlanRun, run_id)


def lines_of(database: Database, run_id: str) -> list[PlanLine]:
    with database.reading() as session:
        return list(session.scalars(select(PlanLine).where(PlanLine.run_id == run_id).order_by(PlanLine.position)))


def expire_lease(database: Database, run_id: str) -> None:
    with database.writing() as session:
        past = datetime.now(UTC) - timedelta(seconds=1)
        session.execute(update(PlanRun).where(PlanRun.run_id == run_id).values(lease_until=past))


def test_a_run_stores_every_line_and_ledgers_sum(database: Database) -> None:
    count_stock(database, SHOP)
    run_id = SHOP.make_plan(database)
    run, lines = run_of(database, run_id), lines_of(database, run_id)
    assert (run.state, run.num_series, run.num_planned) == (RunState.DONE, 8, 8)
    assert [(line.item_id, line.location_id) for line in lines] == SHOP.keys
    assert sum(line.order_qty for line in lines) > 0
    with database.reading() as session:
        total = func.sum(LedgerRow.change_qty)
        sums = dict(session.execute(select(LedgerRow.line_id, total).group_by(LedgerRow.line_id)).all())
    assert sums == {line.line_id: line.order_qty for line in lines}


def test_the_same_inputs_are_the_same_run(database: Database) -> None:
    count_stock(database, SHOP)
    run_id = SHOP.make_plan(database)
    assert SHOP.ask(database, actor="bob") == (run_id, False)
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(PlanRun)) == 1


def test_other_inputs_are_another_run(database: Database) -> None:
    count_stock(database, SHOP)
    run_id = SHOP.make_plan(database)
    count_stock(database, SHOP, on_hand_qty=50)
    other_id = SHOP.make_plan(database)
    assert other_id != run_id
    assert sum(line.order_qty for line in lines_of(database, other_id)) < sum(
        line.order_qty for line in lines_of(database, run_id)
    )


def test_a_dead_workers_run_is_taken_over_where_it_stopped(database: Database) -> None:
    count_stock(database, SHOP)
    run_id, _ = SHOP.ask(database)
    dead = claim_run(database, worker="dead", lease_s=60)
    assert dead is not None
    keep_chunk(database, dead, planned(0, 3), start=0, settings=SETTINGS)
    assert claim_run(database, worker="next", lease_s=60) is None
    expire_lease(database, run_id)
    assert work_on_run(database, SHOP.plan, settings=SETTINGS, worker="next") == run_id
    run = run_of(database, run_id)
    assert (run.state, run.num_planned, run.attempts) == (RunState.DONE, 8, 2)
    assert len(lines_of(database, run_id)) == 8
    with pytest.raises(RunLostError):
        keep_chunk(database, dead, planned(3, 6), start=3, settings=SETTINGS)
    with pytest.raises(RunLostError):
        finish_run(database, dead, settings=SETTINGS)


def planned(start: int, end: int) -> PlannedChunk:
    from serve.answers import PlanQuestion

    question = PlanQuestion(series=SHOP.keys[start:end], limit=9, as_of=TODAY, stock=None, open_orders=None)
    answer = SHOP.plan(question)
    return PlannedChunk(table=answer.plan.to_table(), is_fallback_S=answer.is_fallback_S.tolist(), notes=())


def test_an_own_chunk_that_is_kept_twice_is_kept_once(database: Database) -> None:
    SHOP.ask(database)
    run = claim_run(database, worker="one", lease_s=60)
    assert run is not None
    keep_chunk(database, run, planned(0, 3), start=0, settings=SETTINGS)
    with pytest.raises(RunLostError):
        keep_chunk(database, run, planned(0, 3), start=0, settings=SETTINGS)
    assert len(lines_of(database, run.run_id)) == 3


def test_a_cancelled_run_stops_its_worker_and_may_be_asked_for_again(database: Database) -> None:
    run_id, _ = SHOP.ask(database)
    run = claim_run(database, worker="one", lease_s=60)
    assert run is not None
    keep_chunk(database, run, planned(0, 3), start=0, settings=SETTINGS)
    cancel_run(database, run_id, actor="ann", reason="wrong day")
    with pytest.raises(RunLostError):
        keep_chunk(database, run, planned(3, 6), start=3, settings=SETTINGS)
    with pytest.raises(ConflictError, match="nothing to cancel"):
        cancel_run(database, run_id, actor="ann", reason="again")
    assert SHOP.ask(database) == (run_id, True)
    work_on_run(database, SHOP.plan, settings=SETTINGS, worker="two")
    assert run_of(database, run_id).state == RunState.DONE
    assert len(lines_of(database, run_id)) == 8


def test_what_makes_a_plan_impossible_fails_the_run_and_is_said(database: Database) -> None:
    count_stock(database, SHOP, counted_on=tomorrow(-1))
    run_id = SHOP.make_plan(database)
    run = run_of(database, run_id)
    assert run.state == RunState.FAILED
    assert run.failure is not None
    assert "the snapshot is of 2024-04-29 but the plan is for 2024-04-30" in run.failure
    assert lines_of(database, run_id) == []


def test_models_that_change_meanwhile_fail_the_run(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "models", {"forecaster": "v0"})
    run_id = SHOP.make_plan(database)
    assert "forecaster was replaced" in str(run_of(database, run_id).failure)


def test_the_budget_marks_what_comes_after_the_lines_with_most_at_risk(database: Database) -> None:
    count_stock(database, SHOP)
    whole = lines_of(database, SHOP.make_plan(database))
    count_stock(database, SHOP, on_hand_qty=1.0)
    budget = sum(line.order_value for line in whole) / 2
    run_id = SHOP.make_plan(database, settings=SETTINGS.model_copy(update={"budget": budget}))
    lines = sorted(lines_of(database, run_id), key=lambda line: (-line.money_at_risk, line.position))
    spent = 0.0
    for line in lines:
        spent += line.order_value
        assert line.is_over_budget == (spent > budget and line.order_value > 0)
    assert 0 < sum(line.is_over_budget for line in lines) < len(lines)


def test_unknown_stock_is_assumed_and_said(database: Database) -> None:
    run_id = SHOP.make_plan(database)
    run = run_of(database, run_id)
    assert run.counted_on is None
    assert any("Stock was not given and is assumed" in note for note in run.notes)


def test_every_step_is_in_the_audit(database: Database) -> None:
    run_id = SHOP.make_plan(database)
    with database.reading() as session:
        rows = session.execute(
            select(AuditRow.action, AuditRow.actor).where(AuditRow.subject_id == run_id).order_by(AuditRow.audit_id)
        )
        assert [tuple(row) for row in rows] == [("ask", "ann"), ("start", "worker-1"), ("finish", "worker-1")]


def test_an_older_count_is_refused(database: Database) -> None:
    count_stock(database, SHOP)
    with pytest.raises(StaleInputError, match="older than what is known"):
        count_stock(database, SHOP, counted_on=tomorrow(-1))


def test_a_run_that_is_not_there_cannot_be_cancelled(database: Database) -> None:
    with pytest.raises(DataError, match="no run"):
        cancel_run(database, "nothing", actor="ann", reason="")
