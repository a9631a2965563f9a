"""What every trainer on Ray Train shares: a run that resumes, checkpoints after each pass, and tells how it goes.

The worker loop calls :func:`restore_state` once and :func:`report_pass` after every pass; the driver calls
:func:`fit_resumable`.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray.data
import ray.train
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2.api.callback import UserCallback

from cluster.curves import open_curves
from cluster.storage import Storage

Row = dict[str, Any]
State = dict[str, Any]

CURVES_FOLDER = "curves"
"""Below the home folder, beside ``runs``."""
_RUNS = "runs"
_MAX_FAILURES = 2
_POLL_S = 0.2
_STATE_FILE = "state.pt"
_ROWS_FILE = "passes.jsonl"


def fit_resumable(
    worker: Callable[[dict[str, Any]], None],
    *,
    inputs: dict[str, Any],
    datasets: Mapping[str, "ray.data.Dataset"],
    scaling: ScalingConfig,
    storage: Storage,
    run: str,
    on_row: Callable[[Row], None],
) -> State:
    """Run a worker loop to its end and return its last state; call within :func:`cluster.runtime.connect`.

    Parameters
    ----------
    worker, inputs
        Loop of every worker, and what it is given.
    datasets
        Streamed to the workers in equal shares and a fixed order: the same seed gives the same weights.
    storage, run
        Checkpoints lie in ``runs/<run>`` of this storage: one that was killed goes on from them, on whatever nodes
        there are then. Removed at the end. Its learning curves stay in ``curves/<run>``, for TensorBoard.
    on_row
        Called in this process with every reported row.
    """
    folder = (storage.folder / _RUNS / run).resolve()
    curves_folder = storage.folder.resolve() / CURVES_FOLDER / run
    kept, filesystem = storage.for_ray(_RUNS)
    if not folder.exists():
        shutil.rmtree(curves_folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    trainer = TorchTrainer(
        worker,
        train_loop_config=inputs,
        scaling_config=scaling,
        datasets=dict(datasets),
        dataset_config=_ordered(),
        run_config=RunConfig(
            name=run,
            storage_path=kept,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=_MAX_FAILURES),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            callbacks=[_WriteRows(folder / _ROWS_FILE)],
        ),
    )
    with open_curves(curves_folder) as curves:

        def follow(row: Row) -> None:
            curves.write(row)
            on_row(row)

        result = _fit_and_follow(trainer, rows=folder / _ROWS_FILE, on_row=follow)
    with result.checkpoint.as_directory() as checkpoint:
        state: State = torch.load(Path(checkpoint) / _STATE_FILE, weights_only=True, map_location="cpu")
    storage.remove(f"{_RUNS}/{run}")
    return state


def restore_state(restore: Callable[[State], None], *, device: torch.device) -> None:
    """In a worker: go on from the run's checkpoint, if there is one."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            restore(torch.load(Path(folder) / _STATE_FILE, weights_only=True, map_location=device))


def report_pass(row: Row, *, state: Callable[[], State]) -> None:
    """In a worker: tell the controller; the first worker's state is the checkpoint of all."""
    if ray.train.get_context().get_world_rank() != 0:
        ray.train.report({})
        return
    with TemporaryDirectory() as folder:
        torch.save(state(), Path(folder) / _STATE_FILE)
        ray.train.report(row, checkpoint=Checkpoint.from_directory(folder))


def _ordered() -> ray.train.DataConfig:
    options = ray.train.DataConfig.default_ingest_options()
    options.preserve_order = True
    return ray.train.DataConfig(execution_options=options)


class _WriteRows(UserCallback):
    """Append every reported row to a file. Runs in Ray Train's controller, which lives on the driver's machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def after_report(self, run_context: Any, metrics: list[Row], checkpoint: Checkpoint | None) -> None:
        """Write the first worker's row."""
        row = next((row for row in metrics if row), None)
        if row is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(row) + "\n")


def _fit_and_follow(trainer: TorchTrainer, *, rows: Path, on_row: Callable[[Row], None]) -> ray.train.Result:
    """Run the trainer in a thread and pass on the rows that its callback writes.

    In a thread, because on the main one Ray Train would replace the handler of Ctrl-C and leave it so.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        running = pool.submit(trainer.fit)
        shown = len(_read_rows(rows))
        while True:
            finished = wait([running], timeout=_POLL_S).done
            written = _read_rows(rows)
            for row in written[shown:]:
                on_row(row)
            shown = max(shown, len(written))
            if finished:
                return running.result()


def _read_rows(path: Path) -> list[Row]:
    """Complete lines written so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]
