"""Reading plans: runs, their lines by filter and in order, one line with its ledger and history, orders and stock."""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from cluster.errors import DataError
from serve.problems import NotFoundError
from serve.store.audit import history_of
from serve.store.tables import (
    AuditRow,
    Export,
    LedgerRow,
    LineState,
    OpenOrder,
    OrderState,
    PlanLine,
    PlanRun,
    RunState,
    Stock,
)

_HISTORY_SHOWN = 200
_MAX_NUMBER = 2**53
Page = dict[str, Any]


class Mark(StrEnum):
    """Why a line wants a planner's eye."""

    STOCKOUT_RISK = "stockout_risk"
    OVERSTOCK = "overstock"
    OVER_BUDGET = "over_budget"
    NEW_ITEM = "new_item"


class LineOrder(StrEnum):
    """In which order lines are listed."""

    MONEY_AT_RISK = "money_at_risk"
    ORDER_VALUE = "order_value"
    SERIES = "series"


_COLUMN_OF: Final = {
    Mark.STOCKOUT_RISK: PlanLine.is_stockout_risk,
    Mark.OVERSTOCK: PlanLine.is_overstock,
    Mark.OVER_BUDGET: PlanLine.is_over_budget,
    Mark.NEW_ITEM: PlanLine.is_new_item,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFilter:
    """Which lines of a run; None asks for all."""

    state: LineState | None = None
    mark: Mark | None = None
    category_id: str | None = None
    item_id: str | None = None
    ordered_only: bool = False
    order: LineOrder = LineOrder.MONEY_AT_RISK


def list_runs(session: Session, *, state: RunState | None, limit: int, after: str | None) -> Page:
    """Runs, newest first."""
    statement = select(PlanRun)
    if state is not None:
        statement = statement.where(PlanRun.state == state)
    rows, cursor = _newest(session, statement, at=PlanRun.created_at, key=PlanRun.run_id, limit=limit, after=after)
    return {"runs": [run_json(run) for run in rows], "next": cursor}


def show_run(session: Session, run_id: str) -> dict[str, Any]:
    """A run with the sums over its lines.

    Raises
    ------
    NotFoundError
        If there is no such run.
    """
    run = find_run(session, run_id)
    is_line = PlanLine.run_id == run_id
    sums = session.execute(
        select(
            func.count(),
            func.sum(case((PlanLine.order_qty > 0, 1), else_=0)),
            func.sum(PlanLine.order_qty),
            func.sum(PlanLine.order_value),
            func.sum(PlanLine.money_at_risk),
            *(func.sum(case((column, 1), else_=0)) for column in _COLUMN_OF.values()),
        ).where(is_line)
    ).one()
    names = ("num_lines", "num_orders", "order_qty", "order_value", "money_at_risk", *(f"num_{mark}" for mark in Mark))
    states = dict(session.execute(select(PlanLine.state, func.count()).where(is_line).group_by(PlanLine.state)).all())
    totals = {name: value or 0 for name, value in zip(names, sums, strict=True)}
    return run_json(run) | {"totals": totals, "states": {str(state): states.get(state, 0) for state in LineState}}


def find_run(session: Session, run_id: str) -> PlanRun:
    """The run of that name; raises as :func:`show_run`."""
    run = session.get(PlanRun, run_id)
    if run is None:
        raise NotFoundError(f"no run {run_id!r}; GET /v1/plan-runs lists them")
    return run


def list_lines(session: Session, run_id: str, wanted: LineFilter, *, limit: int, after: str | None) -> Page:
    """Lines of a run; raises as :func:`show_run`."""
    find_run(session, run_id)
    statement = select(PlanLine).where(PlanLine.run_id == run_id, *_conditions(wanted))
    column = {LineOrder.MONEY_AT_RISK: PlanLine.money_at_risk, LineOrder.ORDER_VALUE: PlanLine.order_value}.get(
        wanted.order
    )
    if column is None:
        statement = statement.order_by(PlanLine.position)
        if after is not None:
            (position,) = _read_cursor(after, kinds=(int,))
            statement = statement.where(PlanLine.position > position)
    else:
        statement = statement.order_by(column.desc(), PlanLine.position)
        if after is not None:
            value, position = _read_cursor(after, kinds=(float, int))
            statement = statement.where(or_(column < value, and_(column == value, PlanLine.position > position)))
    rows, more = _page(session, statement, limit=limit)
    last = rows[-1] if more else None
    key = () if last is None or column is None else (float(getattr(last, column.key)),)
    return {
        "run_id": run_id,
        "lines": [line_json(line) for line in rows],
        "next": None if last is None else _cursor(*key, last.position),
    }


def lines_to_approve(session: Session, run_id: str, *, positions: Sequence[int] | None) -> list[tuple[str, int]]:
    """Lines of a run, by their numbers or all proposed ones without a mark, and their versions.

    Raises
    ------
    NotFoundError
        If there is no such run or line.
    """
    find_run(session, run_id)
    statement = select(PlanLine).where(PlanLine.run_id == run_id).order_by(PlanLine.position)
    if positions is None:
        unmarked = [column.is_(False) for column in _COLUMN_OF.values()]
        statement = statement.where(PlanLine.state == LineState.PROPOSED, *unmarked)
    else:
        statement = statement.where(PlanLine.position.in_(positions))
    lines = session.scalars(statement).all()
    missing = set(positions or ()) - {line.position for line in lines}
    if missing:
        raise NotFoundError(f"run {run_id!r} has no line {min(missing)}; 'restock plans show' lists them")
    return [(line.line_id, line.version) for line in lines]


def show_line(session: Session, line_id: str) -> dict[str, Any]:
    """A line with its ledger and everything that was done with it.

    Raises
    ------
    NotFoundError
        If there is no such line.
    """
    line = session.get(PlanLine, line_id)
    if line is None:
        raise NotFoundError(f"no line {line_id!r}; GET /v1/plan-runs/RUN/lines lists a run's lines")
    steps = session.scalars(select(LedgerRow).where(LedgerRow.line_id == line_id).order_by(LedgerRow.step))
    ledger = [{"reason": row.reason, "change_qty": row.change_qty, "sentence": row.sentence} for row in steps]
    history = history_of(session, subject="line", subject_id=line_id, limit=_HISTORY_SHOWN)
    return line_json(line) | {"ledger": ledger, "history": [audit_json(row) for row in history]}


def list_stock(session: Session, *, item_id: str | None, limit: int, after: str | None) -> Page:
    """Stock by series."""
    statement = select(Stock).order_by(Stock.item_id, Stock.location_id)
    if item_id is not None:
        statement = statement.where(Stock.item_id == item_id)
    if after is not None:
        item, place = _read_cursor(after, kinds=(str, str))
        statement = statement.where(or_(Stock.item_id > item, and_(Stock.item_id == item, Stock.location_id > place)))
    rows, more = _page(session, statement, limit=limit)
    names = ("item_id", "location_id", "on_hand_qty", "reserved_qty", "backorder_qty")
    shown = [{name: getattr(row, name) for name in names} | {"counted_on": row.counted_on.isoformat()} for row in rows]
    return {"stock": shown, "next": _cursor(rows[-1].item_id, rows[-1].location_id) if more else None}


def list_open_orders(
    session: Session, *, item_id: str | None, state: OrderState | None, limit: int, after: str | None
) -> Page:
    """Orders by name, those still to come unless another state is asked for."""
    statement = select(OpenOrder).where(OpenOrder.state == (state or OrderState.OPEN)).order_by(OpenOrder.open_order_id)
    if item_id is not None:
        statement = statement.where(OpenOrder.item_id == item_id)
    if after is not None:
        (order_id,) = _read_cursor(after, kinds=(str,))
        statement = statement.where(OpenOrder.open_order_id > order_id)
    rows, more = _page(session, statement, limit=limit)
    return {"open_orders": [order_json(row) for row in rows], "next": _cursor(rows[-1].open_order_id) if more else None}


def list_audit(session: Session, *, subject: str | None, subject_id: str | None, limit: int, after: str | None) -> Page:
    """Changes, latest first."""
    statement = select(AuditRow).order_by(AuditRow.audit_id.desc())
    if subject is not None:
        statement = statement.where(AuditRow.subject == subject)
    if subject_id is not None:
        statement = statement.where(AuditRow.subject_id == subject_id)
    if after is not None:
        (audit_id,) = _read_cursor(after, kinds=(int,))
        statement = statement.where(AuditRow.audit_id < audit_id)
    rows, more = _page(session, statement, limit=limit)
    return {"changes": [audit_json(row) for row in rows], "next": _cursor(rows[-1].audit_id) if more else None}


def list_exports(session: Session, *, run_id: str | None, limit: int, after: str | None) -> Page:
    """Exports, newest first."""
    statement = select(Export)
    if run_id is not None:
        statement = statement.where(Export.run_id == run_id)
    rows, cursor = _newest(session, statement, at=Export.created_at, key=Export.export_id, limit=limit, after=after)
    return {"exports": [export_json(row) for row in rows], "next": cursor}


def run_json(run: PlanRun) -> dict[str, Any]:
    """JSON form of a run."""
    return {
        "run_id": run.run_id,
        "state": str(run.state),
        "on_date": run.on_date.isoformat(),
        "num_series": run.num_series,
        "num_planned": run.num_planned,
        "counted_on": _iso(run.counted_on),
        "model_versions": run.sources.get("models", {}),
        "notes": run.notes,
        "failure": run.failure,
        "created_at": run.created_at.isoformat(),
        "created_by": run.created_by,
        "finished_at": _iso(run.finished_at),
    }


def line_json(line: PlanLine) -> dict[str, Any]:
    """JSON form of a line, without its ledger."""
    names = ("line_id", "run_id", "item_id", "location_id", "category_id", "version", "proposed_qty", "order_qty")
    money = ("unit_cost", "order_value", "money_at_risk")
    return {
        **{name: getattr(line, name) for name in (*names, *money)},
        "state": str(line.state),
        "marks": [mark.value for mark, column in _COLUMN_OF.items() if getattr(line, column.key)],
        "arrives_on": line.arrives_on.isoformat(),
        "snoozed_until": _iso(line.snoozed_until),
        "export_id": line.export_id,
        **line.facts,
    }


def order_json(order: OpenOrder) -> dict[str, Any]:
    """JSON form of an order."""
    names = ("open_order_id", "line_id", "item_id", "location_id", "open_qty", "received_qty")
    facts = {name: getattr(order, name) for name in names}
    return facts | {"state": str(order.state), "expected_on": order.expected_on.isoformat()}


def audit_json(row: AuditRow) -> dict[str, Any]:
    """JSON form of a change."""
    names = ("audit_id", "actor", "action", "subject", "subject_id", "before", "after", "reason")
    return {name: getattr(row, name) for name in names} | {"at": row.at.isoformat()}


def export_json(export: Export) -> dict[str, Any]:
    """JSON form of an export, without its lines."""
    return {
        "export_id": export.export_id,
        "run_id": export.run_id,
        "num_lines": export.num_lines,
        "created_at": export.created_at.isoformat(),
        "created_by": export.created_by,
    }


def _conditions(wanted: LineFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.state is not None:
        conditions.append(PlanLine.state == wanted.state)
    if wanted.mark is not None:
        conditions.append(_COLUMN_OF[wanted.mark].is_(True))
    if wanted.category_id is not None:
        conditions.append(PlanLine.category_id == wanted.category_id)
    if wanted.item_id is not None:
        conditions.append(PlanLine.item_id == wanted.item_id)
    if wanted.ordered_only:
        conditions.append(PlanLine.order_qty > 0)
    return conditions


def _newest(
    session: Session,
    statement: Select[Any],
    *,
    at: InstrumentedAttribute[datetime],
    key: InstrumentedAttribute[str],
    limit: int,
    after: str | None,
) -> tuple[Sequence[Any], str | None]:
    """A page of rows, newest first and of one moment by key, and where the next page begins."""
    statement = statement.order_by(at.desc(), key.desc())
    if after is not None:
        text, last = _read_cursor(after, kinds=(str, str))
        moment = _moment(text)
        statement = statement.where(or_(at < moment, and_(at == moment, key < last)))
    rows, more = _page(session, statement, limit=limit)
    if not more:
        return rows, None
    return rows, _cursor(getattr(rows[-1], at.key).isoformat(), getattr(rows[-1], key.key))


def _page(session: Session, statement: Select[Any], *, limit: int) -> tuple[Sequence[Any], bool]:
    """The first rows, and whether there are more."""
    rows = session.scalars(statement.limit(limit + 1)).all()
    return rows[:limit], len(rows) > limit


def _cursor(*key: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def _read_cursor(text: str, *, kinds: tuple[type, ...]) -> list[Any]:
    try:
        key = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if [type(part) for part in key] != list(kinds) or not all(map(_is_plain, key)):
            raise ValueError
    except (ValueError, TypeError, binascii.Error) as error:
        raise _no_cursor() from error
    return list(key)


def _is_plain(part: str | float) -> bool:
    """Whether every database can compare with it."""
    return "\x00" not in part if isinstance(part, str) else abs(part) < _MAX_NUMBER


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise _no_cursor() from error
    if moment.tzinfo is None:
        raise _no_cursor()
    return moment


def _no_cursor() -> DataError:
    return DataError("'after' is not what an earlier page gave as 'next'; leave it out to start anew")


def _iso(value: date | datetime | None) -> str | None:
    return None if value is None else value.isoformat()
