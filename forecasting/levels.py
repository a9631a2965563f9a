"""Quantiles at other levels than those given: linear in the standard normal score of the level.

Shapes: ... any leading axes, Q given levels, N wanted levels.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


def place_levels(
    wanted_N: npt.NDArray[np.floating[Any]], *, levels_Q: npt.NDArray[np.floating[Any]]
) -> tuple[IntArray, npt.NDArray[np.float64]]:
    """The given level at or left of each wanted one, and the weight of the next; beyond 0..1 outside those given.

    A normal distribution is read without error:

    >>> left_N, weight_N = place_levels(np.array([0.5, 0.975]), levels_Q=np.array([0.025, 0.5, 0.84134475]))
    >>> left_N.tolist(), weight_N.round(3).tolist()
    ([0, 1], [1.0, 1.96])
    """
    score_Q, score_N = ndtri(levels_Q.astype(np.float64)), ndtri(np.asarray(wanted_N, dtype=np.float64))
    left_N = np.clip(np.searchsorted(score_Q, score_N), 1, len(score_Q) - 1) - 1
    return left_N, (score_N - score_Q[left_N]) / (score_Q[left_N + 1] - score_Q[left_N])


def at_levels(quantile_Q: FloatArray, *, levels_Q: FloatArray, wanted: npt.ArrayLike) -> FloatArray:
    """Read quantiles at other levels, shape (..., N); the outermost segments are continued."""
    left_N, weight_N = place_levels(np.asarray(wanted, dtype=np.float64), levels_Q=levels_Q)
    return (quantile_Q[..., left_N] * (1 - weight_N) + quantile_Q[..., left_N + 1] * weight_N).astype(np.float32)


def within(wanted: npt.ArrayLike, *, levels_Q: FloatArray) -> npt.NDArray[np.float64]:
    """Wanted levels, those outside the given ones moved to the nearest."""
    return np.clip(np.asarray(wanted, dtype=np.float64), levels_Q[0], levels_Q[-1])
