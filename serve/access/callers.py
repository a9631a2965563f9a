"""Whose a token is: the database is asked once in some seconds, and its last answer counts while it is down."""

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from serve.access.roles import Role
from serve.access.tokens import Token, token_id_of
from serve.problems import NotReadyError

_MAX_KEPT: Final = 10_000
_log = logging.getLogger("restock.serve")


class Finder(Protocol):
    """Who knows tokens: ``serve.access.tokens.TokenBook``."""

    def find(self, text: str) -> Token | None:
        """The valid token of this text."""

    def note_use(self, token: Token) -> None:
        """Write down that a token is used now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who sends a request. ``key`` is what rates are counted by."""

    name: str
    role: Role
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    token: Token | None
    asked_at: float


class Callers:
    """Tells callers by their tokens.

    Parameters
    ----------
    fresh_s
        An answer of the book counts for so long: a revoked token may be used until then.
    stale_s
        If the book does not answer, a token that it confirmed so recently still counts.
    """

    def __init__(
        self, book: Finder, *, fresh_s: float, stale_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._book = book
        self._fresh_s = fresh_s
        self._stale_s = stale_s
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._notes: set[asyncio.Task[None]] = set()

    async def caller_of(self, text: str) -> Caller | None:
        """Who sends this token; None if it is none, or no longer valid.

        Raises
        ------
        NotReadyError
            If the database does not answer and the token was not confirmed lately.
        """
        if token_id_of(text) is None:
            return None
        # Kept under its hash: a dump of this process's memory need not hold every caller's secret.
        key = hashlib.sha256(text.encode()).digest()
        known = self._known.get(key)
        if known is None or self._clock() - known.asked_at > self._fresh_s:
            known = await self._ask(key, text, known)
        token = known.token
        if token is None or not token.is_valid(datetime.now(UTC)):
            return None
        return Caller(name=token.name, role=token.role, key=token.token_id)

    async def _ask(self, key: bytes, text: str, known: _Known | None) -> _Known:
        asked_at = self._clock()
        try:
            token = await asyncio.to_thread(self._book.find, text)
        except NotReadyError as error:
            if known is not None and known.token is not None and asked_at - known.asked_at <= self._stale_s:
                _log.warning("tokens: %s; %s counts as confirmed before", error, known.token.name)
                return known
            raise
        if token is not None:
            # Beside the request: it does not wait for other writers of the database.
            note = asyncio.create_task(asyncio.to_thread(self._book.note_use, token))
            self._notes.add(note)
            note.add_done_callback(self._notes.discard)
        found = _Known(token=token, asked_at=asked_at)
        self._known[key] = found
        self._known.move_to_end(key)
        if len(self._known) > _MAX_KEPT:
            self._known.popitem(last=False)
        return found
