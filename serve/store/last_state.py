"""Reads that go on while the database is down: the last answer to the same question, and since when it is old."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import Any

from sqlalchemy.orm import Session

from serve.store.database import Database, DatabaseDownError

_MAX_ANSWERS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAnswer:
    """An answer, when it was read, and whether the database gave it just now."""

    value: Any
    read_at: datetime
    is_fresh: bool


class LastState:
    """Keeps the last answers of this process, the least recently used making room."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._answers: OrderedDict[str, KnownAnswer] = OrderedDict()
        self._lock = Lock()

    def read(self, question: str, query: Callable[[Session], Any]) -> KnownAnswer:
        """Answer of a query; if the database does not answer, its last answer to the same question.

        Raises
        ------
        DatabaseDownError
            If that was never asked before.
        """
        try:
            with self._database.reading() as session:
                value = query(session)
        except DatabaseDownError:
            with self._lock:
                if question in self._answers:
                    return self._answers[question]
            raise
        read_at = datetime.now(UTC)
        with self._lock:
            self._answers[question] = KnownAnswer(value=value, read_at=read_at, is_fresh=False)
            self._answers.move_to_end(question)
            while len(self._answers) > _MAX_ANSWERS:
                self._answers.popitem(last=False)
        return KnownAnswer(value=value, read_at=read_at, is_fresh=True)
