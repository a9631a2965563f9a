"""A ``direct`` trial that is killed ends exactly as one that was not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from learning_cases import make_category
from object_store import serve_objects

from cluster.config import Settings
from cluster.object_storage import ObjectStorage
from cluster.settings.models import PolicySettings
from rl.jobs import is_finished, make_jobs, prepare_folder
from rl.policies.classical import ReorderPoint
from rl.trial import run_trial

TINY = PolicySettings(
    algorithms=("direct",), num_rows=16, unroll_periods=12, budget_steps_direct=4_000, hidden=8, evaluations=5
)


def tiny_job(folder, storage=None, **changes):
    (job,) = make_jobs(
        Settings(policy=TINY.model_copy(update=changes)),
        scenarios_train={"tea": make_category(rows=4, periods=20)},
        scenarios_validation={"tea": make_category(rows=4, periods=10, seed=1)},
        heuristics={"tea": {"reorder_point": ReorderPoint(cycle_service_level=0.9, order_periods=2.0)}},
        store_folder=folder,
        storage=storage,
    )
    return job


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return run_trial(tiny_job(tmp_path_factory.mktemp("unbroken")), report=lambda metrics: None)


def assert_same(progress, expected):
    assert progress.curve == expected.curve
    for kept, wanted in ((progress.averaged, expected.averaged), (progress.best, expected.best)):
        assert kept.keys() == wanted.keys()
        assert all(torch.equal(kept[name], wanted[name]) for name in wanted)


def run_until_killed(folder, reports):
    """Run the trial in a process that kills itself, as ``kill -9`` does, at its n-th report."""
    body = (
        "import os, signal, sys; from pathlib import Path; from test_trial_resume import *; seen = []\n"
        "def die(metrics):\n"
        "    seen.append(metrics)\n"
        f"    len(seen) == {reports} and os.kill(os.getpid(), signal.SIGKILL)\n"
        f"run_trial(tiny_job(Path({str(folder)!r})), report=die)"
    )
    search = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    done = subprocess.run([sys.executable, "-c", body], env={**os.environ, "PYTHONPATH": search}, check=False)
    assert done.returncode == -9


def test_a_killed_trial_ends_as_an_unbroken_one(tmp_path, unbroken):
    assert len(unbroken.curve) == 6
    run_until_killed(tmp_path, 3)
    assert_same(run_trial(tiny_job(tmp_path), report=lambda metrics: None), unbroken)


class KilledError(Exception):
    """Stands for the process dying at that moment."""


def test_a_checkpoint_that_was_being_removed_or_written_is_not_read(tmp_path, unbroken):
    job, seen = tiny_job(tmp_path), []

    def die_at_the_third(metrics):
        seen.append(metrics)
        if len(seen) == 3:
            raise KilledError

    with pytest.raises(KilledError):
        run_trial(job, report=die_at_the_third)
    (newest,) = job.folder.glob("checkpoint-*")
    half_removed = newest.with_name("checkpoint-000001")
    shutil.copytree(newest, half_removed)
    (half_removed / "progress.pkl").unlink()
    shutil.copytree(half_removed, job.folder / ".checkpoint.draft")
    assert_same(run_trial(job, report=lambda metrics: None), unbroken)
    assert len(list(job.folder.glob("checkpoint-*"))) == 1


def test_a_step_longer_than_an_evaluation_s_share_of_the_budget_is_evaluated_once(tmp_path):
    job, reports = tiny_job(tmp_path, evaluations=50, patience=60), []
    progress = run_trial(job, report=reports.append)
    block = job.settings.num_rows * job.settings.unroll_periods
    assert [point.steps for point in progress.curve] == list(range(0, job.budget_steps + block, block))
    assert len(reports) == len(progress.curve)


def test_a_trial_goes_on_from_the_object_store_on_another_machine(tmp_path, monkeypatch, unbroken):
    seen = []

    def die_at_the_third(metrics):
        seen.append(metrics)
        if len(seen) == 3:
            raise KilledError

    with serve_objects(monkeypatch) as (url, endpoint):

        def job_on(machine):
            storage = ObjectStorage(folder=tmp_path / machine, url=f"{url}/policies", endpoint=endpoint)
            return tiny_job(storage.folder, storage=storage)

        first, second = job_on("first"), job_on("second")
        prepare_folder(first)
        with pytest.raises(KilledError):
            run_trial(first, report=die_at_the_third)
        reports = []
        assert not is_finished(second)
        prepare_folder(second)
        assert_same(run_trial(second, report=reports.append), unbroken)
        assert len(reports) == len(unbroken.curve) - 3
