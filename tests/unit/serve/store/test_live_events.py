"""Live events in SQL: each once, read back by whoever recommends, dropped when old; on SQLite and PostgreSQL."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from planned_shop import TODAY, Shop, count_stock
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from recsys.sessions import LiveEvent
from serve.store.database import Database
from serve.store.intake import take_once
from serve.store.live_events import EVENTS, EventReader, ForgottenReader, keep_events
from serve.store.stock_book import Sold, book_sales
from serve.store.sweeper import Sweeper
from serve.store.tables import AuditRow, Batch, ForgottenUser, LiveEventRow, Movement, Stock

CLIENTS = 50
NOW = datetime.now(UTC).replace(microsecond=0)
SHOP = Shop(num_series=2)


def event(item_id: str, *, seconds_ago: int = 60, behaviour: str = "view") -> LiveEvent:
    return LiveEvent(item_id=item_id, behaviour=behaviour, at_s=int(NOW.timestamp()) - seconds_ago)


def tell(database: Database, events: Sequence[LiveEvent], *, user_id: str = "ann") -> int:
    with database.writing() as session:
        return keep_events(session, {user_id: events}, now=NOW)


def read(database: Database, reader: EventReader) -> list[tuple[str, str]]:
    with database.reading() as session:
        return [(user_id, event.item_id) for user_id, event, _ in reader.read(session)]


def backdate(database: Database, *, item_id: str, by: timedelta) -> None:
    with database.writing() as session:
        theirs = update(LiveEventRow).where(LiveEventRow.item_id == item_id)
        session.execute(theirs.values(told_at=datetime.now(UTC) - by))


def test_an_event_is_kept_once(database: Database) -> None:
    assert tell(database, [event("a"), event("a"), event("b")]) == 2
    assert tell(database, [event("b"), event("b", behaviour="cart"), event("b", seconds_ago=59)]) == 2
    assert tell(database, [event("a")], user_id="ben") == 1
    assert tell(database, []) == 0


def test_what_has_no_time_or_a_later_one_is_of_now(database: Database) -> None:
    assert tell(database, [LiveEvent(item_id="a"), event("a", seconds_ago=-500)]) == 1
    with database.reading() as session:
        assert session.scalars(select(LiveEventRow.occurred_at)).all() == [NOW]


def test_a_reader_sees_each_event_once_in_the_order_of_telling(database: Database) -> None:
    reader = EventReader(ttl_s=1_800)
    assert read(database, reader) == []
    tell(database, [event("a")])
    tell(database, [event("b", seconds_ago=100)], user_id="ben")
    assert read(database, reader) == [("ann", "a"), ("ben", "b")]
    tell(database, [event("a"), event("c")])
    assert read(database, reader) == [("ann", "c")]
    assert read(database, reader) == []


def test_a_transaction_that_is_seen_late_is_not_missed(database: Database) -> None:
    reader = EventReader(ttl_s=1_800)
    tell(database, [event("a")])
    assert read(database, reader) == [("ann", "a")]
    tell(database, [event("b")])
    backdate(database, item_id="b", by=timedelta(seconds=2))
    assert read(database, reader) == [("ann", "b")]


def test_an_event_in_place_of_a_deleted_one_is_read(database: Database) -> None:
    reader = EventReader(ttl_s=1_800)
    tell(database, [event("a")])
    assert read(database, reader) == [("ann", "a")]
    with database.writing() as session:
        session.execute(delete(LiveEventRow))
    tell(database, [event("b")])
    assert read(database, reader) == [("ann", "b")]


def test_a_reader_that_starts_again_knows_the_sessions_that_are_not_over(database: Database) -> None:
    tell(database, [event("a"), event("b")])
    backdate(database, item_id="a", by=timedelta(seconds=1_900))
    assert read(database, EventReader(ttl_s=1_800)) == [("ann", "b")]


def test_old_events_go_with_their_batches(database: Database) -> None:
    for item_id in ("old", "new"):
        with database.writing() as session:
            content = {"user_id": "ann", "item_id": item_id}
            told = {"ann": [event(item_id)]}
            take_once(
                session,
                kind=EVENTS,
                key=item_id,
                content=content,
                actor="till",
                act=lambda told=told, session=session: {"num_kept": keep_events(session, told, now=NOW)},
            )
    backdate(database, item_id="old", by=timedelta(days=8))
    with database.writing() as session:
        session.execute(update(Batch).where(Batch.batch_key == "old").values(received_at=NOW - timedelta(days=8)))
    assert Sweeper(database, days=7, session_ttl_s=1_800).sweep_once() == 1
    with database.reading() as session:
        assert session.scalars(select(LiveEventRow.item_id)).all() == ["new"]
        assert session.scalars(select(Batch.batch_key)).all() == ["new"]


def test_who_is_forgotten_is_told_to_each_reader_once_and_not_kept_for_long(database: Database) -> None:
    def tell_of(user_id: str, *, seconds_ago: int = 0) -> None:
        with database.writing() as session:
            session.add(ForgottenUser(user_id=user_id, forgotten_at=NOW - timedelta(seconds=seconds_ago)))

    def forgotten(reader: ForgottenReader) -> list[str]:
        with database.reading() as session:
            return reader.read(session)

    reader = ForgottenReader(ttl_s=1_800)
    assert forgotten(reader) == []
    tell_of("ann")
    tell_of("eve", seconds_ago=1_900)  # her session is over, whatever replica it was in
    assert forgotten(reader) == ["ann"]
    tell_of("ben", seconds_ago=3)  # a clock that is late, or a transaction that took long
    tell_of("ann")
    assert forgotten(reader) == ["ben", "ann"]
    assert forgotten(reader) == []
    assert forgotten(ForgottenReader(ttl_s=1_800)) == ["ann", "ben", "ann"]
    Sweeper(database, days=7, session_ttl_s=1_800).sweep_once()
    with database.reading() as session:
        assert session.scalars(select(ForgottenUser.user_id)).all() == ["ann", "ben", "ann"]


def test_fifty_clients_tell_the_same_orders_and_events_at_once(database: Database) -> None:
    count_stock(database, SHOP, on_hand_qty=10)
    items = [item_id for item_id, _ in SHOP.keys]

    bought = {"ann": [event(item_id, behaviour="purchase") for item_id in items]}
    sales = [Sold(item_id=item_id, location_id="main", sold_qty=1.0, sold_on=TODAY) for item_id in items]

    def sell(session: Session, client: int) -> dict[str, Any]:
        answer = book_sales(session, sales, actor=f"c{client}", source="batch")
        return answer | {"num_kept": keep_events(session, bought, now=NOW)}

    def orders(client: int) -> bool:
        with database.writing() as session:
            return take_once(
                session,
                kind="orders",
                key="batch",
                content=items,
                actor=f"c{client}",
                act=lambda: sell(session, client),
            )[1]

    def visit(client: int) -> bool:
        # Two batches share their events, told in opposite orders.
        told = [event("a"), event("b")][:: 1 if client % 4 == 1 else -1]
        with database.writing() as session:
            return take_once(
                session,
                kind=EVENTS,
                key=f"visit-{client % 4}",
                content="visit",
                actor=f"c{client}",
                act=lambda: {"num_kept": keep_events(session, {"ann": told}, now=NOW)},
            )[1]

    with ThreadPoolExecutor(CLIENTS) as clients:
        repeats = list(clients.map(lambda client: (orders if client % 2 == 0 else visit)(client), range(CLIENTS)))
    assert repeats.count(False) == 3
    with database.reading() as session:
        counts = {table: session.scalar(select(func.count()).select_from(table)) for table in (LiveEventRow, Movement)}
        assert counts == {LiveEventRow: 4, Movement: 2}
        assert set(session.scalars(select(Stock.on_hand_qty))) == {9.0}
        taken = select(AuditRow.subject, func.count()).where(AuditRow.action == "take").group_by(AuditRow.subject)
        assert dict(session.execute(taken).all()) == {"orders": 1, EVENTS: 2}
        kept = [batch.answer["num_kept"] for batch in session.scalars(select(Batch).where(Batch.kind == EVENTS))]
        assert sorted(kept) == [0, 2]
