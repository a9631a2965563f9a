"""The tiered reward: its bands, and that the learning environment pays it."""

import doctest

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from inventory_cases import make_scenario, make_terms, poisson_forecast

from rl import rewards
from rl.env import ReplayEnv
from rl.observation import ActionGrid
from rl.packed import make_env_data
from rl.rewards import tiered_reward_N


def tiered(position, *, order=5.0, mean=4.0, lead_time=2, review=3):
    (reward,) = tiered_reward_N(
        np.array([position]),
        order_N=np.array([order]),
        mean_demand_N=np.array([mean]),
        lead_time_N=np.array([lead_time]),
        review_period_N=np.array([review]),
    )
    return reward


@pytest.mark.parametrize(
    ("position", "reward"),
    [(-3, 2), (0, 2), (8, 2), (8.01, 1), (20, 1), (20.01, -1), (500, -1)],
)
def test_bands_end_at_the_demand_of_the_lead_time_and_of_the_protection_interval(position, reward):
    assert tiered(position) == reward


def test_an_order_that_arrives_at_once_finds_only_an_empty_shelf_low():
    assert [tiered(position, lead_time=0, review=1) for position in (0, 1, 4, 5)] == [2, 1, 1, -1]


@given(position=st.floats(-100, 1_000), mean=st.floats(0, 50), lead_time=st.integers(0, 9), review=st.integers(1, 9))
def test_ordering_nothing_earns_nothing_and_less_stock_never_earns_less(position, mean, lead_time, review):
    terms = {"mean": mean, "lead_time": lead_time, "review": review}
    assert tiered(position, order=0.0, **terms) == 0
    assert tiered(position, **terms) <= tiered(position - 1, **terms)
    assert tiered(position, order=1.0, **terms) == tiered(position, order=1_000.0, **terms)


def test_the_learning_environment_pays_for_the_moment_of_ordering():
    terms = make_terms(lead_time=2, review=1, mean=3)
    scenario = make_scenario(np.full((1, 60), 3.0), terms=terms, forecast=poisson_forecast(3.0))
    grid = ActionGrid()
    data = make_env_data(scenario, baseline_cost_S=np.ones(1), grid=grid)
    env = ReplayEnv(data, num_rows=400, block_periods=4, reward="tiered", seed=2)
    seen = set()
    env.begin_block(lambda seen: torch.zeros(len(seen), dtype=torch.int64))
    for _ in range(4):
        env.observe()
        position_N = env._state.inventory_position_S
        level_N = env._now.level_SA[:, -1].numpy()
        action_N = torch.from_numpy(np.arange(400) % 2 * grid.anchor_action)
        reward_N = env.step(action_N).numpy()
        for action, position, level, reward in zip(action_N, position_N, level_N, reward_N, strict=True):
            band = 2 if position <= 6 else 1 if position <= 9 else -1
            expected = band if action and level > position else 0
            assert reward == pytest.approx(0.1 * expected)
            seen.add(expected)
    assert seen == {0, -1, 1, 2}


def test_the_example_in_the_code_runs():
    failed, tried = doctest.testmod(rewards)
    assert (failed, tried > 3) == (0, True)
