"""The promoted mix: which contender each category is served by, from what all of them cost before.

Shapes: S series, G categories, K contenders.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from cluster.panel import StrArray
from rl.tuning import regret_CG


def choose_mix(cost_of: Mapping[str, npt.NDArray[np.float64]], *, category_ids_S: StrArray) -> dict[str, str]:
    """Cheapest contender of each category, pulled towards the whole shop's as textbook parameters are.

    Parameters
    ----------
    cost_of
        What each contender cost on each series before the window, account currency.
    """
    names = list(cost_of)
    category_G, group_S = np.unique(category_ids_S, return_inverse=True)
    cost_KG = np.stack([np.bincount(group_S, weights=cost_of[name]) for name in names]).astype(np.float64)
    cheapest_G = regret_CG(cost_KG, np.bincount(group_S)).argmin(axis=0)
    return {str(category): names[k] for category, k in zip(category_G, cheapest_G, strict=True)}
