"""One thread per replica for arithmetic, so that its event loop stays free for health checks and cancellations."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TypeVar, TypeVarTuple

from serve.watch.metrics import DEPLOYMENT_SECONDS, meter

Arguments = TypeVarTuple("Arguments")
Answer = TypeVar("Answer")
_log = logging.getLogger("restock.hops")


class Worker:
    """Runs functions one after another, timed and logged: each already uses all the CPU that the replica has."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, compute: Callable[[*Arguments], Answer], *arguments: *Arguments) -> Answer:
        """Answer of ``compute``, without blocking the event loop."""
        started = time.perf_counter()
        # With the request's context, so that what is logged in the thread has its id.
        in_context = partial(copy_context().run, compute, *arguments)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, in_context)
        finally:
            seconds = time.perf_counter() - started
            meter().observe(DEPLOYMENT_SECONDS, seconds, self._name)
            step = getattr(compute, "func", compute).__name__.strip("_")
            fields = {"deployment": self._name, "step": step, "milliseconds": round(seconds * 1000, 1)}
            _log.info("step", extra={"fields": fields})
