"""The stock book: what is on the shelf and what is on order now, from counts, sales, receipts and approved lines.

A count says what is there at the start of a day, after receipts. Sales and receipts of that day and later move it. A
count that is told late replaces the rows and is followed by what moved since, so that the order in which the shop's
systems report does not matter. An approved line is an open order from that moment on (``serve.plans.approvals``).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeVar

import pyarrow as pa
from sqlalchemy import Select, delete, func, insert, inspect, select, tuple_, update
from sqlalchemy.orm import Session

from cluster.errors import ConflictError, DataError, StaleInputError
from cluster.schema import OPEN_ORDERS, STOCK
from serve.problems import NotFoundError
from serve.store.audit import Change, record
from serve.store.database import lock_book
from serve.store.history import SeriesKey
from serve.store.tables import LineState, Movement, OpenOrder, OrderState, PlanLine, SeriesRecord, Stock

Row = TypeVar("Row", SeriesRecord, OpenOrder, Stock)
_KEYS_AT_A_TIME = 400
_DUST = 1e-9
SALE, RECEIPT = "sale", "receipt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Units of one series at the start of a day."""

    item_id: str
    location_id: str
    on_hand_qty: float
    reserved_qty: float = 0.0
    backorder_qty: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """An order that is still to come, as the shop's own system knows it."""

    open_order_id: str
    item_id: str
    location_id: str
    open_qty: float
    expected_on: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A count of stock; ``is_complete``: series without a row have none. ``open_orders`` None: nothing said of them."""

    counted_on: date
    stock: Sequence[Counted]
    open_orders: Sequence[Ordered] | None
    is_complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sold:
    """Units of a series that left (or, negative, came back) on a day."""

    item_id: str
    location_id: str
    sold_qty: float
    sold_on: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """Units of an open order that are on the shelf now."""

    open_order_id: str
    received_qty: float
    received_on: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """What a plan may start from.

    Parameters
    ----------
    counted_on
        Day of the latest count of any series; None where nobody has counted yet.
    stock
        By ``cluster.schema.STOCK``; None where nobody has counted yet.
    open_orders
        By ``cluster.schema.OPEN_ORDERS``; approved lines among them.
    num_decisions
        Per series, how often its orders were decided when ``open_orders`` was read, or earlier.
    snoozed_until
        Series that are left alone, and until when.
    """

    counted_on: date | None
    stock: pa.Table | None
    open_orders: pa.Table
    num_decisions: dict[SeriesKey, int]
    snoozed_until: dict[SeriesKey, date]


def read_book(session: Session, keys: Sequence[SeriesKey] | None = None) -> Book:
    """Read stock and open orders, of all series or of some, sorted by series."""
    # The numbers first: an order that is decided meanwhile is then seen without its number, and refuses approval.
    records = _select(session, select(SeriesRecord), SeriesRecord, keys=keys)
    names = ("open_order_id", "item_id", "location_id", "open_qty", "expected_on")
    is_open = OpenOrder.state == OrderState.OPEN
    orders = _select(session, select(OpenOrder).where(is_open), OpenOrder, keys=keys)
    counted_on = session.scalar(select(func.max(Stock.counted_on)))
    stock = _select(session, select(Stock), Stock, keys=keys)
    stock_names = ("item_id", "location_id", "on_hand_qty", "reserved_qty", "backorder_qty", "counted_on")
    return Book(
        counted_on=counted_on,
        stock=None if counted_on is None else _table(stock, stock_names, STOCK),
        open_orders=_table(orders, names, OPEN_ORDERS),
        num_decisions={(row.item_id, row.location_id): row.num_decisions for row in records},
        snoozed_until={(row.item_id, row.location_id): row.snoozed_until for row in records if row.snoozed_until},
    )


def take_count(session: Session, count: Count, *, actor: str, source: str) -> dict[str, Any]:
    """Replace stock by a count, and follow it by what moved since; replace the shop's own open orders if given.

    Raises
    ------
    StaleInputError
        If a later count is there already.
    DataError
        If a series or an order is named twice.
    """
    lock_book(session)
    keys = [(row.item_id, row.location_id) for row in count.stock]
    _check_distinct(keys, what="series")
    _check_distinct([row.open_order_id for row in count.open_orders or ()], what="open order")
    before = _totals(session)
    _check_newer(session, count, keys=keys)
    _forget(session, keys=None if count.is_complete else keys)
    moved = _moved_since(session, count.counted_on)
    rows = [
        _after_moves(row, moved.get(key, 0.0), count.counted_on) for row, key in zip(count.stock, keys, strict=True)
    ]
    if rows:
        session.execute(insert(Stock), rows)
    if count.open_orders is not None:
        _replace_orders(session, count.open_orders, is_complete=count.is_complete, actor=actor, source=source)
    after = _totals(session)
    change = Change(
        action="count", subject="stock", subject_id=str(count.counted_on), before=before, after=after, reason=source
    )
    record(session, [change], actor=actor)
    return {"counted_on": count.counted_on.isoformat(), "num_series": len(rows), **after}


def book_sales(session: Session, sales: Sequence[Sold], *, actor: str, source: str) -> dict[str, Any]:
    """Take sold units off the shelf; what was not there is owed. Sales before a series' count are in it already."""
    lock_book(session)
    moves = [(row.item_id, row.location_id, row.sold_on, -row.sold_qty) for row in sales]
    return _move(session, moves, kind=SALE, actor=actor, source=source)


def book_receipts(session: Session, receipts: Sequence[Received], *, actor: str, source: str) -> dict[str, Any]:
    """Put received units on the shelf and take them off their orders; an order of which all has come is closed.

    Raises
    ------
    NotFoundError
        If there is no such order.
    ConflictError
        If it is not open any more.
    """
    lock_book(session)
    moves, changes = [], []
    for row in sorted(receipts, key=lambda receipt: receipt.open_order_id):
        order = _open_order(session, row.open_order_id)
        before = _shown(order)
        order.received_qty += row.received_qty
        order.open_qty = max(order.open_qty - row.received_qty, 0.0)
        if order.open_qty <= _DUST:
            order.open_qty, order.state = 0.0, OrderState.RECEIVED
        session.flush()
        moves.append((order.item_id, order.location_id, row.received_on, row.received_qty))
        changes.append(_order_change("receive", order, before=before, reason=source))
    record(session, changes, actor=actor)
    return _move(session, moves, kind=RECEIPT, actor=actor, source=source)


def cancel_order(session: Session, open_order_id: str, *, actor: str, reason: str) -> dict[str, Any]:
    """Say that what is still open of an order will not come; raises as :func:`book_receipts`."""
    lock_book(session)
    found = session.get(OpenOrder, open_order_id)
    if found is not None:
        # A plan that counted on these units must not be approved as if they came. First, as approvals do: no deadlock.
        raise_decisions(session, found.item_id, found.location_id)
    order = _open_order(session, open_order_id)
    line = session.get(PlanLine, order.line_id) if order.line_id else None
    if line is not None and line.state == LineState.APPROVED:
        raise ConflictError(f"order {open_order_id!r} was not exported yet; reopen its line {line.line_id!r} instead")
    before = _shown(order)
    order.state, order.open_qty = OrderState.CANCELLED, 0.0
    session.flush()
    record(session, [_order_change("cancel", order, before=before, reason=reason)], actor=actor)
    return {"open_order_id": open_order_id} | _shown(order)


def raise_decisions(session: Session, item_id: str, location_id: str, *, seen: int | None = None) -> bool:
    """Count one more decision of a series' orders; with ``seen``, only if that many were taken. Whether it was done."""
    statement = update(SeriesRecord).where(SeriesRecord.item_id == item_id, SeriesRecord.location_id == location_id)
    if seen is not None:
        statement = statement.where(SeriesRecord.num_decisions == seen)
    done: Any = session.execute(statement.values(num_decisions=SeriesRecord.num_decisions + 1))
    return bool(done.rowcount)


def _move(
    session: Session, moves: Sequence[tuple[str, str, date, float]], *, kind: str, actor: str, source: str
) -> dict[str, Any]:
    """Write down moves and apply those that a count does not hold yet."""
    found = {(row.item_id, row.location_id): row for row in _rows_of(session, {move[:2] for move in moves})}
    before = {key: (row.on_hand_qty, row.backorder_qty) for key, row in found.items()}
    for item_id, location_id, moved_on, change_qty in moves:
        row = found.get((item_id, location_id))
        if row is not None and moved_on >= row.counted_on:
            row.on_hand_qty, row.backorder_qty = _settled(row.on_hand_qty, row.backorder_qty, change_qty)
    session.flush()
    names = ("item_id", "location_id", "moved_on", "change_qty")
    if moves:
        session.execute(insert(Movement), [dict(zip(names, move, strict=True)) | {"kind": kind} for move in moves])
    changes = [
        Change(
            action=kind,
            subject="stock",
            subject_id=f"{key[0]} at {key[1]}"[:200],
            before={"on_hand_qty": before[key][0], "backorder_qty": before[key][1]},
            after={"on_hand_qty": row.on_hand_qty, "backorder_qty": row.backorder_qty},
            reason=source,
        )
        for key, row in found.items()
        if before[key] != (row.on_hand_qty, row.backorder_qty)
    ]
    record(session, changes, actor=actor)
    uncounted = {move[:2] for move in moves} - found.keys()
    return {"num_rows": len(moves), "num_series_changed": len(changes), "num_series_uncounted": len(uncounted)}


def _settled(on_hand_qty: float, backorder_qty: float, change_qty: float) -> tuple[float, float]:
    """Shelf and debt after units came or went: what is owed is paid first, what is not there is owed."""
    # A count may show both side by side (goods kept for others): only the change is settled.
    paid = min(backorder_qty, max(change_qty, 0.0))
    left = on_hand_qty + change_qty - paid
    return max(left, 0.0), backorder_qty - paid + max(-left, 0.0)


def _after_moves(row: Counted, moved_qty: float, counted_on: date) -> dict[str, Any]:
    on_hand_qty, backorder_qty = _settled(row.on_hand_qty, row.backorder_qty, moved_qty)
    ids = {"item_id": row.item_id, "location_id": row.location_id, "counted_on": counted_on}
    return ids | {"on_hand_qty": on_hand_qty, "reserved_qty": row.reserved_qty, "backorder_qty": backorder_qty}


def _moved_since(session: Session, counted_on: date) -> dict[SeriesKey, float]:
    """Units that moved since the start of a day; receipts of that day are counted, its sales are not."""
    is_later = (Movement.moved_on > counted_on) | ((Movement.moved_on == counted_on) & (Movement.kind == SALE))
    total = func.sum(Movement.change_qty)
    statement = select(Movement.item_id, Movement.location_id, total).where(is_later)
    rows = session.execute(statement.group_by(Movement.item_id, Movement.location_id))
    return {(item_id, location_id): float(moved_qty) for item_id, location_id, moved_qty in rows}


def _check_newer(session: Session, count: Count, *, keys: list[SeriesKey]) -> None:
    latest = session.scalar(select(func.max(Stock.counted_on)))
    if not count.is_complete:
        latest = max((row.counted_on for row in _rows_of(session, set(keys))), default=None)
    if latest is not None and latest > count.counted_on:
        raise StaleInputError(
            f"stock of {count.counted_on} is older than what is known ({latest}); send the count of {latest} or later"
        )


def _forget(session: Session, *, keys: list[SeriesKey] | None) -> None:
    if keys is None:
        session.execute(delete(Stock))
        return
    pair = tuple_(Stock.item_id, Stock.location_id)
    for part in _parts(sorted(keys)):
        session.execute(delete(Stock).where(pair.in_(part)).execution_options(synchronize_session=False))
    session.expire_all()


def _replace_orders(session: Session, given: Sequence[Ordered], *, is_complete: bool, actor: str, source: str) -> None:
    known = {order.open_order_id: order for order in session.scalars(select(OpenOrder))}
    changes: list[Change] = []
    for row in given:
        order = known.get(row.open_order_id)
        before = {} if order is None else _shown(order)
        if order is None:
            order = OpenOrder(open_order_id=row.open_order_id, line_id=None, received_qty=0.0)
            session.add(order)
        order.item_id, order.location_id, order.expected_on = row.item_id, row.location_id, row.expected_on
        order.open_qty = row.open_qty
        order.state = OrderState.OPEN if row.open_qty > 0 else OrderState.RECEIVED
        if before != _shown(order):
            changes.append(_order_change("report", order, before=before, reason=source))
    reported = {row.open_order_id for row in given}
    for order_id, order in known.items() if is_complete else ():
        # Lines that were approved here count until they are received, whether the shop's system knows them or not.
        if order_id not in reported and order.line_id is None and order.state == OrderState.OPEN:
            before = _shown(order)
            order.state, order.open_qty = OrderState.CANCELLED, 0.0
            changes.append(_order_change("drop", order, before=before, reason=f"{source}: no longer reported"))
    session.flush()
    record(session, changes, actor=actor)


def _open_order(session: Session, open_order_id: str) -> OpenOrder:
    order = session.get(OpenOrder, open_order_id, with_for_update=True, populate_existing=True)
    if order is None:
        raise NotFoundError(f"no order {open_order_id!r}; GET /v1/open-orders lists those that are open")
    if order.state != OrderState.OPEN:
        raise ConflictError(f"order {open_order_id!r} is {order.state}; nothing of it is still to come")
    return order


def _order_change(action: str, order: OpenOrder, *, before: dict[str, Any], reason: str) -> Change:
    return Change(
        action=action,
        subject="open_order",
        subject_id=order.open_order_id,
        before=before,
        after=_shown(order),
        reason=reason,
    )


def _shown(order: OpenOrder) -> dict[str, Any]:
    return {"state": str(order.state), "open_qty": order.open_qty, "expected_on": order.expected_on.isoformat()}


def _totals(session: Session) -> dict[str, Any]:
    on_hand, on_order = func.sum(Stock.on_hand_qty), func.sum(OpenOrder.open_qty)
    return {
        "on_hand_qty": float(session.scalar(select(on_hand)) or 0.0),
        "open_qty": float(session.scalar(select(on_order).where(OpenOrder.state == OrderState.OPEN)) or 0.0),
    }


def _rows_of(session: Session, keys: set[SeriesKey]) -> list[Stock]:
    return _select(session, select(Stock), Stock, keys=sorted(keys))


def _select(
    session: Session, statement: Select[Any], table: type[Row], *, keys: Sequence[SeriesKey] | None
) -> list[Row]:
    """Rows of all series, or of some, sorted by series and key."""
    in_order = statement.order_by(table.item_id, table.location_id, *inspect(table).primary_key)
    if keys is None:
        return list(session.scalars(in_order))
    pair = tuple_(table.item_id, table.location_id)
    return [row for part in _parts(sorted(keys)) for row in session.scalars(in_order.where(pair.in_(part)))]


def _parts(keys: list[SeriesKey]) -> Iterable[list[SeriesKey]]:
    # SQLite takes a limited number of variables.
    return (keys[start : start + _KEYS_AT_A_TIME] for start in range(0, len(keys), _KEYS_AT_A_TIME))


def _check_distinct(names: Sequence[object], *, what: str) -> None:
    seen: dict[object, int] = defaultdict(int)
    for name in names:
        seen[name] += 1
        if seen[name] > 1:
            raise DataError(f"{what} {name!r} is named twice; send one row of it")


def _table(rows: Sequence[Any], names: Sequence[str], schema: pa.Schema) -> pa.Table:
    columns = {
        field.name: pa.array([getattr(row, name) for row in rows], field.type)
        for name, field in zip(names, schema, strict=True)
    }
    return pa.table(columns, schema=schema)
