"""Siblings: lives that differ by their first order alone."""

import numpy as np
import pytest
import torch
from inventory_cases import random_scenario

from rl.env import ReplayEnv
from rl.network import OBSERVATION_NAMES
from rl.observation import anchored_grid
from rl.packed import make_env_data
from rl.policies.classical import ReorderPoint
from rl.siblings import other_action

RULE = ReorderPoint(cycle_service_level=0.8, order_periods=2.0)
PERIODS, BLOCK, GAMMA = 3, 6, 0.9


def make_env(seed, **options):
    scenario = random_scenario(seed)
    grid = anchored_grid(RULE, scenario.terms)
    data = make_env_data(scenario, baseline_cost_S=np.full(scenario.num_rows, 2.0), grid=grid)
    return ReplayEnv(
        data, num_rows=16, block_periods=BLOCK, twins=False, sibling_periods=PERIODS, gamma=GAMMA, seed=seed, **options
    )


def by_the_anchor(env):
    column = OBSERVATION_NAMES.index("position_minus_anchor_quantile")
    return lambda observation: torch.where(observation[:, column] <= 0, env.num_actions - 1, 0)


def earned_from(rewards, first):
    return sum(GAMMA**k * rewards[first + k] for k in range(PERIODS))


def live(env, act, *, first=None):
    """One block; ``first`` replaces the actions of its first period."""
    rewards, observations = [], []
    for period in range(BLOCK):
        observations.append(env.observe())
        action = act(observations[-1]) if period or first is None else first
        rewards.append(env.step(action))
    observations.append(env.observe())
    return torch.stack(rewards), torch.stack(observations)


@pytest.mark.parametrize("seed", range(5))
def test_a_greedy_row_lives_the_same_life_again(seed):
    env = make_env(seed)
    act = by_the_anchor(env)
    env.begin_block(act)
    rewards, observations = live(env, act)
    again = env.siblings()
    assert again.action.shape == (BLOCK - PERIODS + 1, 16)
    for first in range(BLOCK - PERIODS + 1):
        torch.testing.assert_close(again.earned[0, first], earned_from(rewards, first), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(again.observation[0], observations[PERIODS:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_a_sibling_earns_what_the_row_would_have_earned_with_its_action(seed):
    """A second environment of the same seed takes the other action in the first period, and is greedy after it."""
    env, second = make_env(seed), make_env(seed)
    act = by_the_anchor(env)
    for one in (env, second):
        one.begin_block(act)
    live(env, act)
    siblings = env.siblings()
    rewards, observations = live(second, act, first=siblings.action[0])
    torch.testing.assert_close(siblings.earned[1, 0], earned_from(rewards, 0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(siblings.observation[1, 0], observations[PERIODS], rtol=1e-4, atol=1e-4)
    assert (siblings.earned[0, 0] != siblings.earned[1, 0]).any()


def test_nobody_has_siblings_unless_asked_or_where_the_moment_of_ordering_is_paid():
    env = make_env(0, reward="tiered")
    env.begin_block(by_the_anchor(env))
    live(env, by_the_anchor(env))
    assert env.siblings() is None


def test_the_other_action_is_never_the_same_and_reaches_all():
    random = np.random.default_rng(0)
    action = torch.arange(9).repeat(4_000)
    other = other_action(action, num_actions=9, random=random)
    assert (other != action).all()
    assert ((other >= 0) & (other < 9)).all()
    pairs = set(zip(action.tolist(), other.tolist(), strict=True))
    assert len(pairs) == 9 * 8
    assert ((other - action).abs() <= 2).float().mean() > 0.5
    two = other_action(torch.tensor([0, 1] * 50), num_actions=2, random=random)
    assert two.tolist() == [1, 0] * 50
