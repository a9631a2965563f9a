"""Items that are described alike, for what to expect of a new one: nearest names and descriptions.

Shapes: S series, R reference series, I items, K neighbours, F features.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.item_content import ItemContent, make_content
from cluster.panel import IntArray, SeriesIndex
from cluster.schema import Col

_NUM_NEIGHBOURS: Final = 10
_BLOCK: Final = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedAlike:
    """For each item of a panel the reference items described most like it, as ``new_items.NeighbourLists``."""

    item_ids_I: npt.NDArray[np.str_]
    item_IK: npt.NDArray[np.int32]
    score_IK: npt.NDArray[np.float32]


def find_named_alike(items: pa.Table | None, index: SeriesIndex, *, references: IntArray) -> NamedAlike | None:
    """Nearest reference items of each item of a panel, by cosine; None where no item has a name or a description.

    Parameters
    ----------
    items
        Table of the schema ``ITEMS``.
    references
        Rows of the series that others are read from.
    """
    if items is None or not any(pc.any(pc.is_valid(items[name])).as_py() for name in (Col.NAME, Col.DESCRIPTION)):
        return None
    item_ids_I = np.unique(index.item_ids_S)
    row_R = np.unique(np.searchsorted(item_ids_I, index.item_ids_S[references]))
    content = make_content(items).take(item_ids_I)
    nearest = [_nearest(content, start=start, row_R=row_R) for start in range(0, len(item_ids_I), _BLOCK)]
    item_IK, score_IK = (np.concatenate(parts) for parts in zip(*nearest, strict=True))
    return NamedAlike(item_ids_I=item_ids_I, item_IK=item_IK, score_IK=score_IK)


def _nearest(
    content: ItemContent, *, start: int, row_R: IntArray
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Neighbours of a block of items and their cosines, best first; -1 and 0 where there are no more."""
    own_B = np.arange(start, min(start + _BLOCK, len(content.item_ids_I)))
    alike_BR = (content.vector_IF[own_B] @ content.vector_IF[row_R].T).toarray()
    alike_BR[own_B[:, None] == row_R] = 0.0
    place_BK = np.argsort(-alike_BR, axis=1, kind="stable")[:, :_NUM_NEIGHBOURS]
    score_BK = np.take_along_axis(alike_BR, place_BK, axis=1)
    item_BK = np.where(score_BK > 0, row_R[place_BK], -1)
    return item_BK.astype(np.int32), score_BK.astype(np.float32)
