"""What sells instead of an item when it is out of stock, and what goes with it. Pure NumPy and SciPy.

**Substitutes** are items that are described alike and that customers do *not* put into one basket: two sorts of white
bread are alternatives, a colour of a set that people collect is not. Score: cosine of the descriptions over the square
root of the lift of the pair within customers (:mod:`recsys.pairs`). Shared buyers, which recommenders read, point the
other way: who buys two things together stops buying the second when the first is gone.

**Complements** are pairs from different categories that meet beyond chance, false discoveries controlled.

Shapes: I items, K neighbours, N pairs, W weeks, E episodes.
"""

from typing import Final

import numpy as np

from cluster.item_content import ItemContent
from recsys.baskets import Baskets
from recsys.interactions import StrArray
from recsys.likeness import nearest_items
from recsys.neighbours import ItemNeighbours, NeighbourKind
from recsys.pairs import ItemPairs, count_pairs

NUM_CANDIDATES: Final = 50
_LEAST_LIFT: Final = 0.3
"""Pairs that never meet are rare ones for the most part: below this, a lift says no more."""


def find_substitutes(content: ItemContent, baskets: Baskets, *, k: int = 10) -> ItemNeighbours:
    """The items that take over from each one; those of the baskets only, since the others do not sell.

    Parameters
    ----------
    content
        Descriptions; items that are not among them have no substitutes.
    """
    described = content.take(baskets.item_ids_I)
    alike = nearest_items(described, k=min(NUM_CANDIDATES, len(described.item_ids_I)))
    row_N, place_N = np.nonzero(alike.item_IK >= 0)
    other_N = alike.item_IK[row_N, place_N].astype(np.int64)
    together_N, expected_N = count_pairs(baskets, first_N=row_N, second_N=other_N)
    lift_N = np.maximum((together_N + 1) / (expected_N + 1), _LEAST_LIFT)
    score_N = alike.score_IK[row_N, place_N] / np.sqrt(lift_N)
    # The best-known item of equal ones: a substitute nobody buys takes over nothing.
    tie_N = baskets.num_I[other_N]
    return _lists(
        baskets.item_ids_I, row_N=row_N, other_N=other_N, score_N=score_N, tie_N=tie_N, k=k, kind="substitute"
    )


def find_complements(
    pairs: ItemPairs, *, category_ids_I: StrArray, k: int = 10, false_discovery_rate: float = 0.05
) -> ItemNeighbours:
    """The items of other categories that each one is bought with, by lift."""
    found = pairs.found(false_discovery_rate=false_discovery_rate)
    found = found.take(is_across_N(found, category_ids_I=category_ids_I) & (found.lift_N > 1))
    row_N = np.concatenate([found.first_N, found.second_N])
    other_N = np.concatenate([found.second_N, found.first_N])
    score_N, together_N = np.tile(found.lift_N, 2), np.tile(found.together_N, 2)
    return _lists(
        pairs.item_ids_I, row_N=row_N, other_N=other_N, score_N=score_N, tie_N=together_N, k=k, kind="complement"
    )


def is_across_N(pairs: ItemPairs, *, category_ids_I: StrArray) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether the items of a pair are of different categories; true for all where there is only one category."""
    if len(np.unique(category_ids_I)) < 2:
        return np.ones(len(pairs), dtype=bool)
    return np.asarray(category_ids_I[pairs.first_N] != category_ids_I[pairs.second_N])


def _lists(
    item_ids_I: StrArray,
    *,
    row_N: np.ndarray,
    other_N: np.ndarray,
    score_N: np.ndarray,
    tie_N: np.ndarray,
    k: int,
    kind: NeighbourKind,
) -> ItemNeighbours:
    """Best ``k`` of each row, by score and then by ``tie_N``."""
    order = np.lexsort((other_N, -tie_N, -score_N, row_N))
    row_N, other_N, score_N = row_N[order], other_N[order], score_N[order]
    first_N = np.searchsorted(row_N, row_N)
    rank_N = np.arange(len(row_N)) - first_N
    kept_N = rank_N < k
    item_IK = np.full((len(item_ids_I), k), -1, dtype=np.int32)
    score_IK = np.zeros((len(item_ids_I), k), dtype=np.float32)
    item_IK[row_N[kept_N], rank_N[kept_N]] = other_N[kept_N]
    score_IK[row_N[kept_N], rank_N[kept_N]] = score_N[kept_N]
    return ItemNeighbours(item_ids_I=item_ids_I, item_IK=item_IK, score_IK=score_IK, kind=kind)
