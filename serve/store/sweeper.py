"""Deletes live events that have been kept long enough, as long as the service runs."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from cluster.errors import RestockError
from serve.store.database import Database
from serve.store.live_events import drop_old_events

_FIRST_S = 60.0
_EVERY_S = 3_600.0
_log = logging.getLogger("restock.serve")


class Sweeper:
    """Sweeps every hour; every ingress has one, and it does not matter which is first."""

    def __init__(self, database: Database, *, days: int, session_ttl_s: int) -> None:
        self._database = database
        self._days = days
        self._session_ttl_s = session_ttl_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._task = asyncio.create_task(self._sweep())

    def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()

    async def _sweep(self) -> None:
        await asyncio.sleep(_FIRST_S)
        while True:
            try:
                dropped = await asyncio.to_thread(self.sweep_once)
                _log.info("sweeper: %d live events are older than %d days and gone", dropped, self._days)
            except RestockError as error:
                _log.warning("sweeper: %s", error)
            await asyncio.sleep(_EVERY_S)

    def sweep_once(self) -> int:
        """Delete what is old now; how many events it was."""
        with self._database.writing() as session:
            before = datetime.now(UTC) - timedelta(days=self._days)
            return drop_old_events(session, before=before, ttl_s=self._session_ttl_s)
