"""The learning environment: the same money as the replay, paired rewards, restarts within the replay."""

import numpy as np
import pytest
import torch
from inventory_cases import make_scenario, make_state, make_terms, poisson_forecast, random_scenario

from rl.actors import GreedyActor, ServedGraph
from rl.constraints import feasible_quantity_S, is_review_period_S
from rl.env import ReplayEnv
from rl.evaluate import replay
from rl.imitation import make_lesson
from rl.network import OBSERVATION_NAMES, make_mlp, order_wish
from rl.observation import ActionGrid, anchored_grid, make_forecast_inputs, make_state_inputs
from rl.packed import make_env_data, replay_cost_S
from rl.policies.classical import BaseStock, ReorderPoint

RULE = ReorderPoint(cycle_service_level=0.8, order_periods=2.0)


def pack(scenario, grid=None, *, baseline=2.0):
    grid = grid or anchored_grid(RULE, scenario.terms)
    return make_env_data(scenario, baseline_cost_S=np.full(scenario.num_rows, baseline), grid=grid)


def make_env(scenario, *, rows=64, block=8, grid=None, **options):
    return ReplayEnv(pack(scenario, grid), num_rows=rows, block_periods=block, **options)


def by_the_anchor(env):
    """What the anchor does, read off the observation: order at or below its quantile."""
    column = OBSERVATION_NAMES.index("position_minus_anchor_quantile")
    return lambda observation: torch.where(observation[:, column] <= 0, env.num_actions - 1, 0)


def nothing(observation):
    return torch.zeros(len(observation), dtype=torch.int64)


@pytest.mark.parametrize("seed", range(4))
def test_the_anchor_played_as_actions_costs_what_the_rule_costs(seed):
    scenario = random_scenario(seed)
    data = pack(scenario)
    column = OBSERVATION_NAMES.index("position_minus_anchor_quantile")

    def choose(context, observation, position):
        action = torch.where(observation[:, column] <= 0, data.grid.anchor_action, 0)
        return order_wish(context, action, position), action

    expected_S = replay(RULE, scenario).cost_S / scenario.num_periods
    assert replay_cost_S(data, choose) == pytest.approx(expected_S, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_row_that_does_as_its_twin_earns_nothing(seed):
    env = make_env(random_scenario(seed), restart_share=0.3, seed=seed)
    act = by_the_anchor(env)
    for _ in range(3):
        env.begin_block(act)
        for _ in range(8):
            observation = env.observe()
            gaps = observation[:, env.num_features : env.num_features + 9]
            assert gaps.abs().max() == 0
            assert env.step(act(observation)).abs().max() < 1e-5


def test_the_reward_is_what_the_row_saved_against_its_twin():
    # A row that never orders meets demand 3 a period and loses all of it.
    terms = make_terms(lead_time=0, holding=0.25, lost=4, fixed=1)
    scenario = make_scenario(np.full((1, 40), 3.0), terms=terms, forecast=poisson_forecast(3.0))
    rule = BaseStock(cycle_service_level=0.9)
    env = make_env(scenario, grid=anchored_grid(rule, terms), rows=200, block=20)
    env.begin_block(by_the_anchor(env))
    for _ in range(19):
        env.observe()
        env.step(torch.zeros(200, dtype=torch.int64))
    observation = env.observe()
    assert observation[:, env.num_features :][:, :9].max() < 0
    reward_N = env.step(torch.zeros(200, dtype=torch.int64))
    # By now every shelf is empty: 12 a period is lost, while the twin orders up to 5, sells 3 and holds 2: 1.5.
    assert reward_N.numpy() == pytest.approx(np.full(200, (1.5 - 12) * 0.1 / 2.0), rel=1e-4)


def test_without_twins_the_reward_is_what_the_row_saved_against_the_rules_mean_cost():
    terms = make_terms(lead_time=0, holding=0.25, lost=4, fixed=1)
    scenario = make_scenario(np.full((1, 40), 3.0), terms=terms, forecast=poisson_forecast(3.0))
    env = make_env(scenario, rows=200, block=20, twins=False)
    env.begin_block(nothing)
    for _ in range(19):
        env.observe()
        env.step(torch.zeros(200, dtype=torch.int64))
    assert env.observe().shape == (200, env.num_features + env.num_hindsight)
    reward_N = env.step(torch.zeros(200, dtype=torch.int64))
    # Every shelf is empty: 12 a period is lost, where the rule costs 2 on average.
    assert reward_N.numpy() == pytest.approx(np.full(200, (2.0 - 12) * 0.1 / 2.0), rel=1e-4)


def test_twins_begin_every_block_as_their_rows():
    env = make_env(random_scenario(3), restart_share=0.0, seed=3)
    for _ in range(2):
        env.begin_block(nothing)
        assert env.observe()[:, env.num_features :][:, :9].abs().max() == 0
        for _ in range(8):
            env.step(torch.full((64,), env.num_actions - 1))
            observation = env.observe()
        assert observation[:, env.num_features :][:, :9].abs().max() > 0


def test_steps_are_those_of_a_slow_loop():
    scenario = random_scenario(7, rows=5)
    env = make_env(scenario, rows=40, block=10, seed=3)
    env.begin_block(nothing)
    rng = np.random.default_rng(0)
    series_N, period_N = env._series_N.copy(), env._period_N.copy()
    env.observe()
    state = env._state
    on_hand_N, pipeline = state.on_hand_S.astype(float), [list(row) for row in state.on_order_SL]
    for _ in range(10):
        env.observe()
        assert env._state.on_hand_S == pytest.approx(on_hand_N, abs=1e-4)
        action_N = torch.from_numpy(rng.integers(0, env.num_actions, 40))
        env.step(action_N)
        for row in range(40):
            terms = scenario.terms.take(np.array([series_N[row]]))
            one = make_state(on_hand=on_hand_N[row], on_order=[pipeline[row]])
            level = env._now.level_SA[row, max(int(action_N[row]) - 1, 0)].item()
            wish = max(level - one.inventory_position_S[0], 0.0) if action_N[row] else 0.0
            order = feasible_quantity_S(
                np.array([wish], dtype=np.float32),
                state=one,
                terms=terms,
                is_review_S=is_review_period_S(terms, period=int(scenario.first_period + period_N[row])),
            )[0]
            lead = scenario.lead_time_NT[series_N[row], period_N[row]]
            if lead == 0:
                on_hand_N[row] += order
            else:
                pipeline[row][lead - 1] += order
            on_hand_N[row] = max(on_hand_N[row] - scenario.demand_NT[series_N[row], period_N[row]], 0)
            on_hand_N[row] += pipeline[row][0]
            pipeline[row] = [*pipeline[row][1:], 0.0]
        period_N += 1


def test_blocks_stay_within_the_replay_and_cover_it():
    env = make_env(random_scenario(1, periods=30), rows=500, block=8, restart_share=0.25)
    seen = set()
    for _ in range(12):
        env.begin_block(nothing)
        seen |= set(env._period_N.tolist())
        assert env._period_N.max() + 8 < 30
        for _ in range(8):
            env.observe()
            env.step(torch.zeros(500, dtype=torch.int64))
        assert torch.isfinite(env.observe()).all()  # the block's last observation, to bootstrap from
    assert seen == set(range(22))


def test_a_share_of_the_rows_restarts_at_each_block():
    env = make_env(random_scenario(2, periods=200), rows=4_000, block=2, restart_share=0.25)
    env.begin_block(nothing)
    before_N = env._period_N.copy()
    env.begin_block(nothing)
    assert 0.22 < (env._period_N != before_N).mean() < 0.28


def test_a_block_longer_than_the_replay_is_refused_with_the_next_step():
    with pytest.raises(
        ValueError, match=r"block of 30 periods does not fit a replay of 30; lower policy.rollout_periods"
    ):
        make_env(random_scenario(0, periods=30), block=30)


def test_the_same_seed_draws_the_same_rows_and_another_one_others():
    def first_observation(seed):
        env = make_env(random_scenario(5), seed=seed)
        env.begin_block(nothing)
        return env.observe()

    assert torch.equal(first_observation(1), first_observation(1))
    assert not torch.equal(first_observation(1), first_observation(2))


def test_hindsight_is_the_demand_to_come_and_never_part_of_what_the_policy_sees():
    terms = make_terms(lead_time=1)
    demand_NT = np.zeros((1, 30))
    demand_NT[0, 20] = 100
    scenario = make_scenario(demand_NT, terms=terms, forecast=poisson_forecast(2.0))
    env = make_env(scenario, rows=300, block=4, seed=1)
    env.begin_block(nothing)
    observation = env.observe()
    assert observation.shape == (300, env.num_features + env.num_hindsight)
    sees_N = (env._period_N <= 20) & (env._period_N + 12 > 20)
    assert sees_N.any()
    assert not sees_N.all()
    last_N = observation[:, -1].numpy()
    assert (last_N[sees_N] > 1).all()
    assert (last_N[~sees_N & (env._period_N + 12 < 30)] < 0).all()
    calm = make_scenario(np.zeros((1, 30)), terms=terms, forecast=poisson_forecast(2.0))
    other = make_env(calm, rows=300, block=4, seed=1)
    other.begin_block(nothing)
    assert torch.equal(other.observe()[:, : env.num_features], observation[:, : env.num_features])


def test_a_lesson_is_what_the_rule_does():
    scenario = random_scenario(3, rows=8)
    data = pack(scenario)
    lesson = make_lesson(RULE, scenario, data=data, seed=0)
    assert len(lesson.action_M) == 64 * 8 * 30
    column = OBSERVATION_NAMES.index("position_minus_anchor_quantile")
    orders_M = lesson.observation_MF[:, column] <= 0
    assert set(lesson.action_M[~orders_M]) == {0}
    assert (lesson.action_M[orders_M] > 0).mean() > 0.99
    assert 0.02 < orders_M.mean() < 0.98


def test_a_network_plays_the_same_in_the_packed_replay_as_through_the_policy_protocol():
    scenario = random_scenario(11)
    grid = ActionGrid()
    data = pack(scenario, grid)
    torch.manual_seed(0)
    scorer = make_mlp(len(OBSERVATION_NAMES), hidden=16, num_outputs=grid.num_actions, output_gain=1.0)

    class Played:
        name = "played"

        def order_quantity_S(self, state, forecast, terms):
            inputs = make_state_inputs(state) | make_forecast_inputs(forecast, terms, grid=grid)
            with torch.inference_mode():
                wish_S, _ = ServedGraph(GreedyActor(scorer), grid)(**{k: torch.tensor(v) for k, v in inputs.items()})
            return wish_S.numpy()

    packed_S = replay_cost_S(data, GreedyActor(scorer))
    assert packed_S == pytest.approx(replay(Played(), scenario).cost_S / scenario.num_periods, rel=1e-4)
