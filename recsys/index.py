"""An approximate index of items: the best few of a million without scoring the million.

Shapes: U users, I items, D width, E width with bias and length, N items found.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from cluster.errors import ConfigError
from recsys.interactions import IntArray
from recsys.metrics import ScoreArray

NUM_FOUND: Final = 1_000
_PROBED_SHARE: Final = 1 / 8
_ITEMS_PER_LIST: Final = 39
"""Sampled for the k-means behind each list; fewer make Faiss warn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemIndex:
    """Items in lists by likeness; a search scores the items of the lists nearest to what is asked (Faiss, IVF-Flat).

    Greatest inner products are found as least distances: every item gets one more coordinate that makes all equally
    long, which the asked vector has at 0 (Bachrach et al. 2014). Lists by inner product itself found half as many.
    Scores are exact up to rounding; what may be missing are items of lists that were not looked at.

    Parameters
    ----------
    length2
        Squared length of every item's vector.
    """

    lists: Any
    length2: float

    def search(self, vector_UD: ScoreArray) -> tuple[IntArray, ScoreArray]:
        """Rows and scores of the best :data:`NUM_FOUND` items, shape (U, N); row -1 where there are no more."""
        # The bias is one more coordinate of an item, multiplied by 1.
        end_U2 = np.tile(np.array([1.0, 0.0], np.float32), (len(vector_UD), 1))
        asked_UE = np.ascontiguousarray(np.concatenate([vector_UD, end_U2], axis=1))
        distance2_UN, item_UN = self.lists.search(asked_UE, NUM_FOUND)
        asked2_U1 = np.square(asked_UE).sum(axis=1, keepdims=True)
        score_UN = (asked2_U1 + np.float32(self.length2) - distance2_UN) / 2
        return item_UN, np.where(item_UN >= 0, score_UN, -np.inf).astype(np.float32)


def make_index(vector_ID: ScoreArray, bias_I: ScoreArray) -> ItemIndex:
    """Index of items whose score is ``vector_UD @ vector_ID.T + bias_I``.

    Takes seconds for a million items: it is made when a model is loaded, not stored.

    Raises
    ------
    ConfigError
        If Faiss is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise ConfigError(
            "recommender.index=approximate needs Faiss; install the extra: pip install 'restock[index]'"
        ) from error
    rows_ID = np.concatenate([vector_ID, bias_I[:, None]], axis=1)
    length2_I = np.square(rows_ID).sum(axis=1)
    length2 = float(length2_I.max())
    rows_IE = np.concatenate([rows_ID, np.sqrt(length2 - length2_I)[:, None]], axis=1).astype(np.float32)
    num_items, width = rows_IE.shape
    num_lists = max(min(int(math.sqrt(num_items)), num_items // _ITEMS_PER_LIST), 1)
    lists = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, num_lists, faiss.METRIC_L2)
    lists.train(rows_IE)
    lists.add(rows_IE)
    lists.nprobe = max(round(num_lists * _PROBED_SHARE), 1)
    return ItemIndex(lists=lists, length2=length2)
