"""The learners' arithmetic against slow oracles, without Ray: returns, advantages, replay, imitation, losses."""

from dataclasses import replace

import pytest
import torch
from learning_cases import make_category

from cluster.config import Settings
from cluster.errors import ConfigError
from rl.actors import GreedyActor
from rl.env import ReplayEnv
from rl.evaluate import replay
from rl.imitation import learn_lesson, make_lesson
from rl.jobs import make_jobs
from rl.network import OBSERVATION_NAMES, make_mlp
from rl.observation import anchored_grid
from rl.packed import make_env_data, replay_cost_S
from rl.policies.classical import ReorderPoint
from rl.policies.dqn import ReplayConnector, ReplayRing, n_step_return
from rl.policies.ppo import AdvantageConnector, generalised_advantage
from rl.runner import Block
from rl.siblings import Siblings

GAMMA, LAMBDA = 0.9, 0.7


@pytest.fixture
def block():
    torch.manual_seed(0)
    return Block(
        observation=torch.randn(7, 5, 3),
        action=torch.randint(4, (6, 5)),
        log_probability=-torch.rand(6, 5),
        reward=torch.randn(6, 5),
    )


def test_advantages_are_the_sum_of_discounted_surprises(block):
    value_TN = torch.randn(7, 5)
    advantage_TN, target_TN = generalised_advantage(block.reward, value_TN, gamma=GAMMA, lambda_=LAMBDA)
    for t in range(6):
        surprise = [block.reward[k] + GAMMA * value_TN[k + 1] - value_TN[k] for k in range(6)]
        expected = sum((GAMMA * LAMBDA) ** (k - t) * surprise[k] for k in range(t, 6))
        assert advantage_TN[t].numpy() == pytest.approx(expected.numpy(), abs=1e-5)
        assert target_TN[t].numpy() == pytest.approx((expected + value_TN[t]).numpy(), abs=1e-5)


@pytest.mark.parametrize("n", [1, 3, 6])
def test_n_step_returns_are_discounted_sums(block, n):
    total = n_step_return(block.reward, gamma=GAMMA, n=n)
    assert len(total) == 6 - n + 1
    for t in range(len(total)):
        expected = sum(GAMMA**k * block.reward[t + k] for k in range(n))
        assert total[t].numpy() == pytest.approx(expected.numpy(), abs=1e-5)


def test_a_ring_keeps_the_latest_transitions():
    ring = ReplayRing(capacity=10, seed=0)
    for first in (0, 4, 8):
        ring.add({"value": torch.arange(first, first + 4)})
    assert len(ring) == 10
    assert set(ring.draw(500)["value"].tolist()) == set(range(2, 12))
    ring.add({"value": torch.arange(100, 125)})
    assert set(ring.draw(500)["value"].tolist()) == set(range(115, 125))


def test_a_ring_draws_only_what_it_has():
    ring = ReplayRing(capacity=100, seed=0)
    ring.add({"value": torch.tensor([7, 8])})
    assert set(ring.draw(50)["value"].tolist()) == {7, 8}


class OneModule:
    """As much of RLlib's multi module as a connector asks for."""

    def __init__(self):
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def __getitem__(self, module_id):
        return self

    def unwrapped(self):
        return self

    def parameters(self):
        return iter([self.weight])

    def compute_values(self, batch):
        return batch["obs"] @ self.weight


def test_a_replayed_transition_is_one_that_happened(block):
    connector = ReplayConnector(gamma=GAMMA, n_step=2, capacity=100, batch_size=64, seed=0)
    (batch,) = connector(rl_module=OneModule(), batch={}, episodes=[block]).values()
    returns = block.reward[:-1] + GAMMA * block.reward[1:]
    happened = {
        tuple(block.observation[t, n].tolist()): (block.action[t, n], returns[t, n], block.observation[t + 2, n])
        for t in range(5)
        for n in range(5)
    }
    assert len(batch["obs"]) == 64
    for row in range(64):
        action, reward, after = happened[tuple(batch["obs"][row].tolist())]
        assert batch["actions"][row] == action
        assert batch["rewards"][row] == pytest.approx(float(reward), abs=1e-5)
        assert torch.equal(batch["new_obs"][row], after)


@pytest.fixture
def block_with_siblings(block):
    siblings = Siblings(
        action=torch.randint(4, (5, 5)), earned=torch.randn(2, 5, 5), observation=torch.randn(2, 5, 5, 3)
    )
    return replace(block, siblings=siblings)


def test_a_replayed_transition_brings_its_sibling_from_the_same_moment(block_with_siblings):
    block = block_with_siblings
    connector = ReplayConnector(gamma=GAMMA, n_step=2, capacity=100, batch_size=64, seed=0)
    (batch,) = connector(rl_module=OneModule(), batch={}, episodes=[block]).values()
    moment_of = {tuple(block.observation[t, n].tolist()): (t, n) for t in range(5) for n in range(5)}
    for row in range(64):
        moment = moment_of[tuple(batch["obs"][row].tolist())]
        assert batch["actions"][row] == block.action[moment]
        assert batch["other_action"][row] == block.siblings.action[moment]
        assert (batch["rewards"][row], batch["other_reward"][row]) == tuple(block.siblings.earned[:, *moment])
        assert torch.equal(batch["new_obs"][row], block.siblings.observation[0][moment])
        assert torch.equal(batch["other_next_obs"][row], block.siblings.observation[1][moment])


def test_a_block_takes_its_siblings_along(block_with_siblings):
    siblings = block_with_siblings.siblings
    restore, arguments = block_with_siblings.__reduce__()
    for part, rows in ((restore(*arguments), slice(None)), (block_with_siblings[6:18], slice(1, 3))):
        assert torch.equal(part.siblings.action, siblings.action[:, rows])
        assert torch.equal(part.siblings.earned, siblings.earned[:, :, rows])
        assert torch.equal(part.siblings.observation, siblings.observation[:, :, rows])


def test_a_ppo_batch_is_every_step_once_shuffled_with_standard_advantages(block):
    connector = AdvantageConnector(gamma=GAMMA, lambda_=LAMBDA)
    (batch,) = connector(rl_module=OneModule(), batch={}, episodes=[block, block]).values()
    assert len(batch["obs"]) == 60
    assert batch["advantages"].mean() == pytest.approx(0, abs=1e-5)
    assert batch["advantages"].std() == pytest.approx(1, abs=1e-4)
    seen = sorted(tuple(row) for row in batch["obs"].tolist())
    assert seen == sorted(tuple(row) for row in block.observation[:-1].flatten(0, 1).tolist() * 2)
    assert batch["obs"][:25].tolist() != block.observation[:-1].flatten(0, 1)[:25].tolist()
    assert batch["obs"].requires_grad is False
    assert not batch["obs"].is_inference()


def test_blocks_are_cut_between_rows(block):
    left, right = block[:12], block.slice(slice(12, None), len_lookback_buffer=1)
    assert (len(left), len(right)) == (12, 18)
    assert torch.equal(torch.cat([left.reward, right.reward], 1), block.reward)
    assert torch.equal(torch.cat([left.observation, right.observation], 1), block.observation)
    assert left.id_ != right.id_
    with pytest.raises(ValueError, match="cannot be cut at steps 0 and 13"):
        block[:13]


def test_imitation_learns_a_rule_and_its_cost():
    scenario = make_category(rows=10)
    rule = ReorderPoint(cycle_service_level=0.8, order_periods=4.0)
    baseline_S = replay(rule, scenario).cost_S / scenario.num_periods
    data = make_env_data(scenario, baseline_cost_S=baseline_S, grid=anchored_grid(rule, scenario.terms))
    lesson = make_lesson(rule, scenario, data=data, seed=0)
    torch.manual_seed(0)
    scorer = make_mlp(len(OBSERVATION_NAMES), hidden=32, num_outputs=data.grid.num_actions, output_gain=0.01)
    assert learn_lesson(scorer, lesson, steps=0, seed=0) < 0.9
    assert learn_lesson(scorer, lesson, steps=250, seed=0) > 0.97

    cost_S = replay_cost_S(data, GreedyActor(scorer))
    assert cost_S.sum() == pytest.approx(baseline_S.sum(), rel=0.05)


def short_jobs(folder, periods):
    return make_jobs(
        Settings(),
        scenarios_train={"tea": make_category(rows=4, periods=periods)},
        scenarios_validation={"tea": make_category(rows=4, periods=4)},
        heuristics={"tea": {"reorder_point": ReorderPoint(cycle_service_level=0.8, order_periods=4.0)}},
        store_folder=folder,
    )


def test_a_short_history_shortens_the_blocks(tmp_path):
    for job in short_jobs(tmp_path, 9):
        assert job.settings.rollout_periods == 8
        ReplayEnv(job.train, num_rows=4, block_periods=8).begin_block(
            lambda seen: torch.zeros(len(seen), dtype=torch.int64)
        )


def test_a_history_too_short_to_learn_from_is_refused_with_the_next_step(tmp_path):
    with pytest.raises(ConfigError, match=r"from 2 periods, at least 3 are needed; raise split.policy_periods"):
        short_jobs(tmp_path, 2)


def test_the_digest_follows_everything_that_decides_the_result(tmp_path):
    jobs = short_jobs(tmp_path, 9)
    assert {job.key.rsplit("-", 1)[1] for job in jobs} == {"dqn", "ppo", "direct"}
    job = jobs[0]
    assert job.digest() == short_jobs(tmp_path, 9)[0].digest()
    changed = [
        replace(job, seed=1),
        replace(job, settings=job.settings.model_copy(update={"hidden": 8})),
        replace(job, train=replace(job.train, demand_TS=job.train.demand_TS + 1)),
        replace(job, validation=replace(job.validation, baseline_cost_S=job.validation.baseline_cost_S + 1)),
        replace(job, lesson=replace(job.lesson, action_M=job.lesson.action_M + 1)),
    ]
    assert len({other.digest() for other in changed} | {job.digest()}) == 6
    assert replace(job, folder=tmp_path / "elsewhere").digest() == job.digest()
