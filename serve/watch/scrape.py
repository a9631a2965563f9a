"""Gathers what every process of the service has measured, as Prometheus text.

Serve's proxy gives each request to one replica of the ingress, so that a page about that replica alone would show other
counters at every scrape. The replica that is asked therefore asks all others, of every deployment, at once.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from serve.store.database import Database
from serve.watch.book_metrics import read_book
from serve.watch.metrics import Reading, merge, meter

_ANSWER_S = 5.0
_log = logging.getLogger("restock.serve")


class _Families(Collector):
    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Family]:
        yield from self._families


async def scrape(handles: Iterable[Any], *, database: Database) -> bytes:
    """Metrics of this process, of every replica behind the handles, and of the database.

    What does not answer in time is left out and named in the log: the rest is shown.
    """
    asked = asyncio.gather(*(_readings(handle) for handle in handles))
    book = await _book(database)
    answers = await asked
    found = [meter().read(), *(reading for answer in answers for reading in answer)]
    registry = CollectorRegistry()
    registry.register(_Families([*merge(found), *book]))
    return generate_latest(registry)


async def _book(database: Database) -> tuple[Family, ...]:
    try:
        return await asyncio.wait_for(asyncio.to_thread(read_book, database), timeout=_ANSWER_S)
    except TimeoutError:
        _log.warning("metrics: the database did not answer within %g s", _ANSWER_S)
        return ()


async def _readings(handle: Any) -> list[Reading]:
    # What lives in this process has no handle that broadcasts, and its values are in this process's meter.
    if not hasattr(handle, "broadcast"):
        return []
    try:
        asked = handle.broadcast("read_meter")
        answers = await asked.results_async(timeout_s=_ANSWER_S, return_exceptions=True)
    except Exception as error:
        answers = [error]
    for answer in answers:
        if not isinstance(answer, Reading):
            _log.warning("metrics: a replica did not answer: %s", getattr(answer, "cause", None) or answer)
    return [answer for answer in answers if isinstance(answer, Reading)]
