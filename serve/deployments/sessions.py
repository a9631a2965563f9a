"""What users do right now, as a deployment: one replica, so that every other one is told the same."""

import time
from collections.abc import Sequence

from cluster.config import Settings
from recsys.sessions import LiveEvent, SessionStore
from serve.metrics import Measured


class SessionReplica(Measured):
    """Keeps the last events of the users who are active, in this process: a restart forgets them."""

    def __init__(self, settings: Settings) -> None:
        limits = settings.serve
        self._store = SessionStore(
            max_users=limits.session_users,
            max_items=limits.session_items,
            events_per_user=limits.session_events,
            ttl_s=limits.session_ttl_s,
        )

    async def observe(self, user_id: str, events: Sequence[LiveEvent]) -> int:
        """Keep events of one user; how many were new."""
        now_s = int(time.time())
        return sum(self._store.add(user_id, event, now_s=now_s) for event in events)

    async def recent(self, user_ids: Sequence[str]) -> dict[str, tuple[LiveEvent, ...]]:
        """Events of each user whose session is not over, oldest first."""
        now_s = int(time.time())
        return {user_id: self._store.events(user_id, now_s=now_s) for user_id in user_ids}

    async def check(self) -> str:
        """How many users it knows."""
        return f"{len(self._store)} users"
