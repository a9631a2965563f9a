"""Training by Ray Train, fed by Ray Data: the shell around :mod:`recsys.learner`.

Ray Data holds one row per user, cuts rows into windows in its own tasks and streams an equal share to every worker.
Every epoch ends in a checkpoint; a run that was killed goes on from the last one when it is started again on the same
sequences and settings. The learning epochs see what lies before the validation baskets; the last, 'refit', sees all.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import ray.data
import ray.train
import torch
from ray.train import ScalingConfig
from ray.train.torch import get_device, prepare_model

from cluster.config import Settings
from cluster.manifest import digest_of
from cluster.settings.models import RecommenderSettings
from cluster.storage import open_storage
from cluster.training import fit_resumable, report_pass, restore_state
from recsys.holdout import Holdout, hold_out_last_basket
from recsys.interactions import IntArray, Interactions, ItemAttributes
from recsys.learner import (
    SequenceLearner,
    TrainingPlan,
    calibration_of,
    encode_last,
    network_shape,
    refit_options,
    window_options,
)
from recsys.metrics import ranking_metrics, top_items
from recsys.models.network import NetworkShape, SequenceNetwork
from recsys.models.protocol import Arrays
from recsys.models.sequence import SequenceModel
from recsys.windows import count_windows, make_windows, user_table

_TASK_CPUS: Final = 0.5
"""Of a Ray Data task; a worker of one thread leaves as much, so that one core is enough for both."""
_USERS_PER_BLOCK: Final = 256
_JUDGED_USERS: Final = 500
OnEpoch = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedNetworks:
    """The network as validation judged it, the one that has also seen the validation baskets, and how it went."""

    judged: SequenceModel
    refitted: SequenceModel
    learning_curve: list[dict[str, Any]]


def train_sequence_model(
    interactions: Interactions, *, holdout: Holdout, settings: Settings, on_epoch: OnEpoch = lambda row: None
) -> TrainedNetworks | None:
    """Train the network on the holdout's history, then on all; call within :func:`cluster.runtime.connect`.

    Returns None if no user has two baskets: then there is no order to learn from.
    """
    tables = {
        "learn": user_table(holdout.history, seed=settings.seed),
        "refit": user_table(interactions, seed=settings.seed + 1),
    }
    job = _make_job(interactions, tables=tables, holdout=holdout, settings=settings)
    if not job.plan.steps_per_epoch:
        return None
    state = _run(job, tables=tables, settings=settings, on_epoch=on_epoch)
    return TrainedNetworks(
        judged=_model(state["best"], job=job, settings=settings),
        refitted=_model(state["network"], job=job, settings=settings),
        learning_curve=state["history"],
    )


def refit_sequence_model(
    interactions: Interactions, *, start: SequenceModel, settings: Settings, on_epoch: OnEpoch = lambda row: None
) -> tuple[SequenceModel, list[dict[str, Any]]]:
    """One epoch of all history from a trained model on, and its learning curve; within :func:`cluster.runtime.connect`.

    ``start`` knows these items (:meth:`~recsys.models.sequence.SequenceModel.grown`).
    """
    tables = {"refit": user_table(interactions, seed=settings.seed + 1)}
    nobody = hold_out_last_basket(interactions).sample(0)
    job = _make_job(interactions, tables=tables, holdout=nobody, settings=settings)
    job = replace(job, plan=replace(job.plan, epochs=0), start=start.arrays())
    state = _run(job, tables=tables, settings=settings, on_epoch=on_epoch)
    return _model(state["network"], job=job, settings=settings), state["history"]


def _run(job: "_Job", *, tables: dict[str, pa.Table], settings: Settings, on_epoch: OnEpoch) -> dict[str, Any]:
    return fit_resumable(
        _train_worker,
        inputs={"job": job},
        datasets={name: _dataset(table, options=job.options[name]) for name, table in tables.items()},
        scaling=_scaling(settings.recommender),
        storage=open_storage(settings),
        run=f"recommender-{_run_digest(tables, start=job.start, settings=settings)}",
        on_row=on_epoch,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What a worker needs beside its share of the windows."""

    shape: NetworkShape
    attributes: ItemAttributes | None
    plan: TrainingPlan
    count_I: IntArray
    judged: Holdout
    options: dict[str, dict[str, Any]]
    batch_size: int
    threads: int
    start: Arrays = field(default_factory=dict)
    """Weights to go on from; none for a run that begins."""


def _make_job(interactions: Interactions, *, tables: dict[str, pa.Table], holdout: Holdout, settings: Settings) -> _Job:
    learn = window_options(interactions, settings=settings.recommender, seed=settings.seed)
    options = {"learn": learn, "refit": refit_options(learn)}
    steps = {}
    for name, table in tables.items():
        counted = {key: options[name][key] for key in ("length", "windows_per_user", "purchases_only")}
        share = count_windows(table, **counted) // settings.recommender.num_workers
        steps[name] = -(-share // settings.recommender.batch_size)
    judged = holdout.sample(_JUDGED_USERS)
    plan = TrainingPlan(
        epochs=settings.recommender.epochs,
        steps_per_epoch=steps.get("learn", 0),
        refit_steps=steps["refit"],
        learning_rate=settings.recommender.learning_rate,
        num_negatives=settings.recommender.num_negatives,
        precision=settings.recommender.precision,
        seed=settings.seed,
        calibration=calibration_of(settings.recommender),
    )
    return _Job(
        shape=network_shape(settings.recommender, num_items=interactions.num_items, attributes=interactions.attributes),
        attributes=interactions.attributes,
        plan=plan,
        count_I=np.bincount(holdout.history.item_E, minlength=interactions.num_items),
        judged=replace(judged, history=judged.history.take(judged.user_V), user_V=np.arange(len(judged))),
        options=options,
        batch_size=settings.recommender.batch_size,
        threads=settings.recommender.threads_per_worker,
    )


def _model(weights: dict[str, torch.Tensor], *, job: _Job, settings: Settings) -> SequenceModel:
    network = SequenceNetwork(job.shape)
    network.load_state_dict(weights)
    return SequenceModel(settings=settings.recommender, seed=settings.seed, network=network.eval())


def _run_digest(tables: dict[str, pa.Table], *, start: Arrays, settings: Settings) -> str:
    """Same sequences, settings, seed and weights to start from: same run, which may be resumed."""
    total = hashlib.sha256()
    for values in start.values():
        total.update(np.ascontiguousarray(values).tobytes())
    for table in tables.values():
        for column in table.columns:
            for chunk in column.chunks:
                total.update(chunk.flatten().to_numpy().tobytes())
    return digest_of([total.hexdigest(), settings.seed, settings.recommender.model_dump(mode="json")])


def _dataset(table: pa.Table, *, options: dict[str, Any]) -> "ray.data.Dataset":
    blocks = [table.slice(first, _USERS_PER_BLOCK) for first in range(0, table.num_rows, _USERS_PER_BLOCK)]
    return ray.data.from_arrow(blocks).map_batches(
        make_windows,
        fn_kwargs=options,
        batch_size=_USERS_PER_BLOCK,
        batch_format="pyarrow",
        num_cpus=_TASK_CPUS,
    )


def _scaling(settings: RecommenderSettings) -> ScalingConfig:
    # What the threads leave of the last core is for the tasks that cut windows; asking for all would starve them.
    resources = {"CPU": settings.threads_per_worker - _TASK_CPUS} | ({"GPU": 1.0} if settings.use_gpu else {})
    return ScalingConfig(num_workers=settings.num_workers, use_gpu=settings.use_gpu, resources_per_worker=resources)


def _train_worker(config: dict[str, Any]) -> None:
    """Run the epochs on one worker."""
    job: _Job = config["job"]
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.plan.seed)
    network = SequenceNetwork(job.shape, job.attributes)
    network.load_state_dict(
        network.state_dict() | {name: torch.as_tensor(values) for name, values in job.start.items()}
    )
    learner = SequenceLearner(
        network,
        plan=job.plan,
        count_I=job.count_I,
        judge=_judge(job.judged, device=get_device()),
        device=get_device(),
        warm=bool(job.start),
        wrap=prepare_model,
    )
    restore_state(learner.restore, device=get_device())
    while learner.phase != "done":
        shard = ray.train.get_dataset_shard(learner.phase)
        row = learner.run_epoch(shard.iter_batches(batch_size=job.batch_size, batch_format="numpy", prefetch_batches=2))
        report_pass(row, state=learner.state)


def _judge(holdout: Holdout, *, device: torch.device) -> Callable[[SequenceNetwork], float] | None:
    if not len(holdout):
        return None

    def ndcg(network: SequenceNetwork) -> float:
        with torch.inference_mode():
            logit_UI = network.logits(encode_last(network, holdout.history, device=device)).cpu().numpy()
        item_UK, _ = top_items(logit_UI, k=10)
        return ranking_metrics(item_UK, target_N=holdout.target_N, offset_U1=holdout.offset_V1, k=10)["ndcg"]

    return ndcg
