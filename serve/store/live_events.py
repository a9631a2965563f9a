"""Live events in SQL: written with their batch, read back by whoever recommends, deleted when they are old.

Who recommends looks at what was told since the last look, a little further back each time: clocks of processes differ,
and a transaction is seen later than it was begun.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, Delete, delete, select
from sqlalchemy.orm import Session

from cluster.config import Settings
from cluster.privacy import open_user_ids
from recsys.sessions import LiveEvent
from serve.store.database import insert_missing, open_database
from serve.store.tables import Batch, ForgottenUser, LiveEventRow

EVENTS = "events"
_OVERLAP = timedelta(seconds=5)
_MOST_AT_ONCE = 20_000


def keep_events(session: Session, events_of: Mapping[str, Sequence[LiveEvent]], *, now: datetime) -> int:
    """Write down what users did, each event once; how many were new. An event without a time is one of ``now``."""
    now_s = int(now.timestamp())
    told = {
        (user_id, now_s if event.at_s is None else min(event.at_s, now_s), event.item_id, event.behaviour)
        for user_id, events in events_of.items()
        for event in events
    }
    told_at = datetime.now(UTC)
    rows = [
        {
            "user_id": user_id,
            "item_id": item_id,
            "behaviour": behaviour,
            "occurred_at": datetime.fromtimestamp(at_s, UTC),
            "told_at": told_at,
        }
        # In one order, so that two batches of the same events do not wait for each other.
        for user_id, at_s, item_id, behaviour in sorted(told)
    ]
    return insert_missing(session, LiveEventRow, rows)


class EventReader:
    """Reads each live event once, beginning with those of sessions that are not over: a restart loses none."""

    def __init__(self, *, ttl_s: int) -> None:
        self._ttl = timedelta(seconds=ttl_s)
        self._seen: dict[int, datetime] = {}

    def read(self, session: Session) -> list[tuple[str, LiveEvent, int]]:
        """User, event and second of telling of the events since the last call, in the order of telling."""
        newest = max(self._seen.values(), default=None)
        since = datetime.now(UTC) - self._ttl if newest is None else newest - _OVERLAP
        statement = select(LiveEventRow).where(LiveEventRow.told_at >= since)
        latest = statement.order_by(LiveEventRow.told_at.desc(), LiveEventRow.event_id.desc()).limit(_MOST_AT_ONCE)
        # By its moment too: SQLite gives the number of a deleted row to the next one.
        rows = [row for row in session.scalars(latest) if self._seen.get(row.event_id) != row.told_at][::-1]
        self._seen |= {row.event_id: row.told_at for row in rows}
        if rows:
            kept_since = rows[-1].told_at - _OVERLAP
            self._seen = {event_id: at for event_id, at in self._seen.items() if at >= kept_since}
        return [(row.user_id, _event_of(row), int(row.told_at.timestamp())) for row in rows]


class ForgottenReader:
    """Reads each user who asked to be forgotten once, beginning with those whose session might not be over."""

    def __init__(self, *, ttl_s: int) -> None:
        self._ttl = timedelta(seconds=ttl_s)
        self._seen: set[tuple[int, datetime]] = set()

    def read(self, session: Session) -> list[str]:
        """Names of those who were forgotten since the last call."""
        # All that are kept, and by what was seen: they are few, and a transaction may be seen after a later one.
        since = datetime.now(UTC) - self._ttl
        rows = session.scalars(select(ForgottenUser).where(ForgottenUser.forgotten_at >= since)).all()
        new = [row.user_id for row in rows if (row.forgotten_id, row.forgotten_at) not in self._seen]
        self._seen = {(row.forgotten_id, row.forgotten_at) for row in rows}
        return new


def drop_old_events(session: Session, *, before: datetime, ttl_s: int) -> int:
    """Delete events that were told before a moment, and their batches; how many events they were.

    Nor is it kept any longer who was forgotten more than a session's ``ttl_s`` ago.
    """
    since = datetime.now(UTC) - timedelta(seconds=ttl_s)
    _delete(session, delete(ForgottenUser).where(ForgottenUser.forgotten_at < since))
    _delete(session, delete(Batch).where(Batch.kind == EVENTS, Batch.received_at < before))
    return _delete(session, delete(LiveEventRow).where(LiveEventRow.told_at < before))


def forget_events(settings: Settings, user_id: str) -> int:
    """Delete all live events of a user, called as the shop does; how many they were.

    Replicas that run learn of it with the next request, and forget the user's session and history.

    Raises
    ------
    DatabaseDownError
        If the database does not answer.
    """
    names = open_user_ids(settings).names_of(user_id)
    database = open_database(settings)
    try:
        with database.writing() as session:
            now = datetime.now(UTC)
            session.add_all(ForgottenUser(user_id=name, forgotten_at=now) for name in names)
            return _delete(session, delete(LiveEventRow).where(LiveEventRow.user_id.in_(names)))
    finally:
        database.close()


def _delete(session: Session, statement: Delete) -> int:
    return cast(CursorResult[Any], session.execute(statement)).rowcount


def _event_of(row: LiveEventRow) -> LiveEvent:
    return LiveEvent(item_id=row.item_id, behaviour=row.behaviour, at_s=int(row.occurred_at.timestamp()))
