"""Training as users run it: by Tune, resumed after a kill, better than the rule that it began from."""

import json
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

sys.path.append(str(Path(__file__).parents[1] / "model"))
from learning_cases import make_category

from cluster.config import Settings
from cluster.errors import ConfigError
from cluster.settings.models import PolicySettings
from rl.evaluate import replay
from rl.jobs import load_result, make_jobs, prepare_folder
from rl.policies.classical import BaseStock, ReorderPoint
from rl.train import train_policies
from rl.trial import run_trial

pytestmark = pytest.mark.integration

TINY = PolicySettings(
    num_rows=64,
    rollout_periods=16,
    budget_steps_ppo=8_192,
    budget_steps_dqn=4_096,
    budget_steps_direct=20_000,
    minibatch_size=512,
    replay_capacity=4_000,
    hidden=16,
    imitation_steps=60,
    evaluations=4,
)
# Tuned badly on purpose: with this fixed cost, ordering daily up to a high level is far from the best.
RULES = {
    "base_stock": BaseStock(cycle_service_level=0.95),
    "reorder_point": ReorderPoint(cycle_service_level=0.95, order_periods=1.0),
}


def arguments(folder, **changes):
    return {
        "settings": Settings(policy=TINY.model_copy(update=changes)),
        "scenarios_train": {"tea": make_category(rows=8, periods=40)},
        "scenarios_validation": {"tea": make_category(rows=8, periods=20, seed=1)},
        "heuristics": {"tea": RULES},
        "store_folder": folder,
    }


@pytest.fixture(scope="module")
def trained(ray_session, tmp_path_factory):
    folder = tmp_path_factory.mktemp("policies")
    updates = []
    return folder, train_policies(**arguments(folder), on_progress=updates.append), updates


def test_each_category_and_algorithm_leaves_a_policy_with_its_curve(trained):
    _, policies, updates = trained
    assert set(policies) == {("tea", "dqn"), ("tea", "ppo"), ("tea", "direct")}
    for (category, algorithm), policy in policies.items():
        assert (policy.category, policy.algorithm, policy.policy.name) == (category, algorithm, algorithm)
        assert policy.teacher == "reorder_point"
        assert len(policy.curve) >= 2
        assert [point.steps for point in policy.curve] == sorted({point.steps for point in policy.curve})
        assert policy.best.score == min(point.score for point in policy.curve)
        assert policy.agreement > 0.7
        assert json.loads(json.dumps(policy.metrics()))["best"]["steps"] == policy.best.steps
    assert [update.state for update in updates[:3]] == ["waiting"] * 3
    assert {update.state for update in updates[3:]} == {"running", "finished"}
    ends = {update.algorithm: update for update in updates if update.state == "finished"}
    assert set(ends) == {"dqn", "ppo", "direct"}
    for algorithm, end in ends.items():
        assert end.share == 1.0
        assert end.best_score == policies["tea", algorithm].best.score


def test_tensorboard_has_each_trial_s_curve_over_its_steps(trained):
    folder, policies, _ = trained
    for (_, algorithm), policy in policies.items():
        events = EventAccumulator(str(folder / "tune" / policy.folder.name)).Reload()
        shown = {event.step: event.value for event in events.Scalars("ray/tune/score")}
        # The first point is at no steps at all, where Tune shows its count of reports.
        assert list(shown)[1:] == [point.steps for point in policy.curve[1:]], algorithm
        assert list(shown.values()) == pytest.approx([point.score for point in policy.curve])


def test_the_cost_in_the_curve_is_that_of_replaying_the_exported_policy(trained):
    _, policies, _ = trained
    call = arguments(Path())
    for policy in policies.values():
        for name, expected in (("train", policy.best.train_cost), ("validation", policy.best.validation_cost)):
            scenario = call[f"scenarios_{name}"]["tea"]
            cost = replay(policy.policy, scenario).cost_S.sum() / replay(RULES[policy.teacher], scenario).cost_S.sum()
            assert cost == pytest.approx(expected, rel=1e-4)


def test_finished_trials_are_reused_and_changed_ones_run_again(trained):
    folder, policies, _ = trained
    updates = []
    again = train_policies(**arguments(folder), on_progress=updates.append)
    assert [update.state for update in updates] == ["reused"] * 3
    assert {key: policy.curve for key, policy in again.items()} == {k: p.curve for k, p in policies.items()}
    updates.clear()
    changed = {"algorithms": ("ppo",), "budget_steps_ppo": 2_048, "evaluations": 1}
    (other,) = train_policies(**arguments(folder, **changed), on_progress=updates.append).values()
    assert [update.state for update in updates] == ["waiting", "running", "running", "finished"]
    assert other.curve != policies["tea", "ppo"].curve


class KilledError(Exception):
    """Stands for the process dying at that moment."""


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_a_killed_trial_continues_from_its_last_evaluation(ray_session, tmp_path, algorithm):
    (job,) = (job for job in make_jobs(**arguments(tmp_path)) if job.algorithm == algorithm)
    job.folder.mkdir(parents=True)
    reports = []

    def die_at_the_third(metrics):
        reports.append(metrics["steps"])
        if len(reports) == 3:
            raise KilledError

    with pytest.raises(KilledError):
        run_trial(job, report=die_at_the_third)
    progress = run_trial(job, report=lambda metrics: reports.append(metrics["steps"]))
    assert reports == sorted(set(reports)), "an evaluation was repeated or lost"
    assert [point.steps for point in progress.curve] == reports
    assert reports[-1] >= job.budget_steps


def test_learning_beats_a_badly_tuned_rule(ray_session, tmp_path):
    call = arguments(tmp_path, budget_steps_ppo=65_536, evaluations=6, imitation_steps=100)
    (job,) = (job for job in make_jobs(**call) if job.algorithm == "ppo")
    progress = run_trial(job, report=lambda metrics: None)
    assert progress.best_point.train_cost < 0.93
    assert progress.best_point.validation_cost < 0.93


def test_a_trial_that_does_not_improve_ends_early(ray_session, tmp_path):
    call = arguments(tmp_path, learning_rate_ppo=1e-12, budget_steps_ppo=32_768, evaluations=16, patience=2)
    (job,) = (job for job in make_jobs(**call) if job.algorithm == "ppo")
    progress = run_trial(job, report=lambda metrics: None)
    assert len(progress.curve) == 3
    assert progress.steps < job.budget_steps / 2


def test_a_trial_far_behind_the_rule_is_stopped_and_its_best_checkpoint_kept(ray_session, tmp_path):
    hopeless = {"algorithms": ("ppo",), "imitation_steps": 0, "learning_rate_ppo": 1e-12, "evaluations": 8}
    call, updates = arguments(tmp_path, **hopeless), []
    (policy,) = train_policies(**call, on_progress=updates.append).values()
    end = updates[-1]
    assert (end.state, end.share) == ("stopped", 0.5)
    assert end.best_score == policy.best.score > 1.03
    assert len(policy.curve) == 5
    updates.clear()
    assert train_policies(**call, on_progress=updates.append)["tea", "ppo"].curve == policy.curve
    assert [(update.state, update.share) for update in updates] == [("reused", 0.5)]


def test_a_trial_that_asks_for_more_than_ray_has_is_refused(ray_session, tmp_path):
    with pytest.raises(ConfigError, match=r"asks for 0.25 GPU and Ray has 0; lower policy.gpus_per_trial"):
        train_policies(**arguments(tmp_path, gpus_per_trial=0.25))
    with pytest.raises(ConfigError, match=r"asks for 5 CPU and Ray has 4; lower policy.cpus_per_trial"):
        train_policies(**arguments(tmp_path, num_env_runners=4))


def test_a_failing_trial_is_reported_and_the_others_are_kept(ray_session, tmp_path):
    call = arguments(tmp_path, budget_steps_ppo=2_048, evaluations=1, algorithms=("dqn", "ppo"))
    jobs = {job.algorithm: job for job in make_jobs(**call)}
    # A file where the checkpoint folder should be: this trial cannot write.
    prepare_folder(jobs["dqn"])
    (jobs["dqn"].folder / ".checkpoint.draft").write_text("in the way")
    (jobs["dqn"].folder / ".checkpoint.draft").chmod(0o000)
    updates = []
    with pytest.raises(RuntimeError, match=r"1 of 2 policy trials failed .* run the command again"):
        train_policies(**call, on_progress=updates.append)
    assert load_result(jobs["ppo"]).algorithm == "ppo"
    assert "failed" in {update.state for update in updates}
