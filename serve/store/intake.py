"""Batches told once: a repeated one is answered as before and changes nothing."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from cluster.dataset import Dataset
from cluster.errors import ConflictError, StaleInputError
from cluster.manifest import digest_of
from cluster.schema import Col
from serve.store.audit import Change, record
from serve.store.database import Database, insert_first
from serve.store.stock_book import Count, Counted, Ordered, take_count
from serve.store.tables import Batch


def take_once(
    session: Session, *, kind: str, key: str, content: object, actor: str, act: Callable[[], dict[str, Any]]
) -> tuple[dict[str, Any], bool]:
    """Do ``act`` and keep its answer under a key, unless that was done; the answer, and whether it is a repeat.

    Raises
    ------
    ConflictError
        If the key was used for other content.
    """
    digest = digest_of(content)
    row = {"kind": kind, "batch_key": key, "digest": digest, "answer": {}}
    if not insert_first(session, Batch, row | {"received_at": datetime.now(UTC), "received_from": actor}):
        found = session.scalars(select(Batch).where(Batch.kind == kind, Batch.batch_key == key)).one()
        if found.digest != digest:
            raise ConflictError(f"the key {key!r} was used for other {kind}; give new content a new key")
        return dict(found.answer), True
    answer = act()
    session.execute(update(Batch).where(Batch.kind == kind, Batch.batch_key == key).values(answer=answer))
    change = Change(action="take", subject=kind, subject_id=key, after=answer, reason=f"digest {digest}")
    record(session, [change], actor=actor)
    return answer, False


def adopt_stock(database: Database, dataset: Dataset) -> bool:
    """Take the stock of a dataset into the book, once, unless the book is newer; whether it was taken.

    A dataset whose stock is of several days is left alone: plans would refuse it.
    """
    stock, orders = dataset.table("stock"), dataset.table("open_orders")
    if stock is None or not stock.num_rows or len(stock[Col.SNAPSHOT_ON].unique()) != 1:
        return False
    rows = stock.to_pylist()
    count = Count(
        counted_on=rows[0][Col.SNAPSHOT_ON],
        stock=[
            Counted(
                item_id=row[Col.ITEM_ID],
                location_id=row[Col.LOCATION_ID],
                on_hand_qty=row[Col.ON_HAND_QTY],
                reserved_qty=row[Col.RESERVED_QTY] or 0.0,
                backorder_qty=row[Col.BACKORDER_QTY] or 0.0,
            )
            for row in rows
        ],
        open_orders=None if orders is None else _ordered(orders.to_pylist()),
        is_complete=True,
    )
    actor = source = f"dataset {dataset.digest}"
    try:
        with database.writing() as session:
            _, is_repeat = take_once(
                session,
                kind="dataset",
                key=dataset.digest,
                content=dataset.digest,
                actor=actor,
                act=lambda: take_count(session, count, actor=actor, source=source),
            )
    except StaleInputError:
        return False
    return not is_repeat


def _ordered(rows: list[dict[str, Any]]) -> list[Ordered]:
    return [
        Ordered(
            # A row without an id is known by its place in the file.
            open_order_id=row[Col.OPEN_ORDER_ID] or f"row-{number + 1}",
            item_id=row[Col.ITEM_ID],
            location_id=row[Col.LOCATION_ID],
            open_qty=row[Col.OPEN_QTY],
            expected_on=row[Col.EXPECTED_ON],
        )
        for number, row in enumerate(rows)
    ]
