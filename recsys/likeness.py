"""Which items are alike by what is written about them (:mod:`cluster.item_content`).

Shapes: I items, K neighbours.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from cluster.item_content import ItemContent
from recsys.neighbours import ItemNeighbours, NeighbourKind

_BLOCK: Final = 512


def nearest_items(
    content: ItemContent, *, k: int, kind: NeighbourKind = "like", among_I: npt.NDArray[np.bool_] | None = None
) -> ItemNeighbours:
    """The ``k`` items whose texts are nearest to each one's, by cosine.

    Parameters
    ----------
    among_I
        Which items may be named; default: all.
    """
    num_items = len(content.item_ids_I)
    item_IK = np.full((num_items, k), -1, dtype=np.int32)
    score_IK = np.zeros((num_items, k), dtype=np.float32)
    transposed = sparse.csc_array(content.vector_IF.T)
    for start in range(0, num_items, _BLOCK):
        near_BI = (content.vector_IF[start : start + _BLOCK] @ transposed).toarray()
        near_BI[np.arange(len(near_BI)), np.arange(start, start + len(near_BI))] = 0.0
        if among_I is not None:
            near_BI[:, ~among_I] = 0.0
        width = min(k, num_items)
        best_BK = np.argpartition(-near_BI, width - 1, axis=1)[:, :width]
        best_BK.sort(axis=1)
        order_BK = np.argsort(-np.take_along_axis(near_BI, best_BK, axis=1), axis=1, kind="stable")
        best_BK = np.take_along_axis(best_BK, order_BK, axis=1)
        found_BK = np.take_along_axis(near_BI, best_BK, axis=1)
        item_IK[start : start + _BLOCK, :width] = np.where(found_BK > 0, best_BK, -1)
        score_IK[start : start + _BLOCK, :width] = np.maximum(found_BK, 0)
    return ItemNeighbours(item_ids_I=content.item_ids_I, item_IK=item_IK, score_IK=score_IK, kind=kind)
