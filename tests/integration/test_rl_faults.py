"""Training goes on when one of its processes is killed as ``kill -9`` does: a runner, a trial, the driver itself."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

sys.path.append(str(Path(__file__).parents[1] / "model"))
from learning_cases import make_category

from cluster.config import RuntimeSettings, Settings
from cluster.runtime import connect
from cluster.settings.models import PolicySettings
from rl.jobs import load_result, make_jobs
from rl.policies.classical import ReorderPoint
from rl.train import train_policies
from rl.trial import run_trial

pytestmark = pytest.mark.integration

TINY = PolicySettings(
    algorithms=("ppo",),
    num_rows=32,
    rollout_periods=16,
    unroll_periods=16,
    budget_steps_ppo=8_192,
    budget_steps_direct=4_096,
    minibatch_size=512,
    hidden=8,
    imitation_steps=60,
    evaluations=4,
    patience=99,
    stop_margin=1.0,
)


def arguments(folder, **changes):
    return {
        "settings": Settings(policy=TINY.model_copy(update=changes)),
        "scenarios_train": {"tea": make_category(rows=8, periods=40)},
        "scenarios_validation": {"tea": make_category(rows=8, periods=20, seed=1)},
        "heuristics": {"tea": {"reorder_point": ReorderPoint(cycle_service_level=0.9, order_periods=2.0)}},
        "store_folder": folder,
    }


def workers(process, title):
    """Ray workers below a process whose title begins so."""
    below = process.children(recursive=True)
    return [child for child in below if runs(child) and " ".join(child.cmdline()).startswith(f"ray::{title}")]


def assert_whole(curve, job):
    steps = [point.steps for point in curve]
    assert len(steps) == job.settings.evaluations + 1, "an evaluation was lost or repeated"
    assert steps == sorted(set(steps))
    assert steps[-1] >= job.budget_steps


def test_training_goes_on_without_a_killed_runner_until_it_is_back(ray_session, tmp_path):
    (job,) = make_jobs(**arguments(tmp_path, num_env_runners=1))
    job.folder.mkdir(parents=True)
    killed, reports = [], []

    def kill_the_runner_once(metrics):
        reports.append(metrics["steps"])
        if len(reports) == 2:
            (runner,) = workers(psutil.Process(), "ArrayEnvRunner")
            runner.kill()
            killed.append(runner.pid)

    progress = run_trial(job, report=kill_the_runner_once)
    assert len(killed) == 1
    assert_whole(progress.curve, job)


def test_a_killed_trial_is_restarted_by_tune_from_its_checkpoint(ray_session, tmp_path):
    call = arguments(tmp_path)
    updates, killed = [], []

    def kill_the_trial_once(update):
        updates.append(update)
        if update.share >= 0.5 and not killed:
            (trial,) = workers(psutil.Process(), "ImplicitFunc")
            trial.kill()
            killed.append(update.share)

    (policy,) = train_policies(**call, on_progress=kill_the_trial_once).values()
    assert killed
    assert_whole(policy.curve, make_jobs(**call)[0])
    assert updates[-1].state == "finished"
    running = [update.share for update in updates if update.state == "running"]
    assert running == sorted(set(running)), "the trial began anew instead of from its checkpoint"


DRIVER = {"algorithms": ("direct", "ppo"), "budget_steps_ppo": 65_536, "evaluations": 16}


def drive(folder):
    """The driver that is killed: one core, so ``direct`` has finished when ``ppo`` runs."""
    with connect(RuntimeSettings(num_cpus=1)):
        train_policies(
            **arguments(folder, **DRIVER),
            on_progress=lambda update: print(update.algorithm, update.state, update.steps, flush=True),
        )


def start_driver(folder):
    body = f"from pathlib import Path; from test_rl_faults import drive; drive(Path({str(folder)!r}))"
    search = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, "-c", body], env={**os.environ, "PYTHONPATH": search}, stdout=subprocess.PIPE, text=True
    )


def kill_driver(driver):
    """Kill it alone; the processes of trials that still run a minute later. Whatever is left of its Ray is ended."""
    process = psutil.Process(driver.pid)
    below, trials = process.children(recursive=True), workers(process, "ImplicitFunc")
    assert trials, "no trial ran"
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    began_s = time.monotonic()
    while any(map(runs, trials)) and time.monotonic() < began_s + 60:
        time.sleep(0.1)
    outliving = [trial for trial in trials if runs(trial)]
    for left in filter(runs, below):
        left.kill()
    return outliving


def runs(process):
    # An orphan that nobody reaps stays as a zombie: it runs no more.
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_killed_driver_leaves_nothing_running_and_the_next_run_goes_on(ray_session, tmp_path):
    driver = start_driver(tmp_path)
    seen = []
    for line in driver.stdout:
        seen.append(tuple(line.split()))
        if sum(part[:2] == ("ppo", "running") for part in seen) == 3:
            break
    assert ("direct", "finished") in {part[:2] for part in seen}, seen
    assert kill_driver(driver) == [], "a trial outlived its driver and may write to the same folder as the next"

    call, updates = arguments(tmp_path, **DRIVER), []
    policies = train_policies(**call, on_progress=updates.append)
    jobs = {job.algorithm: job for job in make_jobs(**call)}
    assert [update.state for update in updates if update.algorithm == "direct"] == ["reused"]
    first = next(update for update in updates if (update.algorithm, update.state) == ("ppo", "running"))
    assert first.steps > int(seen[-1][2]), "the trial began anew instead of from its checkpoint"
    assert_whole(policies["tea", "ppo"].curve, jobs["ppo"])
    assert load_result(jobs["direct"]).curve == policies["tea", "direct"].curve
