"""Which items are alike by what is written about them: name, description, category, brand. Pure NumPy and SciPy.

Words are hashed (no vocabulary to store, and a word that was never seen has its place all the same) and weighed by how
rare they are. Attributes count as one word each, beside the words that they are made of.

Shapes: I items, F features, K neighbours.
"""

import re
import zlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from scipy import sparse

from cluster.schema import Col
from recsys.interactions import StrArray
from recsys.neighbours import ItemNeighbours, NeighbourKind

NUM_FEATURES: Final = 2**18
_WORD: Final = re.compile(r"[^\W_]+")
_TEXTS: Final = (Col.NAME, Col.CATEGORY_ID, Col.DESCRIPTION)
_ATTRIBUTES: Final = (Col.CATEGORY_ID, Col.BRAND)
_BLOCK: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemContent:
    """Unit vectors of items, so that a product of two is their cosine.

    Parameters
    ----------
    vector_IF
        Sparse rows; zero where nothing is written about an item.
    """

    item_ids_I: StrArray
    vector_IF: sparse.csr_array

    def take(self, item_ids: StrArray) -> "ItemContent":
        """Rows of the given items, in their order; an unknown item is a row of zeros."""
        row_of = {item: row for row, item in enumerate(self.item_ids_I.tolist())}
        rows = np.array([row_of.get(item, -1) for item in item_ids.tolist()], dtype=np.int64)
        picked = self.vector_IF[np.maximum(rows, 0)]
        kept = sparse.diags_array((rows >= 0).astype(np.float32))
        return ItemContent(item_ids_I=item_ids, vector_IF=sparse.csr_array(kept @ picked))


def make_content(items: pa.Table) -> ItemContent:
    """Vectors of a table of the schema ``ITEMS``: hashed words, term frequency 1, times inverse document frequency."""
    frame = pl.DataFrame(pl.from_arrow(items)).unique(Col.ITEM_ID, keep="last").sort(Col.ITEM_ID)
    words = [_words(row) for row in frame.iter_rows(named=True)]
    offset = np.concatenate([[0], np.cumsum([len(found) for found in words])])
    column = np.fromiter((word for found in words for word in found), dtype=np.int64, count=int(offset[-1]))
    counts_F = np.bincount(column, minlength=NUM_FEATURES)
    rarity_N = np.log((1 + len(words)) / (1 + counts_F[column])) + 1
    matrix = sparse.csr_array((rarity_N.astype(np.float32), column, offset), shape=(len(words), NUM_FEATURES))
    return ItemContent(item_ids_I=frame[Col.ITEM_ID].to_numpy().astype(str), vector_IF=unit_rows(matrix))


def unit_rows(matrix: sparse.csr_array) -> sparse.csr_array:
    """Rows scaled to length 1; a row of zeros stays."""
    length_I = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sparse.csr_array(sparse.diags_array((1 / np.maximum(length_I, 1e-9)).astype(np.float32)) @ matrix)


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


def _words(row: dict[str, Any]) -> list[int]:
    """Hashed words of one item, each once."""
    texts = " ".join(str(row[name]) for name in _TEXTS if row.get(name))
    attributes = [f"{name}={row[name]}" for name in _ATTRIBUTES if row.get(name)]
    return sorted({zlib.crc32(word.encode()) % NUM_FEATURES for word in [*_WORD.findall(texts.lower()), *attributes]})
