"""The task that tables learn from: the simulator's money, each series' own states, restarts."""

import numpy as np
import pytest
from inventory_cases import make_terms

from rl.demand import DemandLaw
from rl.policies.q_learning import StockGrid
from rl.stock_task import StockTask

LAWS = (DemandLaw(name="poisson", mean=3), DemandLaw(name="geometric", mean=6))
ORDERS = np.array([0, 4, 9], dtype=np.float32)
GRID = StockGrid(num_cells=(6, 3), width=4)


def make_task(*, copies=50, lead_time=2, **options):
    terms = make_terms(2, lead_time=lead_time, holding=[0.5, 0.25], lost=[3, 8])
    options = {"max_start": 20} | options
    return StockTask(
        LAWS, lead_time_S=terms.lead_time_S, costs=terms.costs, order_A=ORDERS, grid=GRID, copies=copies, **options
    )


@pytest.mark.parametrize("reward", ["cost", "tiered"])
def test_steps_are_those_of_a_slow_loop(reward):
    task = make_task(copies=10, reward=reward, seed=3)
    task.begin_block()
    rng = np.random.default_rng(0)
    for _ in range(12):
        before = task.state
        action_N = rng.integers(3, size=20)
        reward_N = task.step(action_N)
        after = task.state
        for row, action in enumerate(action_N):
            series = row % 2
            on_hand, (first, second) = before.on_hand_S[row], before.on_order_SL[row]
            left = after.on_hand_S[row] - first
            assert after.on_order_SL[row].tolist() == [second + ORDERS[action], 0]
            assert 0 <= left <= on_hand
            if reward == "tiered":
                position, mean = on_hand + first + second, (3, 6)[series]
                band = 2 if position <= 2 * mean else 1 if position <= 3 * mean else -1
                assert reward_N[row] == (band if action else 0)
            elif left > 0:  # nobody was turned away
                assert reward_N[row] == pytest.approx(-(0.5, 0.25)[series] * left)
            else:  # lost units are whole
                lost = -reward_N[row] / (3, 8)[series]
                assert lost == pytest.approx(round(lost), abs=1e-5)
                assert lost >= 0


def test_demand_is_that_of_each_series():
    task = make_task(copies=20_000, lead_time=1, max_start=1_000, seed=1)
    start_N = task.state.on_hand_S
    task.step(np.zeros(40_000, dtype=np.int64))
    sold_N = (start_N - task.state.on_hand_S)[start_N >= 200]
    series_N = task.series_N[start_N >= 200]
    assert sold_N[series_N == 0].mean() == pytest.approx(3, abs=0.06)
    assert sold_N[series_N == 1].mean() == pytest.approx(6, abs=0.2)
    assert sold_N[series_N == 1].var() == pytest.approx(42, rel=0.1)


def test_every_series_has_states_of_its_own():
    task = make_task()
    state_N = task.observe()
    assert task.num_states == 2 * 6 * 3
    assert set(state_N[task.series_N == 0]) <= set(range(18))
    assert set(state_N[task.series_N == 1]) <= set(range(18, 36))
    assert (state_N % 18 == GRID.number_S(task.state)).all()


def test_a_share_of_the_rows_begins_anew_at_each_block():
    task = make_task(copies=5_000, restart_share=0.3)
    for _ in range(3):
        task.step(np.full(10_000, 2))
    before = task.state
    task.begin_block()
    is_new_N = (task.state.on_order_SL == 0).all(axis=1)
    assert is_new_N.mean() == pytest.approx(0.3, abs=0.02)
    assert set(task.state.on_hand_S[is_new_N]) == set(range(21))
    assert (task.state.on_hand_S == before.on_hand_S)[~is_new_N].all()
    assert (task.state.on_order_SL == before.on_order_SL)[~is_new_N].all()


def test_the_same_seed_draws_the_same_days():
    def live(seed):
        task = make_task(seed=seed)
        return [task.step(np.ones(100, dtype=np.int64)).sum() for _ in range(5)]

    assert live(1) == live(1)
    assert live(1) != live(2)
