"""RLlib's alpha interfaces that the array runner and the lean learners stand on, held one by one."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "model"))
from learning_cases import make_category

from cluster.settings.models import PolicySettings
from rl.env import ReplayEnv
from rl.evaluate import replay
from rl.imitation import make_lesson
from rl.jobs import TrialJob
from rl.observation import anchored_grid
from rl.packed import make_env_data
from rl.policies.classical import ReorderPoint
from rl.rllib_learner import SharedData, build_algorithm
from rl.trial import run_trial

pytestmark = pytest.mark.integration

SMALL = PolicySettings(
    num_rows=32,
    rollout_periods=8,
    budget_steps_ppo=1_024,
    budget_steps_dqn=1_024,
    minibatch_size=64,
    replay_capacity=1_000,
    hidden=16,
    imitation_steps=20,
    evaluations=2,
)
RULE = ReorderPoint(cycle_service_level=0.8, order_periods=4.0)


@pytest.fixture(scope="module")
def make_job(ray_session, tmp_path_factory):
    scenario = make_category(rows=6, periods=24)
    baseline_S = replay(RULE, scenario).cost_S / scenario.num_periods
    data = make_env_data(scenario, baseline_cost_S=baseline_S, grid=anchored_grid(RULE, scenario.terms))
    lesson = make_lesson(RULE, scenario, data=data, seed=0)

    def make(algorithm, *, seed=0, **changes):
        return TrialJob(
            category="all",
            algorithm=algorithm,
            teacher=RULE.name,
            settings=SMALL.model_copy(update=changes),
            seed=seed,
            train=data,
            validation=data,
            lesson=lesson,
            folder=tmp_path_factory.mktemp(algorithm),
        )

    return make


@pytest.fixture
def algorithm(make_job, request):
    built = build_algorithm(make_job(request.param))
    yield built
    built.stop()


def weights_of(algorithm):
    return torch.cat([p.detach().flatten() for p in algorithm.get_module().scorer.parameters()])


both = pytest.mark.parametrize("algorithm", ["ppo", "dqn"], indirect=True)


@both
def test_a_training_step_samples_a_block_learns_and_sends_the_weights_back(algorithm):
    before = weights_of(algorithm)
    result = algorithm.train()
    after = weights_of(algorithm)
    assert not torch.equal(before, after)
    learner = algorithm.learner_group.get_state()["learner"]["rl_module"]["default_policy"]
    assert torch.equal(torch.from_numpy(learner["scorer.1.weight"]), algorithm.get_module().scorer[1].weight)
    assert result["env_runners"]["num_env_steps_sampled_lifetime"] == 32 * 8
    assert algorithm.train()["env_runners"]["num_env_steps_sampled_lifetime"] == 2 * 32 * 8


@pytest.mark.parametrize(
    ("algorithm", "names"),
    [
        ("ppo", {"policy_loss", "vf_loss", "entropy", "approximate_kl", "clip_fraction"}),
        ("dqn", {"qf_loss", "contrast_loss", "qf_mean", "td_error_abs_mean"}),
    ],
    indirect=["algorithm"],
)
def test_the_documented_metrics_are_logged(algorithm, names):
    result = algorithm.train()
    learner = result["learners"]["default_policy"]
    assert names <= set(learner)
    assert all(np.isfinite(float(learner[name])) for name in names)
    assert np.isfinite(result["env_runners"]["mean_reward"])
    page = Path(__file__).parents[2] / "docs" / "policies" / f"{'ppo' if 'entropy' in names else 'dqn'}.md"
    for name in (*names, "mean_reward"):
        assert f"`{name}`" in page.read_text(), f"{page.name} does not explain {name}"


@pytest.mark.parametrize(
    ("algorithm", "updates"),
    [("ppo", SMALL.num_epochs * 256 // 64), ("dqn", int(SMALL.replay_ratio * 256 // 64))],
    indirect=["algorithm"],
)
def test_every_call_makes_the_updates_that_the_configuration_says(algorithm, updates):
    result = algorithm.train()
    trained = result["learners"]["default_policy"]["num_module_steps_trained"]
    assert trained == updates * 64


@both
def test_the_learning_rate_follows_its_schedule(algorithm):
    rates = [algorithm.train()["learners"]["default_policy"]["default_optimizer_learning_rate"] for _ in range(5)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(rates[0] / 20, rel=0.35)


@both
def test_a_checkpoint_restores_weights_and_step_count(algorithm, make_job, tmp_path):
    algorithm.train()
    algorithm.save_to_path(str(tmp_path))
    name = "ppo" if hasattr(algorithm.config, "lambda_") else "dqn"
    other = build_algorithm(make_job(name, seed=5))
    try:
        assert not torch.equal(weights_of(other), weights_of(algorithm))
        other.restore_from_path(str(tmp_path))
        assert torch.equal(weights_of(other), weights_of(algorithm))
        steps = other.train()["env_runners"]["num_env_steps_sampled_lifetime"]
        assert steps == 2 * 32 * 8
    finally:
        other.stop()


@both
def test_runner_takes_newer_weights_only(algorithm):
    runner = algorithm.env_runner
    state = runner.get_state()
    changed = {name: value + 1 for name, value in state["rl_module"].items()}
    runner.set_state({"rl_module": changed, "weights_seq_no": 7})
    assert runner.get_state()["weights_seq_no"] == 7
    runner.set_state({"rl_module": state["rl_module"], "weights_seq_no": 6})
    assert np.array_equal(runner.get_state()["rl_module"]["scorer.1.weight"], changed["scorer.1.weight"])
    runner.set_state({"rl_module": {"default_policy": state["rl_module"]}})
    assert np.array_equal(runner.get_state()["rl_module"]["scorer.1.weight"], state["rl_module"]["scorer.1.weight"])


@both
def test_runners_act_without_critic_and_target(algorithm):
    assert {name.split(".")[0] for name in algorithm.env_runner.get_state()["rl_module"]} == {"scorer"}
    algorithm.env_runner.assert_healthy()
    assert "critic.1.weight" in algorithm.learner_group.get_state()["learner"]["rl_module"]["default_policy"]


@pytest.mark.parametrize("algorithm", ["dqn"], indirect=True)
def test_the_target_follows_and_is_not_learned(algorithm):
    def networks(learner):
        module = learner.module["default_policy"].unwrapped()
        (scorer, target), _ = module.get_target_network_pairs()
        return scorer[1].weight.detach().clone(), target[1].weight.detach().clone(), target[1].weight.requires_grad

    (answer,) = algorithm.learner_group.foreach_learner(networks)
    scorer, target, learns = answer.get()
    assert torch.equal(scorer, target)
    assert not learns
    algorithm.train()
    (answer,) = algorithm.learner_group.foreach_learner(networks)
    after, followed, _ = answer.get()
    gap, moved = (after - scorer).abs().sum(), (followed - scorer).abs().sum()
    assert 0 < moved < 0.6 * gap


@pytest.mark.parametrize("algorithm", ["ppo"], indirect=True)
def test_two_learners_share_a_block_by_rows(algorithm):
    from ray.rllib.utils.minibatch_utils import ShardEpisodesIterator

    (block,) = algorithm.env_runner.sample()
    shards = list(ShardEpisodesIterator([block], num_shards=2))
    assert [sum(len(part) for part in shard) for shard in shards] == [128, 128]
    rows = torch.cat([part.reward for shard in shards for part in shard], 1)
    assert torch.equal(rows, block.reward)


@pytest.mark.parametrize("algorithm", ["ppo"], indirect=True)
def test_a_block_travels_between_processes(algorithm):
    import ray

    (block,) = algorithm.env_runner.sample()
    copy = ray.get(ray.put(block))
    assert copy.id_ == block.id_
    assert torch.equal(copy.observation, block.observation)
    assert torch.equal(copy.action, block.action)


@pytest.mark.parametrize("algorithm", ["ppo"], indirect=True)
def test_sampled_probabilities_are_those_of_the_module(algorithm):
    (block,) = algorithm.env_runner.sample()
    module = algorithm.env_runner.module
    with torch.inference_mode():
        logits = module._forward({"obs": block.observation[:-1]})["action_dist_inputs"]
        expected = torch.distributions.Categorical(logits=logits).log_prob(block.action)
    assert block.log_probability.numpy() == pytest.approx(expected.numpy(), abs=1e-4)


def test_shared_data_is_not_copied_with_the_configuration(make_job):
    import copy

    shared = SharedData(make_job("ppo").train)
    assert copy.deepcopy({"shared": shared})["shared"] is shared


def test_the_reward_setting_reaches_the_environment(make_job):
    built = build_algorithm(make_job("ppo", reward="tiered"))
    try:
        (block,) = built.env_runner.sample()
        assert set((10 * block.reward).round().flatten().tolist()) == {-1, 0, 1, 2}
    finally:
        built.stop()


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_the_same_seed_gives_the_same_cost_and_another_seed_another(make_job, name):
    reports = []
    first, again, other = (run_trial(make_job(name, seed=seed), report=reports.append) for seed in (3, 3, 4))
    assert first.curve == again.curve
    assert first.curve != other.curve
    assert len(first.curve) == 3
    assert {"steps", "train_reward", "train_cost", "validation_cost", "score", "share"} <= set(reports[-1])


def test_an_environment_is_made_per_runner_with_its_own_seed(make_job):
    env = ReplayEnv(make_job("ppo").train, num_rows=8, block_periods=4, seed=1)
    env.begin_block(lambda seen: torch.zeros(len(seen), dtype=torch.int64))
    assert env.observe().shape == (8, env.num_features + env.num_hindsight)
