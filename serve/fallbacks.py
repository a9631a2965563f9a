"""What is answered when a model does not: something older or simpler, and marked as such.

A refusal (a request that no model could answer) is passed on. Anything else, and silence, makes the fallback answer;
if that cannot either, the first reason counts.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cluster.errors import RestockError

_SERVER_ERROR = 500
_log = logging.getLogger("restock.serve")
Answer = TypeVar("Answer")


async def first_answer(
    ask: Callable[[], Awaitable[Answer]],
    *,
    fall_back: Callable[[], Awaitable[Answer]] | None,
    patience_s: float,
    what: str,
) -> Answer:
    """Answer of ``ask``; if there is a fallback, that of ``fall_back`` when ``ask`` fails or takes too long."""
    if fall_back is None:
        return await ask()
    try:
        async with asyncio.timeout(patience_s):
            return await ask()
    except Exception as error:
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, RestockError) and cause.http_status < _SERVER_ERROR:
            raise
        _log.warning("%s: %s; falling back", what, str(cause) or type(cause).__name__)
        try:
            return await fall_back()
        except Exception as also:
            _log.warning("%s: no fallback either: %s", what, getattr(also, "cause", None) or also)
            raise error from also
