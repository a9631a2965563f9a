"""Brings to a replica what the database was told, when a request needs it: nobody asks, nothing is read."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from sqlalchemy.orm import Session

from cluster.config import Settings
from cluster.errors import RestockError
from serve.store.database import open_database

_EVERY_S = 0.25
_PATIENCE_S = 0.1
_log = logging.getLogger("restock.serve")
News = TypeVar("News")


class Follower(Generic[News]):
    """Looks into the database now and then, one look at a time.

    Parameters
    ----------
    read
        What is new since the last call; called in a thread.
    take
        Called on the event loop with what was read.
    """

    def __init__(self, settings: Settings, *, read: Callable[[Session], News], take: Callable[[News], None]) -> None:
        self._database = open_database(settings)
        self._read = read
        self._take = take
        self._looked_s = 0.0
        self._looking: asyncio.Task[None] | None = None

    async def catch_up(self, *, patience_s: float = _PATIENCE_S) -> None:
        """Know what was told until a quarter of a second ago, unless the database takes longer than ``patience_s``."""
        if time.monotonic() - self._looked_s < _EVERY_S:
            return
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        await asyncio.wait({self._looking}, timeout=patience_s)

    async def _look(self) -> None:
        try:
            self._take(await asyncio.to_thread(self._read_once))
        except RestockError as error:
            _log.warning("live events and stock: %s; what is known already is used", error)
        finally:
            self._looked_s = time.monotonic()

    def _read_once(self) -> News:
        with self._database.reading() as session:
            return self._read(session)
