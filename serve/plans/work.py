"""Working on plan runs: claim one, compute and store it chunk by chunk, finish it.

The same in the service, where the chunks are answered by the planner's replicas, and on the command line.
"""

import logging
import os
import socket
import uuid
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from cluster.errors import ConflictError, RestockError
from cluster.panel import IntArray
from cluster.schema import Col
from cluster.settings.service import PlanSettings
from serve.answers import PlanAnswer, PlanQuestion
from serve.plans.rows import PlannedChunk
from serve.plans.runs import ClaimedRun, RunLostError, claim_run, fail_run, finish_run, keep_chunk, release_run
from serve.problems import NotReadyError
from serve.store.database import Database, DatabaseDownError
from serve.store.history import SeriesKey

Planner = Callable[[PlanQuestion], PlanAnswer]
_log = logging.getLogger("restock.serve")


def worker_name() -> str:
    """A name for a worker that no other has, and that says where it is."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def work_on_run(
    database: Database, planner: Planner, *, settings: PlanSettings, worker: str, run_id: str | None = None
) -> str | None:
    """Compute the run asked for, else the oldest that waits; its id, or None if nothing waits.

    What makes the plan impossible fails the run, with the reason. If a model does not answer, the run waits again; if
    the database does not, it waits for the end of the lease.

    Raises
    ------
    DatabaseDownError, NotReadyError
        If something did not answer.
    """
    run = claim_run(database, worker=worker, lease_s=settings.lease_s, run_id=run_id)
    if run is None:
        return None
    try:
        inputs = _ChunkInputs(run, settings=settings)
        for start in range(run.num_planned, len(run.seen), settings.chunk_series):
            answer = planner(inputs.question(start))
            _check_models(run, answer)
            keep_chunk(database, run, _chunk_of(answer), start=start, settings=settings)
        finish_run(database, run, settings=settings)
    except RunLostError as lost:
        _log.info("%s", lost)
    except NotReadyError:
        _release(database, run)
        raise
    except RestockError as error:
        fail_run(database, run, failure=str(error))
    except Exception:
        _log.exception("run %s failed", run.run_id)
        fail_run(database, run, failure="a bug: the service's log has it under the id of this run")
    return run.run_id


def _release(database: Database, run: ClaimedRun) -> None:
    try:
        release_run(database, run)
    except DatabaseDownError as error:
        _log.warning("run %s waits for the end of its lease: %s", run.run_id, error)


class _ChunkInputs:
    """A run's tables, sorted out by the chunk that each row belongs to."""

    def __init__(self, run: ClaimedRun, *, settings: PlanSettings) -> None:
        self._run = run
        self._num_series = settings.chunk_series
        # Nobody waits at the other end: until another worker would take the run over.
        self._patience_s = settings.lease_s
        self._keys = [(row.item_id, row.location_id) for row in run.seen]
        position_of = {key: position for position, key in enumerate(self._keys)}
        self._stock = None if run.stock is None else (run.stock, self._chunk_R(run.stock, position_of))
        self._open_orders = run.open_orders, self._chunk_R(run.open_orders, position_of)

    def question(self, start: int) -> PlanQuestion:
        """What the planner is asked for the series from ``start`` on."""
        keys = self._keys[start : start + self._num_series]
        chunk = start // self._num_series
        return PlanQuestion(
            series=keys,
            limit=len(keys),
            as_of=self._run.on_date,
            stock=None if self._stock is None else _rows_of(*self._stock, chunk),
            open_orders=_rows_of(*self._open_orders, chunk),
            patience_s=self._patience_s,
        )

    def _chunk_R(self, table: pa.Table, position_of: dict[SeriesKey, int]) -> IntArray:
        pairs = zip(table[Col.ITEM_ID].to_pylist(), table[Col.LOCATION_ID].to_pylist(), strict=True)
        # Rows of series that are not planned go with the first chunk, whose notes name those that nobody knows.
        positions = [position_of.get(pair, 0) for pair in pairs]
        return np.array(positions, dtype=np.int64) // self._num_series


def _rows_of(table: pa.Table, chunk_R: IntArray, chunk: int) -> pa.Table:
    return table.filter(pa.array(chunk_R == chunk))


def _chunk_of(answer: PlanAnswer) -> PlannedChunk:
    return PlannedChunk(
        table=answer.plan.to_table(), is_fallback_S=answer.is_fallback_S.tolist(), notes=answer.plan.notes
    )


def _check_models(run: ClaimedRun, answer: PlanAnswer) -> None:
    """Refuse a chunk of other models than the run is keyed by: half a plan of each would be neither's."""
    if answer.is_degraded:
        raise NotReadyError(f"run {run.run_id}: a model does not answer, and stored plans are made of no fallback")
    models = run.sources.get("models", {})
    other = sorted(name for name, version in answer.model_versions.items() if models.get(name) != version)
    if other:
        raise ConflictError(f"{', '.join(other)} was replaced while the plan was made; ask for the plan again")
