"""One thread per replica for arithmetic, so that its event loop stays free for health checks and cancellations."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

from serve.metrics import DEPLOYMENT_SECONDS, meter

Arguments = TypeVarTuple("Arguments")
Answer = TypeVar("Answer")


class Worker:
    """Runs functions one after another, timed: each already uses all the CPU that the replica has."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, compute: Callable[[*Arguments], Answer], *arguments: *Arguments) -> Answer:
        """Answer of ``compute``, without blocking the event loop."""
        started = time.perf_counter()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, compute, *arguments)
        finally:
            meter().observe(DEPLOYMENT_SECONDS, time.perf_counter() - started, self._name)
