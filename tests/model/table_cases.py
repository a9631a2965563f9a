"""A decision problem small enough to solve by hand, for tables and for networks."""

import numpy as np
import torch

DISCOUNT = 0.9
# State, action -> reward, and the chance of each next state. Staying in state 0 pays 1 for ever, which is worth 10;
# two steps without pay lead to a prize of 6, again and again, which is worth more.
REWARD_XA = np.array([[1.0, 0.0], [0.0, 0.0], [6.0, 0.0]])
CHANCE_XAX = np.array(
    [
        [[1.0, 0.0, 0.0], [0.1, 0.9, 0.0]],
        [[1.0, 0.0, 0.0], [0.1, 0.0, 0.9]],
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
    ]
)
BEST_ACTION_X = [1, 1, 0]


def exact_value_XA():
    """Action values by value iteration."""
    value_X = np.zeros(3)
    for _ in range(1_000):
        value_XA = REWARD_XA + DISCOUNT * CHANCE_XAX @ value_X
        value_X = value_XA.max(axis=1)
    return value_XA


class TinyTask:
    """Rows of the problem, for a table."""

    num_states, num_actions = 3, 2

    def __init__(self, *, rows, seed):
        self._random = np.random.default_rng(seed)
        self._state_N = self._random.integers(3, size=rows)

    def begin_block(self):
        pass

    def observe(self):
        return self._state_N

    def step(self, action_N):
        reward_N = REWARD_XA[self._state_N, action_N].astype(np.float32)
        cumulative_NX = CHANCE_XAX[self._state_N, action_N].cumsum(axis=1)
        self._state_N = (self._random.random((len(action_N), 1)) > cumulative_NX).sum(axis=1)
        return reward_N


class TinyEnv:
    """The same rows for the array runner: one column per state."""

    num_features, num_hindsight, num_actions = 3, 0, 2

    def __init__(self, *, rows, seed):
        self._task = TinyTask(rows=rows, seed=seed)
        self.num_rows = rows

    def begin_block(self, greedy):
        self._task.begin_block()

    def observe(self):
        return torch.eye(3)[self._task.observe()]

    def step(self, action_N):
        return torch.from_numpy(self._task.step(action_N.numpy()) / 10)

    def siblings(self):
        return None
