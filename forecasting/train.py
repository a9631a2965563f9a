"""Training by Ray Train, fed by Ray Data. The arithmetic is in ``forecasting.fitting``; this is its shell.

Ray Data holds one row per series, turns rows into features in its own tasks and streams an equal share to every
worker; a worker holds one group of series at a time. Every pass ends in a checkpoint. A run that was killed goes on
from its last one when it is started again with the same panel and settings.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import ray.data
import ray.train
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device, prepare_model
from ray.train.v2.api.callback import UserCallback

from cluster.artifacts import digest_of
from cluster.config import ForecastSettings, Settings
from cluster.panel import DemandPanel
from forecasting.features import SeriesFeatures
from forecasting.fitting import Fitting
from forecasting.learning_curve import EpochRow
from forecasting.model import restore_network
from forecasting.predict import Forecaster
from forecasting.preparation import (
    MAX_VALIDATION_SERIES,
    Start,
    make_forecaster,
    make_start,
)
from forecasting.rows import SharedInputs, features_of_columns, features_of_table, make_columns, series_table

_GROUP_SERIES = 1_024
_MAX_FAILURES = 2
_POLL_S = 0.2
_TASK_CPUS = 0.5
"""Of a worker and of a Ray Data task: one core is enough for both."""
_STATE_FILE = "fitting.pt"


def fit_forecaster(
    panel: DemandPanel,
    *,
    settings: Settings,
    warm_start: Forecaster | None = None,
    on_epoch: Callable[[EpochRow], None] = lambda row: None,
) -> Forecaster:
    """Fit a forecaster to a panel; call within :func:`cluster.runtime.connect`.

    Parameters
    ----------
    panel
        History that may be learned from, all of it: cut it with ``until`` first.
    warm_start
        An earlier forecaster to refit.
    on_epoch
        Called in this process after every pass.

    Raises
    ------
    DataError
        If the panel holds no series, NaN, or fewer than 4 periods.
    """
    start = make_start(panel, settings=settings, warm_start=warm_start)
    table = series_table(panel, known=start.vocabulary.rows(panel.index), seed=settings.seed)
    folder = (settings.home / "runs" / f"forecaster-{_run_digest(table, start=start)}").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={"start": start, "validation": table.slice(0, MAX_VALIDATION_SERIES)},
        scaling_config=_scaling(settings.forecast, num_series=panel.num_series),
        datasets={"series": _dataset(table, shared=start.shared)},
        dataset_config=_data_config(),
        run_config=RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            failure_config=FailureConfig(max_failures=_MAX_FAILURES),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            callbacks=[_WriteRows(folder / "epochs.jsonl")],
        ),
    )
    result = _fit_and_follow(trainer, rows=folder / "epochs.jsonl", on_epoch=on_epoch)
    with result.checkpoint.as_directory() as checkpoint:
        state = torch.load(Path(checkpoint) / _STATE_FILE, weights_only=True)
    shutil.rmtree(folder, ignore_errors=True)
    return make_forecaster(start, weights=state["best"], history=[EpochRow(**row) for row in state["history"]])


def _run_digest(table: pa.Table, *, start: Start) -> str:
    """Same panel, settings, code path and first weights: same run, which may be resumed."""
    total = hashlib.sha256()
    for column in table.columns:
        for chunk in column.chunks:
            for buffer in chunk.buffers():
                total.update(buffer or b"")
    for name in sorted(start.weights):
        total.update(start.weights[name].numpy().tobytes())
    return digest_of([total.hexdigest(), asdict(start.plan), asdict(start.shape), str(start.shared.calendar)])


def _dataset(table: pa.Table, *, shared: SharedInputs) -> "ray.data.Dataset":
    chunks = [table.slice(first, _GROUP_SERIES // 4) for first in range(0, table.num_rows, _GROUP_SERIES // 4)]
    return ray.data.from_arrow(chunks).map_batches(
        make_columns,
        fn_kwargs={"shared": shared},
        batch_size=_GROUP_SERIES // 4,
        batch_format="pyarrow",
        num_cpus=_TASK_CPUS,
    )


def _groups(shard: Any, *, template: SeriesFeatures) -> Iterator[SeriesFeatures]:
    """One pass over a worker's series."""
    for columns in shard.iter_batches(batch_size=_GROUP_SERIES, batch_format="numpy", prefetch_batches=1):
        yield features_of_columns(columns, template=template)


def _scaling(settings: ForecastSettings, *, num_series: int) -> ScalingConfig:
    resources = {"CPU": _TASK_CPUS} | ({"GPU": 1.0} if settings.use_gpu else {})
    num_workers = min(settings.num_workers, num_series)
    return ScalingConfig(num_workers=num_workers, use_gpu=settings.use_gpu, resources_per_worker=resources)


def _data_config() -> ray.train.DataConfig:
    """Blocks in a fixed order: the same seed gives the same weights."""
    return ray.train.DataConfig(execution_options=ray.data.ExecutionOptions(preserve_order=True))


def _train_worker(config: dict[str, Any]) -> None:
    """Run the training loop on one worker."""
    start: Start = config["start"]
    validation: pa.Table = config["validation"]
    context = ray.train.get_context()
    rank, num_workers = context.get_world_rank(), context.get_world_size()
    network = restore_network(start.shape, weights=start.weights)
    parallel = prepare_model(network)
    mine = validation.take(list(range(rank, validation.num_rows, num_workers)))
    judged = features_of_table(mine, shared=start.shared)
    fitting = Fitting(
        network,
        plan=start.plan,
        validation=[judged],
        device=get_device(),
        parallel=parallel,
        rank=rank,
        add_over_workers=_add if num_workers > 1 else lambda value: value,
    )
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            fitting.restore(torch.load(Path(folder) / _STATE_FILE, weights_only=True, map_location=get_device()))
    shard = ray.train.get_dataset_shard("series")
    while not fitting.is_done:
        row = fitting.run_epoch(_groups(shard, template=judged))
        _report(row, fitting=fitting, rank=rank)


def _add(value: torch.Tensor) -> torch.Tensor:
    torch.distributed.all_reduce(value)
    return value


def _report(row: EpochRow, *, fitting: Fitting, rank: int) -> None:
    """Tell the controller; the first worker's state is the checkpoint of all."""
    if rank != 0:
        ray.train.report({})
        return
    with TemporaryDirectory() as folder:
        torch.save(fitting.state(), Path(folder) / _STATE_FILE)
        ray.train.report(asdict(row), checkpoint=Checkpoint.from_directory(folder))


class _WriteRows(UserCallback):
    """Append every reported row to a file. Runs in Ray Train's controller, which lives on the driver's machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:
        """Write the first worker's row."""
        row = next((row for row in metrics if row), None)
        if row is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(row) + "\n")


def _fit_and_follow(trainer: TorchTrainer, *, rows: Path, on_epoch: Callable[[EpochRow], None]) -> ray.train.Result:
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
                on_epoch(row)
            shown = max(shown, len(written))
            if finished:
                return running.result()


def _read_rows(path: Path) -> list[EpochRow]:
    """Complete lines written so far."""
    if not path.exists():
        return []
    return [EpochRow(**json.loads(line)) for line in path.read_text().split("\n")[:-1]]
