"""Quantiles of counts, fast enough for every series and period of a large shop.

Shapes: S series, H horizon, Q quantile levels, M means, D dispersions.
"""

from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.stats import nbinom

from cluster.panel import FloatArray

_MEANS = np.geomspace(1e-3, 1e6, 271)
_EXCESSES = np.geomspace(1e-3, 1e4, 57)
"""Variance over mean, less one: the grid that quantiles are read from."""


def negative_binomial_quantiles(
    mean_SH: npt.NDArray[np.float64], variance_SH: npt.NDArray[np.float64], *, levels: tuple[float, ...]
) -> FloatArray:
    """Quantiles of negative binomial demand, shape (S, H, Q); a variance at or below the mean is a Poisson's.

    Linear between exact quantiles on a grid of means and dispersions, 30 and 8 to a factor of ten: fifty times as fast
    as one by one, and without the steps of whole units.

    >>> negative_binomial_quantiles(np.array([[100.0]]), np.array([[200.0]]), levels=(0.5, 0.9)).round().tolist()
    [[[100.0, 118.0]]]
    """
    table_MDQ = _table(levels)
    mean_SH = np.clip(mean_SH, _MEANS[0], _MEANS[-1])
    left_m, weight_m = _place(mean_SH, _MEANS)
    left_d, weight_d = _place(np.clip(variance_SH / mean_SH - 1.0, _EXCESSES[0], _EXCESSES[-1]), _EXCESSES)
    out_SHQ = np.zeros((*mean_SH.shape, len(levels)), dtype=np.float32)
    for step_m, share_m in ((0, 1 - weight_m), (1, weight_m)):
        for step_d, share_d in ((0, 1 - weight_d), (1, weight_d)):
            out_SHQ += (share_m * share_d)[..., None] * table_MDQ[left_m + step_m, left_d + step_d]
    return out_SHQ


@cache
def _table(levels: tuple[float, ...]) -> FloatArray:
    size_MD, chance_D = _MEANS[:, None] / _EXCESSES, 1.0 / (1.0 + _EXCESSES)
    return np.asarray(nbinom.ppf(levels, size_MD[..., None], chance_D[:, None]), dtype=np.float32)


def _place(value: npt.NDArray[np.float64], grid: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Grid point at or left of each value, and the weight of the next, linear in the value."""
    step = np.log(grid[1] / grid[0])
    left = np.clip((np.log(value / grid[0]) / step).astype(np.int64), 0, len(grid) - 2)
    return left, ((value - grid[left]) / (grid[left + 1] - grid[left])).astype(np.float32)
