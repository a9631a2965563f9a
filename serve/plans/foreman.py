"""The foreman of an ingress: works on plan runs beside the requests, one at a time.

Every ingress has one. They share the work through the database: a run waits there until one of them claims it, and a
run whose ingress died is taken over by another, or by the next that starts.
"""

import asyncio
import logging
from typing import Any

from cluster.settings.service import PlanSettings
from serve.answers import PlanAnswer, PlanQuestion
from serve.plans.work import work_on_run, worker_name
from serve.problems import NotReadyError
from serve.store.database import Database

_LOOKS_PER_LEASE = 12
_log = logging.getLogger("restock.serve")


class Foreman:
    """Claims runs and has the planner compute them.

    Parameters
    ----------
    planner
        Handle of the planner.
    """

    def __init__(self, database: Database, planner: Any, *, settings: PlanSettings) -> None:
        self._database = database
        self._planner = planner
        self._settings = settings
        self._worker = worker_name()
        self._is_called = asyncio.Event()
        self._is_stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look for work, on the running event loop."""
        self._task = asyncio.create_task(self._work())

    def call(self) -> None:
        """Look for work now: a run was queued."""
        self._is_called.set()

    async def stop(self) -> None:
        """End after the chunk that is being planned; its run waits for the next foreman."""
        self._is_stopping = True
        self.call()
        if self._task is not None:
            await self._task

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()

        def plan(question: PlanQuestion) -> PlanAnswer:
            if self._is_stopping:
                raise NotReadyError("this process ends; the run waits for another")
            return asyncio.run_coroutine_threadsafe(self._ask(question), loop).result()

        while not self._is_stopping:
            self._is_called.clear()
            if not await asyncio.to_thread(self._work_once, plan):
                await self._wait()

    async def _ask(self, question: PlanQuestion) -> PlanAnswer:
        try:
            return await self._planner.plan.remote(question)
        except Exception as error:
            # What crossed a handle arrives wrapped.
            cause = getattr(error, "cause", None)
            if isinstance(cause, Exception):
                raise cause from error
            raise

    def _work_once(self, plan: Any) -> bool:
        """Work on one run; whether there may be another at once."""
        try:
            run_id = work_on_run(self._database, plan, settings=self._settings, worker=self._worker)
        except NotReadyError as error:
            _log.warning("foreman: %s", error)
            return False
        except Exception:
            # A bug must not end all planning: the next run may be sound.
            _log.exception("foreman: looking for work failed")
            return False
        return run_id is not None

    async def _wait(self) -> None:
        # Nobody calls when a worker dies: look now and then.
        try:
            async with asyncio.timeout(self._settings.lease_s / _LOOKS_PER_LEASE):
                await self._is_called.wait()
        except TimeoutError:
            pass
