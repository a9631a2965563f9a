"""DQN on RLlib, array runner: the best actions of a tiny problem, and what each reward teaches of the garments."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "model"))
from table_cases import BEST_ACTION_X, DISCOUNT, TinyEnv

from cluster.settings.models import PolicySettings
from rl.garments import judge_garments, make_garment_days
from rl.garments_dqn import (
    GarmentEnv,
    GarmentNetworkPolicy,
    learn_garments,
    learn_network,
    observe_garments,
)

pytestmark = pytest.mark.integration

TINY = PolicySettings(
    hidden=16,
    num_rows=32,
    rollout_periods=8,
    budget_steps_dqn=16_000,
    learning_rate_dqn=5e-3,
    gamma=DISCOUNT,
    epsilon=0.3,
    temperature=1e-3,
    minibatch_size=64,
    replay_capacity=8_000,
)


def test_dqn_finds_the_best_actions_of_a_tiny_problem(ray_session):
    scorer = learn_network(
        lambda context: TinyEnv(rows=context["num_rows"], seed=context["seed"]),
        num_features=TinyEnv.num_features,
        settings=TINY,
        seed=0,
    )
    with torch.inference_mode():
        assert scorer(torch.eye(3)).argmax(1).tolist() == BEST_ACTION_X


def test_dqn_earns_the_reward_that_it_is_taught_by(ray_session):
    days = make_garment_days(copies=5, num_days=150, seed=99)

    def score(reward):
        scorer = learn_garments(reward=reward, seed=0)
        return judge_garments(GarmentNetworkPolicy(scorer=scorer, garment_S=np.tile(np.arange(10), 5)), days)

    tiered, cost = score("tiered"), score("cost")
    assert tiered.tiered_reward > cost.tiered_reward + 1
    assert tiered.cost > 3 * cost.cost
    assert tiered.fill_rate < 0.7 < 0.9 < cost.fill_rate


def test_rewards_are_scaled_so_that_a_lost_sale_counts_the_same_for_every_garment():
    env = GarmentEnv(reward="cost", copies=400, seed=0)
    env.begin_block(lambda seen_NF: torch.zeros(len(seen_NF), dtype=torch.int64))
    stock_N = env.observe()[:, -1]
    reward_N = env.step(torch.full((env.num_rows,), 2))
    is_empty_N = stock_N == 0
    # Every customer of an empty shelf is lost: half a point each.
    lost_N = -2 * reward_N[is_empty_N]
    assert lost_N.numpy() == pytest.approx(lost_N.round().numpy(), abs=1e-4)
    assert 5 < lost_N.mean() < 17
    tiered_N = GarmentEnv(reward="tiered", copies=20, seed=0).step(torch.zeros(200, dtype=torch.int64))
    assert set((10 * tiered_N).round().tolist()) == {-1, 1, 2}


def test_a_network_sees_garment_and_stock():
    seen_NF = observe_garments(np.float32([0, 10, 500]), garment_N=np.array([0, 9, 3]))
    assert seen_NF.shape == (3, GarmentEnv.num_features)
    assert seen_NF[:, :-1].argmax(1).tolist() == [0, 9, 3]
    assert seen_NF[:, -1].tolist() == [0.0, 0.5, 3.0]
