"""Trains the learned policies: categories x algorithms as Tune trials, side by side, resumable.

A finished trial leaves ``<store>/<category slug>-<algorithm>/`` with the exported policy and ``result.json``; a trial
of the same digest is not run again. A trial that is killed continues from the checkpoint in the same folder, whether
Tune restarts it or the next run does. On several machines the store must be a shared folder.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from cluster.config import PolicySettings, Settings
from rl.jobs import TrainedPolicy, TrialJob, is_finished, load_result, make_jobs, prepare_folder, write_result
from rl.policies.protocol import Policy
from rl.scenarios import ReplayScenario

_MAX_FAILURES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialUpdate:
    """What a trial has just reported. ``share`` of its budget is in [0, 1]; costs are over the textbook rule's."""

    category: str
    algorithm: str
    state: Literal["running", "finished", "reused", "failed"]
    share: float
    steps: int
    train_reward: float
    train_cost: float
    validation_cost: float


OnProgress = Callable[[TrialUpdate], None]


def train_policies(
    *,
    settings: Settings,
    scenarios_train: Mapping[str, ReplayScenario],
    scenarios_validation: Mapping[str, ReplayScenario],
    heuristics: Mapping[str, Mapping[str, Policy]],
    store_folder: Path,
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
    on_progress
        Called with every evaluation of every trial.

    Raises
    ------
    RuntimeError
        If a trial fails for good; the others have finished and are kept, so the next run repeats this one only.
    """
    tell = on_progress or (lambda _: None)
    jobs = make_jobs(
        settings,
        scenarios_train=scenarios_train,
        scenarios_validation=scenarios_validation,
        heuristics=heuristics,
        store_folder=store_folder.resolve(),
    )
    waiting = [job for job in jobs if not is_finished(job)]
    for job in jobs:
        if job not in waiting:
            tell(_make_update(job, state="reused", point=asdict(load_result(job).best), share=1.0))
    for job in waiting:
        prepare_folder(job)
    if waiting:
        _run_side_by_side({job.key: job for job in waiting}, settings=settings.policy, tell=tell)
    return {(job.category, job.algorithm): load_result(job) for job in jobs}


def _run_side_by_side(jobs: Mapping[str, TrialJob], *, settings: PolicySettings, tell: OnProgress) -> None:
    # Tune prints its own tables and warnings; ours is the one progress that users see.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    from ray import tune
    from ray.tune import FailureConfig, RunConfig, TuneConfig

    from rl.tune_callback import ProgressCallback

    per_trial = {"CPU": settings.cpus_per_trial, "GPU": settings.gpus_per_trial}
    runners = [{"CPU": 1.0}] * settings.num_env_runners
    resources = tune.PlacementGroupFactory([per_trial, *runners])
    folder = next(iter(jobs.values())).folder.parent / "tune"
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_trainable, jobs=dict(jobs)), resources),
        param_space={"key": tune.grid_search(list(jobs))},
        tune_config=TuneConfig(reuse_actors=True),
        run_config=RunConfig(
            name="policies",
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=_MAX_FAILURES),
            callbacks=[
                ProgressCallback(
                    lambda key, state, result: tell(
                        _make_update(jobs[key], state=state, point=result, share=result.get("share", 0.0))
                    )
                )
            ],
            verbose=0,
        ),
    )
    results = tuner.fit()
    if results.errors:
        raise RuntimeError(
            f"{len(results.errors)} of {len(jobs)} policy trials failed after {_MAX_FAILURES} restarts; "
            f"the others are kept in {folder.parent}, run the command again; first error: {results.errors[0]}"
        )


def _trainable(config: dict[str, Any], jobs: Mapping[str, TrialJob]) -> None:
    """One trial, in a Tune worker."""
    from ray import tune

    from rl.export import export_policy
    from rl.trial import make_actor, run_trial

    job = jobs[config["key"]]
    progress = run_trial(job, report=tune.report)
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


def _make_update(
    job: TrialJob, *, state: Literal["running", "finished", "reused", "failed"], point: Mapping[str, Any], share: float
) -> TrialUpdate:
    return TrialUpdate(
        category=job.category,
        algorithm=job.algorithm,
        state=state,
        share=share,
        steps=int(point.get("steps", 0)),
        train_reward=float(point.get("train_reward", 0.0)),
        train_cost=float(point.get("train_cost", 1.0)),
        validation_cost=float(point.get("validation_cost", 1.0)),
    )
