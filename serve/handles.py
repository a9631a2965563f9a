"""How routes and planner reach the replicas: in this process, or over Serve's handles with patience.

Both answer ``handle.method.remote(...)`` with an awaitable and take ``handle.options(session_id=...)``, so that nobody
who holds one knows the layout. This module imports no model and no Ray.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

_PAUSES_S = (0.02, 0.1, 0.3, 0.6, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Handles of the replicas; anything whose methods answer to ``.remote()`` with an awaitable will do."""

    forecaster: Any
    recommender: Any
    policy: Any
    planner: Any


class LocalHandle:
    """Calls a replica that lives in this process."""

    def __init__(self, replica: Any) -> None:
        self._replica = replica

    def options(self, **_: Any) -> "LocalHandle":
        """Keep to the one replica that there is."""
        return self

    def __getattr__(self, name: str) -> "_LocalMethod":
        return _LocalMethod(getattr(self._replica, name))


class _LocalMethod:
    def __init__(self, method: Any) -> None:
        self.remote = method


class PatientHandle:
    """A deployment's handle that asks another replica when the one that was asked is lost.

    Every method of every deployment may be asked twice: what they keep, they keep once.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._methods: dict[str, _PatientMethod] = {}

    def options(self, **options: Any) -> "PatientHandle":
        """The same handle with other options of Serve's, such as ``session_id``."""
        return PatientHandle(self._handle.options(**options))

    def broadcast(self, *arguments: Any, **named: Any) -> Any:
        """Ask every replica, as Serve's handle does; who is lost is missing."""
        return self._handle.broadcast(*arguments, **named)

    def __getattr__(self, name: str) -> "_PatientMethod":
        if name not in self._methods:
            self._methods[name] = _PatientMethod(getattr(self._handle, name))
        return self._methods[name]


class _PatientMethod:
    def __init__(self, method: Any) -> None:
        self._method = method

    async def remote(self, *arguments: Any, **named: Any) -> Any:
        for pause_s in _PAUSES_S:
            try:
                return await self._method.remote(*arguments, **named)
            except Exception as error:
                if not _is_lost_replica(error):
                    raise
            # Serve learns of a death within moments; until then it may choose the dead one again.
            await asyncio.sleep(pause_s)
        return await self._method.remote(*arguments, **named)


def _is_lost_replica(error: Exception) -> bool:
    """Whether the replica went away, rather than answered with an error of its own."""
    from ray.exceptions import RayActorError  # here: a process without Ray never gets so far

    return isinstance(error, RayActorError)
