"""What the database says of the life of orders, as gauges: read at each scrape, and the same from whichever replica."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.core import Metric as Family
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from serve.problems import NotReadyError
from serve.store.database import Database
from serve.store.tables import LineState, OpenOrder, OrderState, PlanLine, PlanRun, RunState
from serve.watch.metrics import (
    APPROVAL,
    DATABASE_UP,
    OPEN_ORDERS,
    OPEN_UNITS,
    STORED_LINES,
    STORED_UNITS,
    STORED_VALUE,
    Metric,
)

_APPROVED: Final = (LineState.APPROVED, LineState.EXPORTED)
_LATELY: Final = timedelta(days=28)


def read_book(database: Database, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> tuple[Family, ...]:
    """Gauges of the stored plans and orders; only that it is down where the database does not answer."""
    try:
        with database.reading() as session:
            found = (*_newest_plan(session), _approval(session, since=clock() - _LATELY), *_on_order(session))
    except NotReadyError:
        return (_gauge(DATABASE_UP, {(): 0}),)
    return (_gauge(DATABASE_UP, {(): 1}), *found)


def _newest_plan(session: Session) -> tuple[Family, ...]:
    newest = select(PlanRun.run_id).where(PlanRun.state == RunState.DONE)
    newest = newest.order_by(PlanRun.on_date.desc(), PlanRun.created_at.desc()).limit(1)
    figures = (func.count(), func.sum(PlanLine.order_qty), func.sum(PlanLine.order_value))
    statement = select(PlanLine.state, *figures).where(PlanLine.run_id == newest.scalar_subquery())
    rows = {row[0]: row[1:] for row in session.execute(statement.group_by(PlanLine.state))}
    # Every state, once there is a plan: a line that is missing from a chart reads as one without data.
    states = tuple(LineState) if rows else ()
    return tuple(
        _gauge(metric, {(state.value,): float(rows[state][column]) if state in rows else 0.0 for state in states})
        for column, metric in enumerate((STORED_LINES, STORED_UNITS, STORED_VALUE))
    )


def _approval(session: Session, *, since: datetime) -> Family:
    lately = select(PlanRun.run_id).where(PlanRun.created_at >= since)
    decided = PlanLine.state.in_((*_APPROVED, LineState.REJECTED))
    statement = select(PlanLine.state, func.count()).where(PlanLine.run_id.in_(lately), decided)
    count_of: dict[LineState, int] = dict(session.execute(statement.group_by(PlanLine.state)).tuples().all())
    total = sum(count_of.values())
    approved = sum(count_of.get(state, 0) for state in _APPROVED)
    # Where nothing was decided there is no share: no sample, rather than a zero that rings an alert.
    return _gauge(APPROVAL, {(): approved / total} if total else {})


def _on_order(session: Session) -> tuple[Family, ...]:
    statement = select(func.count(), func.coalesce(func.sum(OpenOrder.open_qty), 0.0))
    count, units = session.execute(statement.where(OpenOrder.state == OrderState.OPEN)).one()
    return _gauge(OPEN_ORDERS, {(): count}), _gauge(OPEN_UNITS, {(): float(units)})


def _gauge(metric: Metric, values: dict[tuple[Any, ...], float]) -> Family:
    family = GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
