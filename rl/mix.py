"""The promoted mix: which contender each category is served by, from what all of them cost before.

Shapes: S series, G categories.
"""

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt

from cluster.panel import StrArray

WideArray = npt.NDArray[np.float64]
_TINY = 1e-9


def choose_mix(
    cost_of: Mapping[str, WideArray], *, category_ids_S: StrArray, learned: Collection[str]
) -> dict[str, str]:
    """Cheapest contender of each category, each pulled towards what it did in the whole shop."""
    names = list(cost_of)
    category_G, group_S = np.unique(category_ids_S, return_inverse=True)
    size_G = np.bincount(group_S)
    cost_KG = np.stack([np.bincount(group_S, weights=cost_of[name]) for name in names])
    total_K1 = cost_KG.sum(axis=1, keepdims=True)
    own_KG = cost_KG / np.maximum(cost_KG.min(axis=0), _TINY)
    score_KG = size_G * own_KG + 5.0 * total_K1 / np.maximum(total_K1.min(), _TINY)
    return {str(c): names[k] for c, k in zip(category_G, score_KG.argmin(axis=0), strict=True)}
