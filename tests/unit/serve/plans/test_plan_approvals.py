"""Decisions on lines: the life of a line, one winner, and never two orders for one need; on SQLite and PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest
from planned_shop import PACK, SETTINGS, TODAY, Shop, count_stock, tomorrow
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from cluster.errors import ConflictError, DataError, InfeasibleOrderError, RestockError, StaleInputError
from serve.plans.approvals import Decision, Verb, approve_all, decide, order_id_of
from serve.plans.rows import line_id_of
from serve.store.audit import history_of
from serve.store.database import Database
from serve.store.stock_book import Received, book_receipts, read_book
from serve.store.tables import AuditRow, LedgerRow, LineState, OpenOrder, PlanLine

SHOP = Shop(num_series=4)
CLIENTS = 50


@pytest.fixture
def run_id(database: Database) -> str:
    count_stock(database, SHOP)
    return SHOP.make_plan(database)


def take(
    database: Database,
    line_id: str,
    verb: Verb,
    *,
    version: int | None = None,
    reason: str = "because",
    order_qty: float | None = None,
    until_on: date | None = None,
    despite_terms: bool = False,
    actor: str = "ann",
) -> None:
    decision = Decision(
        line_id=line_id,
        version=line_of(database, line_id).version if version is None else version,
        verb=verb,
        reason=reason,
        order_qty=order_qty,
        until_on=until_on,
        despite_terms=despite_terms,
    )
    decide(database, decision, actor=actor)


def line_of(database: Database, line_id: str) -> PlanLine:
    with database.reading() as session:
        return session.get_one(PlanLine, line_id)


def open_orders(database: Database) -> dict[str, float]:
    with database.reading() as session:
        return {row["open_order_id"]: row["open_qty"] for row in read_book(session).open_orders.to_pylist()}


def assert_books_agree(database: Database) -> None:
    """Ledgers sum, orders are those of approved lines, every version has its row in the audit."""
    with database.reading() as session:
        lines = session.scalars(select(PlanLine)).all()
        total = func.sum(LedgerRow.change_qty)
        sums = dict(session.execute(select(LedgerRow.line_id, total).group_by(LedgerRow.line_id)).all())
        counts = select(AuditRow.subject_id, func.count()).where(AuditRow.subject == "line")
        audited = dict(session.execute(counts.group_by(AuditRow.subject_id)).all())
        orders = {order.line_id for order in session.scalars(select(OpenOrder)) if order.line_id and order.open_qty}
    for line in lines:
        assert sums[line.line_id] == line.order_qty
        assert audited.get(line.line_id, 0) == line.version - 1
    approved = {line.line_id for line in lines if line.state == LineState.APPROVED and line.order_qty}
    assert orders == approved


def test_an_approved_line_is_on_order_at_once(database: Database, run_id: str) -> None:
    line_id = line_id_of(run_id, 1)
    take(database, line_id, Verb.APPROVE, reason="")
    line = line_of(database, line_id)
    assert (line.state, line.version) == (LineState.APPROVED, 2)
    assert open_orders(database) == {order_id_of(line_id): line.order_qty}
    next_id = SHOP.make_plan(database)
    after = line_of(database, line_id_of(next_id, 1))
    assert after.facts["on_order_qty"] == line.order_qty
    assert after.order_qty == 0
    assert line_of(database, line_id_of(next_id, 2)).order_qty == line_of(database, line_id_of(run_id, 2)).order_qty
    assert_books_agree(database)


def test_of_two_who_look_at_one_version_one_wins(database: Database, run_id: str) -> None:
    line_id = line_id_of(run_id, 0)
    take(database, line_id, Verb.APPROVE, version=1)
    with pytest.raises(ConflictError, match="somebody else decided"):
        take(database, line_id, Verb.REJECT, version=1, actor="bob")
    assert line_of(database, line_id).state == LineState.APPROVED


def test_two_plans_that_saw_one_need_order_for_it_once(database: Database, run_id: str) -> None:
    # Another plan of the same needs: only its budget's marks differ, and the stock of an item that is not decided.
    count_stock(database, Shop(num_series=3))
    other_id = SHOP.make_plan(database)
    assert other_id != run_id
    take(database, line_id_of(run_id, 0), Verb.APPROVE)
    with pytest.raises(ConflictError, match="plan again"):
        take(database, line_id_of(other_id, 0), Verb.APPROVE)
    assert len(open_orders(database)) == 1
    assert line_of(database, line_id_of(other_id, 0)).state == LineState.PROPOSED
    assert_books_agree(database)


def test_an_edit_adds_to_the_ledger_and_needs_a_reason(database: Database, run_id: str) -> None:
    line_id = line_id_of(run_id, 2)
    before = line_of(database, line_id)
    with pytest.raises(DataError, match="needs a reason"):
        take(database, line_id, Verb.EDIT, order_qty=12.0, reason=" ")
    take(database, line_id, Verb.EDIT, order_qty=before.order_qty + PACK, reason="a fair is on")
    after = line_of(database, line_id)
    assert after.order_value == after.order_qty * after.unit_cost
    assert after.proposed_qty == before.order_qty
    with database.reading() as session:
        steps = select(LedgerRow).where(LedgerRow.line_id == line_id).order_by(LedgerRow.step.desc())
        last = session.scalars(steps).first()
    assert last is not None
    assert (last.reason, last.change_qty) == ("edit", PACK)
    assert last.sentence.endswith("by hand: a fair is on")
    assert_books_agree(database)


def test_an_edit_keeps_to_the_terms_unless_told(database: Database, run_id: str) -> None:
    line_id = line_id_of(run_id, 0)
    with pytest.raises(InfeasibleOrderError, match="7 is not a multiple of the pack of 6; take 6 or 12"):
        take(database, line_id, Verb.EDIT, order_qty=7.0)
    take(database, line_id, Verb.EDIT, order_qty=7.0, despite_terms=True)
    assert line_of(database, line_id).order_qty == 7
    take(database, line_id, Verb.APPROVE)
    assert open_orders(database) == {order_id_of(line_id): 7.0}
    assert_books_agree(database)


def test_a_snoozed_series_stays_quiet_in_later_plans_until_its_day(database: Database, run_id: str) -> None:
    line_id = line_id_of(run_id, 0)
    with pytest.raises(DataError, match="until_on"):
        take(database, line_id, Verb.SNOOZE, until_on=TODAY)
    take(database, line_id, Verb.SNOOZE, until_on=tomorrow(2))
    for days, state in ((1, LineState.SNOOZED), (2, LineState.PROPOSED)):
        count_stock(database, SHOP, counted_on=tomorrow(days))
        next_id = SHOP.make_plan(database, on_date=tomorrow(days))
        assert line_of(database, line_id_of(next_id, 0)).state == state
        assert line_of(database, line_id_of(next_id, 1)).state == LineState.PROPOSED


def test_a_reopened_line_takes_its_order_back_and_can_be_approved_again(database: Database, run_id: str) -> None:
    line_id = line_id_of(run_id, 1)
    take(database, line_id, Verb.APPROVE)
    take(database, line_id, Verb.REOPEN, reason="too early")
    assert open_orders(database) == {}
    take(database, line_id, Verb.APPROVE)
    assert len(open_orders(database)) == 1
    assert_books_agree(database)


def test_a_plan_that_counted_on_a_reopened_order_cannot_be_approved(database: Database, run_id: str) -> None:
    take(database, line_id_of(run_id, 3), Verb.APPROVE)
    next_id = SHOP.make_plan(database)
    take(database, line_id_of(run_id, 3), Verb.REOPEN)
    take(database, line_id_of(next_id, 3), Verb.EDIT, order_qty=PACK)
    with pytest.raises(ConflictError, match="plan again"):
        take(database, line_id_of(next_id, 3), Verb.APPROVE)


def test_what_came_cannot_be_taken_back(database: Database, run_id: str) -> None:
    line_id = line_id_of(run_id, 1)
    take(database, line_id, Verb.APPROVE)
    receipt = Received(open_order_id=order_id_of(line_id), received_qty=1.0, received_on=TODAY)
    with database.writing() as session:
        book_receipts(session, [receipt], actor="dock", source="delivery 1")
    with pytest.raises(ConflictError, match="has been received"):
        take(database, line_id, Verb.REOPEN)


@pytest.mark.parametrize(
    ("first", "second"),
    [(Verb.REJECT, Verb.APPROVE), (Verb.REJECT, Verb.EDIT), (Verb.APPROVE, Verb.APPROVE), (Verb.APPROVE, Verb.REJECT)],
)
def test_what_does_not_follow_is_refused(database: Database, run_id: str, first: Verb, second: Verb) -> None:
    line_id = line_id_of(run_id, 0)
    take(database, line_id, first)
    with pytest.raises(ConflictError, match="needs one that is"):
        take(database, line_id, second, order_qty=PACK)


def test_a_plan_of_an_older_count_is_stale(database: Database, run_id: str) -> None:
    count_stock(database, SHOP, counted_on=tomorrow())
    with pytest.raises(StaleInputError, match="plan again"):
        take(database, line_id_of(run_id, 0), Verb.APPROVE)
    assert open_orders(database) == {}


def test_lines_of_an_unfinished_run_cannot_be_decided(database: Database) -> None:
    from serve.plans.runs import cancel_run
    from serve.plans.work import work_on_run

    run_id, _ = SHOP.ask(database)

    def plan_and_cancel(question):  # the second chunk finds the run cancelled
        if question.series[0] != SHOP.keys[0]:
            cancel_run(database, run_id, actor="ann", reason="changed my mind")
        return SHOP.plan(question)

    work_on_run(database, plan_and_cancel, settings=SETTINGS, worker="one")
    with pytest.raises(ConflictError, match="is cancelled"):
        take(database, line_id_of(run_id, 0), Verb.APPROVE)


def test_the_audit_says_who_what_and_why_and_cannot_be_changed(database: Database, run_id: str) -> None:
    line_id = line_id_of(run_id, 0)
    take(database, line_id, Verb.REJECT, reason="delisted", actor="bob")
    with database.reading() as session:
        (row,) = history_of(session, subject="line", subject_id=line_id, limit=10)
    assert (row.actor, row.action, row.reason) == ("bob", "reject", "delisted")
    assert (row.before["state"], row.after["state"]) == ("proposed", "rejected")
    for statement in ("UPDATE audit_entry SET actor = 'eve'", "DELETE FROM audit_entry"):
        with pytest.raises(DBAPIError, match="append-only"), database.engine.begin() as connection:
            connection.exec_driver_sql(statement)


def test_many_are_approved_and_each_refusal_is_told(database: Database, run_id: str) -> None:
    take(database, line_id_of(run_id, 0), Verb.REJECT)
    lines = [(line_id_of(run_id, position), 1) for position in range(4)]
    approved, refused = approve_all(database, [*lines, ("nothing", 1)], actor="ann")
    assert approved == [line_id for line_id, _ in lines[1:]]
    assert {row.line_id: row.title for row in refused} == {lines[0][0]: "Conflict", "nothing": "Not found"}
    assert_books_agree(database)


def test_fifty_clients_decide_at_once(database: Database, run_id: str) -> None:
    line_ids = [line_id_of(run_id, position) for position in range(4)]
    needed = {line_id for line_id in line_ids if line_of(database, line_id).order_qty}
    assert needed

    def act(client: int) -> tuple[int, int]:
        won = lost = 0
        for step, line_id in enumerate(line_ids[client % 4 :] + line_ids[: client % 4]):
            try:
                if client % 5 == 4:
                    done, _ = approve_all(
                        database, [(line_id, 1) for line_id in reversed(line_ids)], actor=f"c{client}"
                    )
                    won += len(done)
                elif (client + step) % 5 == 3:
                    SHOP.make_plan(database, worker=f"w{client}-{step}")
                else:
                    take(database, line_id, Verb.APPROVE, version=1, actor=f"c{client}")
                    won += 1
            except ConflictError:
                lost += 1
        return won, lost

    with ThreadPoolExecutor(CLIENTS) as clients:
        outcomes = list(clients.map(act, range(CLIENTS)))
    assert sum(won for won, _ in outcomes) == len(line_ids)
    assert sum(lost for _, lost in outcomes) > 0
    assert set(open_orders(database)) == {order_id_of(line_id) for line_id in needed}
    assert_books_agree(database)
    # What was approved is on order for every later plan, whatever was planned meanwhile.
    final = SHOP.make_plan(database)
    assert all(line_of(database, line_id_of(final, position)).order_qty == 0 for position in range(4))


def test_clients_that_approve_the_lines_of_two_plans_order_once(database: Database, run_id: str) -> None:
    count_stock(database, Shop(num_series=3))
    plans = [run_id, SHOP.make_plan(database)]

    def act(client: int) -> int:
        won = 0
        for position in range(3):
            try:
                take(database, line_id_of(plans[(client + position) % 2], position), Verb.APPROVE, version=1)
                won += 1
            except RestockError:
                pass
        return won

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(act, range(16)))
    with database.reading() as session:
        per_series = session.execute(
            select(OpenOrder.item_id, func.count()).where(OpenOrder.open_qty > 0).group_by(OpenOrder.item_id)
        ).all()
    assert per_series
    assert all(count == 1 for _, count in per_series)
    assert_books_agree(database)
