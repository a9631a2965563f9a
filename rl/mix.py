"""The promoted mix: which contender each category is served by, from what all of them cost before.

Shapes: S series, G categories, K contenders.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from cluster.panel import StrArray

WideArray = npt.NDArray[np.float64]

_TINY = 1e-9


def choose_mix(cost_of: Mapping[str, npt.NDArray[np.floating]], *, category_ids_S: StrArray) -> dict[str, str]:
    """Contender of each category with the least cost to expect.

    What a contender saved in a category of few series is mostly luck. Its saving there is pulled towards its saving in
    the whole shop, by as much as categories differ no more than luck would make them differ; where they do not differ
    at all, every category gets the shop's cheapest (random effects: DerSimonian & Laird 1986; Efron & Morris 1975).

    Parameters
    ----------
    cost_of
        What each contender cost on each series before the window, account currency.
    """
    names = list(cost_of)
    category_G, group_S = np.unique(category_ids_S, return_inverse=True)
    cost_KS = np.stack([np.asarray(cost_of[name], dtype=np.float64) for name in names])
    base_S = cost_KS[cost_KS.sum(axis=1).argmin()]
    relative_KG = np.stack([_expected_relative_G(cost_S, base_S, group_S=group_S) for cost_S in cost_KS])
    cheapest_G = relative_KG.argmin(axis=0)
    return {str(category): names[k] for category, k in zip(category_G, cheapest_G, strict=True)}


def _expected_relative_G(cost_S: WideArray, base_S: WideArray, *, group_S: npt.NDArray[np.integer]) -> WideArray:
    """Relative difference to the base's cost in each category, shrunk towards that of the shop."""
    base_G = np.maximum(np.bincount(group_S, weights=base_S), _TINY)
    total = base_G.sum()
    relative_G = np.bincount(group_S, weights=cost_S - base_S) / base_G
    shop = float((cost_S - base_S).sum() / total)
    # The variance of a series' difference grows with its cost, so that of a category's ratio falls with the category's.
    residual_S = cost_S - (1 + shop) * base_S
    variance_G = float(residual_S @ residual_S) / total / base_G
    if not variance_G.any():
        return relative_G
    weight_G = 1 / variance_G
    excess = float(weight_G @ (relative_G - shop) ** 2) - (len(base_G) - 1)
    spread = max(excess / max(weight_G.sum() - (weight_G**2).sum() / weight_G.sum(), _TINY), 0.0)
    return shop + (relative_G - shop) * spread / (spread + variance_G)
