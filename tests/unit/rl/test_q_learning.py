"""Tabular Q-learning against numbers worked by hand, a slow loop, and its documentation."""

import doctest
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inventory_cases import make_state, make_terms, poisson_forecast

from rl.policies import q_learning
from rl.policies.q_learning import QPoint, QSettings, QTable, StockGrid, TablePolicy, learn_table


def make_table(values=((0.0, 0.0), (4.0, 10.0)), **settings):
    values = np.array(values)
    table = QTable(num_states=len(values), num_actions=values.shape[1], settings=QSettings(**settings))
    table.value_XA[:] = values
    return table


def update(table, rows):
    state_N, action_N, reward_N, next_N = (np.array(column) for column in zip(*rows, strict=True))
    return table.update(state_N=state_N, action_N=action_N, reward_N=reward_N, next_state_N=next_N)


def test_an_update_moves_a_value_by_the_learning_rate_towards_reward_plus_discounted_best_next_value():
    table = make_table(discount=0.9, learning_rate=0.1)
    error = update(table, [(0, 1, 2.0, 1)])
    # Target 2 + 0.9 * 10 = 11, from 0.
    assert table.value_XA.tolist() == [[0.0, pytest.approx(1.1)], [4.0, 10.0]]
    assert error == pytest.approx(11)
    update(table, [(0, 1, 2.0, 1)])
    assert table.value_XA[0, 1] == pytest.approx(1.1 + 0.1 * (11 - 1.1))


def test_rows_that_did_the_same_count_as_one_update_towards_the_mean_of_their_targets():
    table = make_table(discount=0.5, learning_rate=0.2)
    error = update(table, [(0, 0, 1.0, 0), (1, 0, 3.0, 0), (0, 0, 6.0, 1), (0, 0, 2.0, 1)])
    # Targets of (0, 0): 1, 11 and 7; of (1, 0): 3, from 4. All next values are from before the update.
    assert table.value_XA.tolist() == [[pytest.approx(0.2 * 19 / 3), 0.0], [pytest.approx(4 - 0.2), 10.0]]
    assert error == pytest.approx((1 + 1 + 11 + 7) / 4)
    assert table.visits_XA.tolist() == [[1, 0], [1, 0]]


def test_a_rate_of_one_over_visits_gives_the_mean_of_all_targets():
    table = make_table(discount=0.0, learning_rate=1.0, visit_power=1.0)
    rewards = [3.0, -1.0, 8.0, 4.0]
    for reward in rewards:
        update(table, [(0, 0, reward, 1)])
    assert table.value_XA[0, 0] == pytest.approx(np.mean(rewards))
    assert table.visits_XA[0, 0] == 4


def test_a_power_between_slows_the_rate_down_as_it_says():
    table = make_table(discount=0.0, learning_rate=0.8, visit_power=0.5)
    update(table, [(0, 0, 10.0, 1)])
    assert table.value_XA[0, 0] == pytest.approx(8.0)
    update(table, [(0, 0, 10.0, 1)])
    assert table.value_XA[0, 0] == pytest.approx(8.0 + 0.8 / np.sqrt(2) * 2.0)


transitions = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.floats(-10, 10), st.integers(0, 3)), min_size=1, max_size=20
)


@given(batches=st.lists(transitions, min_size=1, max_size=4))
def test_many_rows_at_once_are_a_slow_loop_over_pairs(batches):
    table = make_table(np.zeros((4, 3)), discount=0.7, learning_rate=0.5, visit_power=0.6)
    slow, visits = np.zeros((4, 3)), np.zeros((4, 3))
    for rows in batches:
        update(table, rows)
        targets = {}
        for state, action, reward, following in rows:
            targets.setdefault((state, action), []).append(reward + 0.7 * slow[following].max())
        for pair in targets:
            visits[pair] += 1
        moved = {pair: 0.5 / visits[pair] ** 0.6 * (np.mean(t) - slow[pair]) for pair, t in targets.items()}
        for pair, change in moved.items():
            slow[pair] += change
    assert table.value_XA == pytest.approx(slow, abs=1e-9)


def test_exploration_is_greedy_but_for_a_share_of_uniform_actions():
    state_N = np.tile([0, 1], 20_000)
    values = [[1.0, 5.0, 2.0, 0.0], [7.0, 5.0, 2.0, 0.0]]
    greedy_N = np.array([1, 0])[state_N]
    assert (make_table(values, epsilon=0.0).explore(state_N) == greedy_N).all()
    action_N = make_table(values, epsilon=0.2).explore(state_N)
    assert (action_N == greedy_N).mean() == pytest.approx(0.8 + 0.2 / 4, abs=0.01)
    assert (action_N == 3).mean() == pytest.approx(0.2 / 4, abs=0.01)
    assert (make_table(values, epsilon=0.2, seed=1).explore(state_N) != action_N).any()


def test_equal_values_choose_the_first_action():
    assert make_table([[2.0, 2.0, 1.0]]).greedy_X.tolist() == [0]


@pytest.mark.parametrize(
    "wrong", [{"discount": 1.0}, {"epsilon": 1.1}, {"learning_rate": 0.0}, {"learning_rate": 2.0}, {"visit_power": 1.5}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        QSettings(**wrong)


class Clock:
    """Two rows; action 1 pays the hour, action 0 pays nothing; the hour moves on whatever is done."""

    num_states, num_actions = 3, 2

    def __init__(self):
        self.hour_N = np.array([0, 1])
        self.blocks = 0

    def begin_block(self):
        self.blocks += 1

    def observe(self):
        return self.hour_N

    def step(self, action_N):
        reward_N = np.where(action_N == 1, self.hour_N, 0).astype(np.float32)
        self.hour_N = (self.hour_N + 1) % 3
        return reward_N


def test_learning_steps_the_task_in_blocks_and_reports_means_of_stretches():
    task = Clock()
    settings = QSettings(discount=0.0, epsilon=0.0, learning_rate=0.5, initial_value=1.0)
    table, curve = learn_table(task, settings=settings, num_periods=4, block_periods=3, num_points=2)
    assert task.blocks == 2
    assert [point.steps for point in curve] == [4, 8]
    # Hours of the rows: (0, 1), (1, 2), (2, 0), (0, 1). Actions: (0, 0), as values are equal; (1, 0); (1, 1); (0, 1).
    assert table.visits_XA.tolist() == [[2, 1], [1, 2], [1, 1]]
    assert table.value_XA.tolist() == [[0.25, 0.5], [0.5, 1.0], [0.5, 1.5]]
    first, last = curve
    assert (first.mean_reward, last.mean_reward) == (0.25, 0.75)
    assert (first.td_error_abs_mean, last.td_error_abs_mean) == (0.75, 0.625)
    assert (first.visited_share, last.visited_share) == (pytest.approx(4 / 6), 1)
    assert (first.q_mean, last.q_mean) == (pytest.approx(2.5 / 4), pytest.approx(4.25 / 6))


def test_a_grid_numbers_every_stock_once_and_puts_what_is_beyond_into_its_last_cell():
    grid = StockGrid(num_cells=(5, 3, 2))
    shelves, first, second = (axis.ravel() for axis in np.meshgrid(range(5), range(3), range(2), indexing="ij"))
    state = make_state(30, on_hand=shelves, on_order=np.stack([first, second], axis=1))
    assert grid.number_S(state).tolist() == list(range(30))
    assert grid.num_states == 30
    beyond = make_state(2, on_hand=[4, 900], on_order=[[2, 1], [17, 5]])
    assert grid.number_S(beyond).tolist() == [29, 29]


def test_a_wide_cell_holds_its_width():
    grid = StockGrid(num_cells=(4,), width=5)
    state = make_state(6, on_hand=[0, 4, 5, 14, 15, 99], on_order=np.full((6, 1), 3.0))
    assert grid.number_S(state).tolist() == [0, 0, 1, 2, 3, 3]


@pytest.mark.parametrize("wrong", [{"num_cells": ()}, {"num_cells": (4, 0)}, {"num_cells": (4,), "width": 0}])
def test_a_grid_without_cells_is_refused(wrong):
    with pytest.raises(ValueError, match="cells >= 1 of width >= 1"):
        StockGrid(**wrong)


def test_a_policy_orders_the_greedy_action_of_each_series_own_table():
    policy = TablePolicy(
        grid=StockGrid(num_cells=(3,)),
        order_A=np.array([0.0, 7.0], dtype=np.float32),
        action_GX=np.array([[1, 0, 0], [1, 1, 0]]),
        table_S=np.array([0, 1, 1, 0]),
    )
    state = make_state(4, on_hand=[1, 1, 8, 0])
    order_S = policy.order_quantity_S(state, poisson_forecast(1.0, rows=4), make_terms(4))
    assert order_S.tolist() == [0, 7, 0, 7]
    assert policy.name == "q_learning"


def test_the_page_explains_every_metric():
    page = (Path(__file__).parents[3] / "docs" / "policies" / "q_learning.md").read_text()
    for name in fields(QPoint):
        assert f"| `{name.name}` |" in page


def test_the_examples_in_the_code_run():
    failed, tried = doctest.testmod(q_learning)
    assert (failed, tried > 5) == (0, True)
