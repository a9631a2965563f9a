"""Decisions on plan lines: one state machine, one winner.

::

    proposed ──approve──> approved ──export──> exported
       │ ^  <──reopen──────┘ (its order is taken back)
       │ ├──snooze──> snoozed ──approve, edit, reject──>
       │ └──edit: another quantity, with a reason; the ledger gets a step
       └──reject──> rejected ──reopen──> proposed

Every decision names the version of the line that was looked at: of two who decide one version, one wins. An approved
line is an open order in the same transaction, under a name made from the line's, so that it can be one order only. And
a series' orders are decided one after the other (``SeriesRecord``): a line of another plan that did not see this order
cannot be approved any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from cluster.errors import ConflictError, DataError, InfeasibleOrderError, StaleInputError
from rl.attention import LineTerms, check_line_quantity
from serve.problems import NotFoundError
from serve.store.audit import Change, record
from serve.store.database import Database
from serve.store.stock_book import raise_decisions
from serve.store.tables import (
    LedgerRow,
    LineState,
    OpenOrder,
    OrderState,
    PlanLine,
    PlanRun,
    RunState,
    SeriesRecord,
    Stock,
)


class Verb(StrEnum):
    """What can be done with a line."""

    APPROVE = "approve"
    EDIT = "edit"
    SNOOZE = "snooze"
    REJECT = "reject"
    REOPEN = "reopen"


_OPEN: Final = frozenset({LineState.PROPOSED, LineState.SNOOZED})
_MOVES: Final[dict[Verb, tuple[frozenset[LineState], LineState]]] = {
    Verb.APPROVE: (_OPEN, LineState.APPROVED),
    Verb.EDIT: (_OPEN, LineState.PROPOSED),
    Verb.SNOOZE: (_OPEN, LineState.SNOOZED),
    Verb.REJECT: (_OPEN, LineState.REJECTED),
    Verb.REOPEN: (frozenset({LineState.SNOOZED, LineState.REJECTED, LineState.APPROVED}), LineState.PROPOSED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One decision on one version of a line.

    Parameters
    ----------
    reason
        Why; needed for everything but an approval.
    order_qty
        For an edit: units to order instead.
    despite_terms
        For an edit: the supplier was asked, packs, minimum, cap and storage do not bind.
    until_on
        For a snooze: the day on which the series is proposed again.
    """

    line_id: str
    version: int
    verb: Verb
    reason: str = ""
    order_qty: float | None = None
    despite_terms: bool = False
    until_on: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A line of several that was not approved, and why."""

    line_id: str
    title: str
    detail: str


def decide(database: Database, decision: Decision, *, actor: str) -> None:
    """Take one decision, wholly or not at all.

    Raises
    ------
    NotFoundError
        If there is no such line.
    DataError
        If the decision lacks its reason, quantity or day.
    ConflictError
        If the line has changed since, cannot go there from where it is, or its series got another order.
    StaleInputError
        If stock was counted anew since the plan.
    InfeasibleOrderError
        If the quantity cannot be ordered.
    """
    with database.writing() as session:
        _decide(session, decision, actor=actor)


def approve_all(database: Database, lines: Sequence[tuple[str, int]], *, actor: str) -> tuple[list[str], list[Refused]]:
    """Approve lines (id, version) that stand for themselves: one that is refused leaves the others approved."""
    approved: list[str] = []
    refused: list[Refused] = []
    with database.writing() as session:
        # In one order for everybody, so that two who approve many do not wait for one another.
        for line_id, version in sorted(set(lines)):
            try:
                with session.begin_nested():
                    _decide(session, Decision(line_id=line_id, version=version, verb=Verb.APPROVE), actor=actor)
                approved.append(line_id)
            except (DataError, ConflictError, StaleInputError) as error:
                refused.append(Refused(line_id=line_id, title=error.title, detail=str(error)))
    return approved, refused


def _decide(session: Session, decision: Decision, *, actor: str) -> None:
    line, run = _find(session, decision)
    before = shown(line)
    values: dict[str, Any] = {"state": _MOVES[decision.verb][1], "version": line.version + 1}
    values |= _VALUES[decision.verb](session, line, run, decision)
    changed: Any = session.execute(
        update(PlanLine)
        .where(PlanLine.line_id == line.line_id, PlanLine.version == decision.version)
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    if not changed.rowcount:
        raise _changed_meanwhile(decision)
    _EFFECTS[decision.verb](session, line, decision)
    session.expire(line)
    change = Change(
        action=decision.verb.value,
        subject="line",
        subject_id=line.line_id,
        before=before,
        after=shown(line),
        reason=decision.reason,
    )
    record(session, [change], actor=actor)


def shown(line: PlanLine) -> dict[str, Any]:
    """What decisions change of a line, for the audit."""
    until = line.snoozed_until.isoformat() if line.snoozed_until else None
    return {
        "state": str(line.state),
        "version": line.version,
        "order_qty": line.order_qty,
        "snoozed_until": until,
        "export_id": line.export_id,
    }


def order_id_of(line_id: str) -> str:
    """Name of the order that a line becomes; the same whoever approves it."""
    return f"PO-{line_id}"


def _find(session: Session, decision: Decision) -> tuple[PlanLine, PlanRun]:
    line = session.get(PlanLine, decision.line_id, populate_existing=True)
    if line is None:
        raise NotFoundError(f"no line {decision.line_id!r}; GET /v1/plan-runs/RUN/lines lists a run's lines")
    if line.version != decision.version:
        raise _changed_meanwhile(decision)
    run = session.get_one(PlanRun, line.run_id)
    if run.state != RunState.DONE:
        raise ConflictError(f"run {run.run_id!r} is {run.state}; its lines can be decided when it is done")
    allowed, _ = _MOVES[decision.verb]
    if line.state not in allowed:
        names = ", ".join(sorted(allowed))
        raise ConflictError(f"line {line.line_id!r} is {line.state}; {decision.verb} needs one that is {names}")
    if decision.verb is not Verb.APPROVE and not decision.reason.strip():
        raise DataError(f"{decision.verb} needs a reason; it is kept in the audit")
    return line, run


def _changed_meanwhile(decision: Decision) -> ConflictError:
    return ConflictError(
        f"line {decision.line_id!r} is not of version {decision.version} any more: somebody else decided; "
        "look at it again"
    )


def _approval(session: Session, line: PlanLine, run: PlanRun, decision: Decision) -> dict[str, Any]:
    counted_on = session.scalar(
        select(Stock.counted_on).where(Stock.item_id == line.item_id, Stock.location_id == line.location_id)
    )
    if counted_on is not None and (run.counted_on is None or counted_on > run.counted_on):
        seen = "assumed" if run.counted_on is None else f"of {run.counted_on}"
        raise StaleInputError(
            f"the plan's stock is {seen}, and it was counted on {counted_on} since; plan again and decide there"
        )
    return {"snoozed_until": None}


def _edit(session: Session, line: PlanLine, run: PlanRun, decision: Decision) -> dict[str, Any]:
    if decision.order_qty is None:
        raise DataError("edit needs order_qty, the units to order instead")
    if not decision.despite_terms:
        _check_terms(line, decision.order_qty)
    return {
        "order_qty": decision.order_qty,
        "order_value": round(decision.order_qty * line.unit_cost, 4),
        "snoozed_until": None,
    }


def _check_terms(line: PlanLine, order_qty: float) -> None:
    names = LineTerms.__dataclass_fields__
    # Storage and caps without a limit are kept as null.
    facts = {name: float("inf") if line.facts[name] is None else line.facts[name] for name in names}
    try:
        check_line_quantity(order_qty, LineTerms(**facts))
    except InfeasibleOrderError as error:
        raise InfeasibleOrderError(f"{error}, or set despite_terms if the supplier agreed") from error


def _snooze(session: Session, line: PlanLine, run: PlanRun, decision: Decision) -> dict[str, Any]:
    if decision.until_on is None or decision.until_on <= run.on_date:
        raise DataError(f"snooze needs until_on, a day after that of the plan ({run.on_date})")
    return {"snoozed_until": decision.until_on}


def _plain(session: Session, line: PlanLine, run: PlanRun, decision: Decision) -> dict[str, Any]:
    return {"snoozed_until": None}


def _place_order(session: Session, line: PlanLine, decision: Decision) -> None:
    _let_speak(session, line)
    if not line.order_qty:
        return
    if not raise_decisions(session, line.item_id, line.location_id, seen=line.decisions_seen):
        raise ConflictError(
            f"orders of item {line.item_id!r} at {line.location_id!r} were decided since this plan was asked for; plan "
            "again and decide there"
        )
    order_id = order_id_of(line.line_id)
    values = {"state": OrderState.OPEN, "open_qty": line.order_qty, "expected_on": line.arrives_on}
    placed: Any = session.execute(update(OpenOrder).where(OpenOrder.open_order_id == order_id).values(**values))
    if not placed.rowcount:
        ids = {"line_id": line.line_id, "item_id": line.item_id, "location_id": line.location_id}
        session.execute(insert(OpenOrder), [ids | values | {"open_order_id": order_id, "received_qty": 0.0}])


def _take_order_back(session: Session, line: PlanLine, decision: Decision) -> None:
    _let_speak(session, line)
    if line.state != LineState.APPROVED or not line.order_qty:
        return
    # The line has seen its own order come and go, and may be approved again; orders of others it has not seen.
    is_only_own = raise_decisions(session, line.item_id, line.location_id, seen=line.decisions_seen + 1)
    if is_only_own:
        session.execute(
            update(PlanLine).where(PlanLine.line_id == line.line_id).values(decisions_seen=line.decisions_seen + 2)
        )
    else:
        raise_decisions(session, line.item_id, line.location_id)
    order = session.get_one(OpenOrder, order_id_of(line.line_id), with_for_update=True, populate_existing=True)
    if order.received_qty or order.state == OrderState.RECEIVED:
        raise ConflictError(f"order {order.open_order_id!r} has been received; what came cannot be taken back")
    order.state, order.open_qty = OrderState.CANCELLED, 0.0
    session.flush()


def _add_step(session: Session, line: PlanLine, decision: Decision) -> None:
    _let_speak(session, line)
    assert decision.order_qty is not None
    step = session.scalar(select(func.max(LedgerRow.step)).where(LedgerRow.line_id == line.line_id))
    despite = " (despite the terms)" if decision.despite_terms else ""
    entry = {
        "line_id": line.line_id,
        "step": (step if step is not None else -1) + 1,
        "reason": Verb.EDIT.value,
        "change_qty": decision.order_qty - line.order_qty,
        "sentence": f"Changed from {line.order_qty:g} to {decision.order_qty:g} by hand{despite}: {decision.reason}",
    }
    session.execute(insert(LedgerRow), [entry])


def _be_quiet(session: Session, line: PlanLine, decision: Decision) -> None:
    _remember_snooze(session, line, decision.until_on)


def _let_speak(session: Session, line: PlanLine, decision: Decision | None = None) -> None:
    if line.snoozed_until is not None:
        _remember_snooze(session, line, None)


def _remember_snooze(session: Session, line: PlanLine, until_on: date | None) -> None:
    is_series = SeriesRecord.item_id == line.item_id, SeriesRecord.location_id == line.location_id
    session.execute(update(SeriesRecord).where(*is_series).values(snoozed_until=until_on))


# What a verb writes into the line, and what it does beside it, with the line as it was before.
_VALUES: Final = {
    Verb.APPROVE: _approval,
    Verb.EDIT: _edit,
    Verb.SNOOZE: _snooze,
    Verb.REJECT: _plain,
    Verb.REOPEN: _plain,
}
_EFFECTS: Final = {
    Verb.APPROVE: _place_order,
    Verb.EDIT: _add_step,
    Verb.SNOOZE: _be_quiet,
    Verb.REJECT: _let_speak,
    Verb.REOPEN: _take_order_back,
}
