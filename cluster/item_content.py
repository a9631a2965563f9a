"""What is written about items, as vectors: name, description, category, brand. Pure NumPy and SciPy.

Words are hashed (no vocabulary to store, and a word that was never seen has its place all the same) and weighed by how
rare they are. Attributes count as one word each, beside the words that they are made of.

Shapes: I items, F features.
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

StrArray = npt.NDArray[np.str_]
NUM_FEATURES: Final = 2**18
_WORD: Final = re.compile(r"[^\W_]+")
_TEXTS: Final = (Col.NAME, Col.CATEGORY_ID, Col.DESCRIPTION)
_ATTRIBUTES: Final = (Col.CATEGORY_ID, Col.BRAND)


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


def _words(row: dict[str, Any]) -> list[int]:
    """Hashed words of one item, each once."""
    texts = " ".join(str(row[name]) for name in _TEXTS if row.get(name))
    attributes = [f"{name}={row[name]}" for name in _ATTRIBUTES if row.get(name)]
    return sorted({zlib.crc32(word.encode()) % NUM_FEATURES for word in [*_WORD.findall(texts.lower()), *attributes]})
