"""Where counts lie in forecast distributions: the probability integral transform, for counts.

A whole number of units is not a point of a distribution but a step of it. A forecast that is right may give nothing a
chance of 0.4; a band from its 0.1 to its 0.9 quantile then begins at nothing and holds all of that step: counted
plainly, such bands cover more than they promise. Czado, Gneiting & Held (2009, section 2) spread each observation
evenly over its step: then a right forecast covers 80 % with its 80 % band, whatever the share of zeros.

Shapes: ... any leading axes, Q quantile levels.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.floating[Any]]
Wide = npt.NDArray[np.float64]

_HALF_UNIT = 0.5
_LEAST_STEP = 1e-6


def step_of_counts(count: Numbers, quantile_Q: Numbers, *, levels_Q: Numbers) -> tuple[Wide, Wide]:
    """Levels at which each count begins and ends in its forecast, which is linear between its quantiles.

    Quantiles are smooth: whatever rounds to a count says that count. The forecast begins at nothing, and its last
    segment goes on as far as it is long.

    Half of this forecast lies below half a unit, and says nothing; a unit is said by the quarter above it:

    >>> low, high = step_of_counts(np.array([0.0, 1.0]), np.array([[0.5, 2.5]] * 2), levels_Q=np.array([0.5, 1.0]))
    >>> low.tolist(), high.tolist()
    ([0.0, 0.5], [0.5, 0.75])
    """
    top_1 = 2.0 * quantile_Q[..., -1:] - quantile_Q[..., -2:-1]
    knot_K = np.concatenate([np.zeros_like(top_1), quantile_Q, np.maximum(top_1, quantile_Q[..., -1:])], axis=-1)
    level_K = np.concatenate([[0.0], levels_Q.astype(np.float64), [1.0]])
    low = np.where(count <= 0, 0.0, _chance_below(count - _HALF_UNIT, knot_K, level_K))
    return low, _chance_below(count + _HALF_UNIT, knot_K, level_K)


def _chance_below(units: Numbers, knot_K: Numbers, level_K: Wide) -> Wide:
    """Level that each forecast reaches at so many units, shape (...)."""
    last = len(level_K) - 1
    right = (knot_K <= units[..., None]).sum(axis=-1)
    left, right = np.clip(right - 1, 0, last), np.clip(right, 0, last)
    from_units = np.take_along_axis(knot_K, left[..., None], axis=-1)[..., 0]
    to_units = np.take_along_axis(knot_K, right[..., None], axis=-1)[..., 0]
    share = np.clip((units - from_units) / np.maximum(to_units - from_units, _LEAST_STEP), 0.0, 1.0)
    return np.asarray(level_K[left] + (level_K[right] - level_K[left]) * share, dtype=np.float64)


def share_between(low: Wide, high: Wide, *, least: float, most: float) -> Wide:
    """Share of each step that lies between two levels; a forecast that is right has a mean of ``most - least``."""
    # A count beyond all that the forecast thought possible has no step: it lies at the end of the distribution.
    low = np.minimum(low, 1.0 - _LEAST_STEP)
    high = np.maximum(high, low + _LEAST_STEP)
    return np.clip(np.minimum(high, most) - np.maximum(low, least), 0.0, None) / (high - low)
