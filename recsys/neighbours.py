"""Which items are close to which: what cold start, substitution and bundles read.

Shapes: I items, K neighbours.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

NeighbourKind = Literal["together", "substitute", "complement", "like"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemNeighbours:
    """The K nearest items of each item, best first.

    Parameters
    ----------
    item_ids_I
        External ids in row order.
    item_IK
        Row numbers of the neighbours; -1 where an item has fewer than K.
    score_IK
        Similarity, decreasing along K, 0 where there is no neighbour.
    kind
        What makes them neighbours: taken ``together`` or soon after one another; ``substitute``: takes over when the
        item is out of stock; ``complement``: goes into the same basket beyond what customers' habits explain;
        ``like``: is described alike.
    """

    item_ids_I: npt.NDArray[np.str_]
    item_IK: npt.NDArray[np.int32]
    score_IK: npt.NDArray[np.float32]
    kind: NeighbourKind = "together"

    def __post_init__(self) -> None:
        if self.item_IK.shape != self.score_IK.shape or len(self.item_IK) != len(self.item_ids_I):
            raise ValueError("item_IK and score_IK must both have shape (I, K) with one row per item id")
        if self.item_IK.size and (self.item_IK.max() >= len(self.item_ids_I) or self.item_IK.min() < -1):
            raise ValueError("item_IK must hold row numbers, or -1")
