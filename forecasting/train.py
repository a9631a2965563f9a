"""Training by Ray Train, fed by Ray Data. The arithmetic is in ``forecasting.fitting``; this is its shell.

Ray Data holds one row per series, turns rows into features in its own tasks and streams an equal share to every
worker; a worker holds one group of series at a time. Every pass ends in a checkpoint. A run that was killed goes on
from its last one when it is started again with the same panel and settings.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import ray.data
import ray.train
import torch
from ray.train import ScalingConfig
from ray.train.torch import get_device, prepare_model

from cluster.config import Settings
from cluster.manifest import digest_of
from cluster.panel import DemandPanel
from cluster.settings.models import ForecastSettings
from cluster.storage import open_storage
from cluster.training import fit_resumable, report_pass, restore_state
from forecasting.features import SeriesFeatures
from forecasting.fitting import Fitting
from forecasting.learning_curve import EpochRow
from forecasting.model import restore_network
from forecasting.predict import Forecaster
from forecasting.preparation import (
    MAX_VALIDATION_SERIES,
    Start,
    make_forecasters,
    make_start,
)
from forecasting.rows import SharedInputs, features_of_columns, features_of_table, make_columns, series_table
from forecasting.team import ServedForecaster, network_of
from forecasting.team_fit import fit_team

_GROUP_SERIES = 1_024
_TASK_CPUS = 0.5
"""Of a worker and of a Ray Data task: one core is enough for both."""


def fit_served(
    panel: DemandPanel,
    *,
    settings: Settings,
    warm_start: ServedForecaster | None = None,
    items: pa.Table | None = None,
    on_epoch: Callable[[EpochRow], None] = lambda row: None,
) -> ServedForecaster:
    """Fit what ``forecast.serve`` names to a panel; call within :func:`cluster.runtime.connect`.

    Parameters
    ----------
    panel
        History that may be learned from, all of it: cut it with ``until`` first.
    warm_start
        An earlier forecaster whose network is refitted; trees and weights are found anew.
    items
        Names and descriptions, by which items without history are like others.
    on_epoch
        Called in this process after every pass of the network.

    Raises
    ------
    DataError
        If the panel holds no series, NaN, or fewer than 4 periods.
    """
    earlier = None if warm_start is None else network_of(warm_start)
    network, held_out = fit_and_hold_out(panel, settings=settings, warm_start=earlier, items=items, on_epoch=on_epoch)
    if settings.forecast.serve == "network":
        return network
    return fit_team(panel, settings=settings, network=(network, held_out))


def fit_and_hold_out(
    panel: DemandPanel,
    *,
    settings: Settings,
    warm_start: Forecaster | None = None,
    items: pa.Table | None = None,
    on_epoch: Callable[[EpochRow], None] = lambda row: None,
) -> tuple[Forecaster, Forecaster | None]:
    """Fit the network; and keep it as it was before it learned from the validation periods (None without any)."""
    start = make_start(panel, settings=settings, warm_start=warm_start, items=items)
    table = series_table(panel, known=start.judged_vocabulary.rows(panel.index), seed=settings.seed)
    state = fit_resumable(
        _train_worker,
        inputs={
            "start": start,
            "validation": table.slice(0, MAX_VALIDATION_SERIES),
            "threads": settings.forecast.threads_per_worker,
        },
        datasets={"series": _dataset(table, shared=start.shared)},
        scaling=_scaling(settings.forecast, num_series=panel.num_series),
        storage=open_storage(settings),
        run=f"forecaster-{_run_digest(table, start=start)}",
        on_row=lambda row: on_epoch(EpochRow(**row)),
    )
    history = [EpochRow(**row) for row in state["history"]]
    return make_forecasters(start, best=state["best"], judged=state["judged"], history=history)


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
    # What the threads leave of the last core is for the tasks that make features.
    resources = {"CPU": settings.threads_per_worker - _TASK_CPUS} | ({"GPU": 1.0} if settings.use_gpu else {})
    num_workers = min(settings.num_workers, num_series)
    return ScalingConfig(num_workers=num_workers, use_gpu=settings.use_gpu, resources_per_worker=resources)


def _train_worker(config: dict[str, Any]) -> None:
    """Run the training loop on one worker."""
    start: Start = config["start"]
    validation: pa.Table = config["validation"]
    context = ray.train.get_context()
    rank, num_workers = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(config["threads"])
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
    restore_state(fitting.restore, device=get_device())
    shard = ray.train.get_dataset_shard("series")
    while not fitting.is_done:
        row = fitting.run_epoch(_groups(shard, template=judged))
        report_pass(asdict(row), state=fitting.state)


def _add(value: torch.Tensor) -> torch.Tensor:
    torch.distributed.all_reduce(value)
    return value
