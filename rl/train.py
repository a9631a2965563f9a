"""Trains the learned policies: categories x algorithms as Tune trials, side by side, resumable.

A finished trial leaves ``<store>/<category slug>-<algorithm>/`` with the exported policy and ``result.json``; a trial
of the same digest is not run again. A trial that is killed continues from the checkpoint in the same folder, whether
Tune restarts it or the next run does. ``<store>/tune/<category slug>-<algorithm>/`` has its curves for TensorBoard. On
several machines the store must be a shared folder, or one that a storage keeps.
"""

import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cluster.config import Settings
from cluster.errors import ConfigError
from cluster.settings.models import PolicySettings
from cluster.storage import Storage
from rl.jobs import TrainedPolicy, TrialJob, is_finished, load_result, make_jobs, prepare_folder, write_result
from rl.policies.protocol import Policy
from rl.scenarios import ReplayScenario

if TYPE_CHECKING:
    from rl.trial import TrialProgress

State = Literal["waiting", "running", "finished", "stopped", "reused", "failed"]

_MAX_FAILURES = 2
_CURVES_FOLDER = "tune"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialUpdate:
    """What a trial has just reported.

    Parameters
    ----------
    state
        ``stopped`` ended early, far behind the rule; its best checkpoint is kept as that of a ``finished`` one.
    share
        Of its budget that is spent, in [0, 1].
    steps
        Series-periods simulated so far.
    best_score
        Mean cost on both windows at the best checkpoint so far, over the textbook rule's; nan before the first.
    """

    category: str
    algorithm: str
    state: State
    share: float = 0.0
    steps: int = 0
    best_score: float = math.nan


OnProgress = Callable[[TrialUpdate], None]


def train_policies(
    *,
    settings: Settings,
    scenarios_train: Mapping[str, ReplayScenario],
    scenarios_validation: Mapping[str, ReplayScenario],
    heuristics: Mapping[str, Mapping[str, Policy]],
    store_folder: Path,
    storage: Storage | None = None,
    on_progress: OnProgress | None = None,
) -> dict[tuple[str, str], TrainedPolicy]:
    """Train each of ``settings.policy.algorithms`` on each category; Ray must be connected.

    Parameters
    ----------
    scenarios_train, scenarios_validation
        Consecutive stretches of history, by category.
    heuristics
        Tuned textbook rules by category and name: the cheapest on the training stretch is the teacher.
    store_folder
        Where results and checkpoints are kept; finished trials found there are reused.
    storage
        Keeps that folder's folders where machines do not share it.
    on_progress
        Called with every trial at the beginning, with each of its evaluations and with its end.

    Raises
    ------
    ConfigError
        If a trial asks for more than a local Ray has: it would wait for ever.
    RuntimeError
        If a trial fails for good; the others have finished and are kept, so the next run repeats this one only.
    """
    tell = on_progress or (lambda _: None)
    _check_resources(settings)
    jobs = make_jobs(
        settings,
        scenarios_train=scenarios_train,
        scenarios_validation=scenarios_validation,
        heuristics=heuristics,
        store_folder=store_folder.resolve(),
        storage=storage,
    )
    waiting = [job for job in jobs if not is_finished(job)]
    for job in jobs:
        tell(_first_update(job, is_waiting=job in waiting))
    for job in waiting:
        prepare_folder(job)
    if waiting:
        _run_side_by_side({job.key: job for job in waiting}, settings=settings.policy, tell=tell)
    return {(job.category, job.algorithm): load_result(job) for job in jobs}


def _check_resources(settings: Settings) -> None:
    """Refuse what a local Ray can never give; a cluster may grow."""
    import ray

    policy, offered = settings.policy, ray.cluster_resources()
    asked = {"CPU": policy.cpus_per_trial + policy.num_env_runners, "GPU": policy.gpus_per_trial}
    for name, amount in asked.items():
        if settings.runtime.address == "local" and amount > offered.get(name, 0.0):
            raise ConfigError(
                f"policy: a trial asks for {amount:g} {name} and Ray has {offered.get(name, 0.0):g}; lower "
                f"{'policy.gpus_per_trial' if name == 'GPU' else 'policy.cpus_per_trial or policy.num_env_runners'}, "
                f"or raise runtime.num_{name.lower()}s"
            )


def _run_side_by_side(jobs: Mapping[str, TrialJob], *, settings: PolicySettings, tell: OnProgress) -> None:
    # Tune prints its own tables and warnings; ours is the one progress that users see.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    from ray import tune
    from ray.tune import FailureConfig, RunConfig, TuneConfig

    from rl.tune_callback import CurveCallback, ProgressCallback
    from rl.tune_scheduler import BehindTheRule

    scheduler = BehindTheRule(stop_share=settings.stop_share, stop_margin=settings.stop_margin)
    folder = _prepare_curves(jobs)

    def follow(key: str, state: State, result: Mapping[str, Any]) -> None:
        is_stopped = state == "finished" and key in scheduler.stopped
        if is_stopped:
            _finish_stopped(jobs[key])
        tell(_make_update(jobs[key], state="stopped" if is_stopped else state, result=result))

    trainable = tune.with_parameters(_trainable, jobs=dict(jobs))
    # The function travels with every trial: it must not hold the jobs, which are as large as their history.
    resources = {key: resources_of(job) for key, job in jobs.items()}
    tuner = tune.Tuner(
        tune.with_resources(trainable, lambda config: resources[config["key"]]),
        param_space={"key": tune.grid_search(list(jobs))},
        tune_config=TuneConfig(reuse_actors=True, scheduler=scheduler),
        run_config=RunConfig(
            name="policies",
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=_MAX_FAILURES),
            callbacks=[ProgressCallback(follow), CurveCallback(folder)],
            verbose=0,
        ),
    )
    results = tuner.fit()
    if results.errors:
        raise RuntimeError(
            f"{len(results.errors)} of {len(jobs)} policy trials failed after {_MAX_FAILURES} restarts; "
            f"the others are kept in {folder.parent}, run the command again; first error: {results.errors[0]}"
        )


def _prepare_curves(jobs: Mapping[str, TrialJob]) -> Path:
    """Folder of the curves, without those of trials that begin anew."""
    from rl.trial import last_progress

    folder = next(iter(jobs.values())).folder.parent / _CURVES_FOLDER
    for key, job in jobs.items():
        if last_progress(job) is None:
            shutil.rmtree(folder / key, ignore_errors=True)
    return folder


def resources_of(job: TrialJob) -> Any:
    """What a trial reserves. ``direct`` simulates in its own process and on the CPU."""
    from ray import tune

    settings = job.settings
    if job.algorithm == "direct":
        return tune.PlacementGroupFactory([{"CPU": settings.cpus_per_trial}])
    per_trial = {"CPU": settings.cpus_per_trial, "GPU": settings.gpus_per_trial}
    return tune.PlacementGroupFactory([per_trial, *[{"CPU": 1.0}] * settings.num_env_runners])


def _trainable(config: dict[str, Any], jobs: Mapping[str, TrialJob]) -> None:
    """One trial, in a Tune worker."""
    from ray import tune

    from rl.trial import run_trial

    job = jobs[config["key"]]
    # Under this name Tune's loggers take the steps as the horizontal axis, which a restart continues.
    progress = run_trial(job, report=lambda metrics: tune.report(metrics | {"timesteps_total": metrics["steps"]}))
    _finish(job, progress)


def _finish(job: TrialJob, progress: "TrialProgress") -> None:
    from rl.export import export_policy
    from rl.trial import make_actor

    policy = export_policy(make_actor(job, progress.best), grid=job.train.grid, name=job.algorithm)
    write_result(
        job,
        policy,
        facts={
            "agreement": progress.agreement,
            "best": asdict(progress.best_point),
            "curve": [asdict(point) for point in progress.curve],
            "cpu_seconds": progress.cpu_seconds,
        },
    )


def _finish_stopped(job: TrialJob) -> None:
    """Publish a stopped trial's best checkpoint: its process was ended before it could."""
    from rl.trial import last_progress

    progress = last_progress(job)
    assert progress is not None, "only a trial that has reported, and so saved, is stopped"
    _finish(job, progress)


def _first_update(job: TrialJob, *, is_waiting: bool) -> TrialUpdate:
    if is_waiting:
        return TrialUpdate(category=job.category, algorithm=job.algorithm, state="waiting")
    result = load_result(job)
    return TrialUpdate(
        category=job.category,
        algorithm=job.algorithm,
        state="reused",
        share=min(1.0, result.curve[-1].steps / job.budget_steps),
        steps=result.curve[-1].steps,
        best_score=result.best.score,
    )


def _make_update(job: TrialJob, *, state: State, result: Mapping[str, Any]) -> TrialUpdate:
    return TrialUpdate(
        category=job.category,
        algorithm=job.algorithm,
        state=state,
        share=result.get("share", 0.0),
        steps=int(result.get("steps", 0)),
        best_score=result.get("best_score", math.nan),
    )
