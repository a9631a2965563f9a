"""Items that nobody has bought yet, and users of whom nothing is known. Pure NumPy and SciPy.

A **new item** scores what the items that are described like it score, by whatever model: their score for a user,
weighed by how near they are. So it is recommended to those who want such things, as much as such things are wanted.

A **new user** is answered by the visit so far, which every model reads as a history, and where there is none by what is
taken in the same situation: on the same weekday and at the same time of day, drawn towards what is taken at all.

Shapes: U users, I known items, N new items, K like items, X situations.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from cluster.item_content import ItemContent, unit_rows
from recsys.interactions import DAY_SECONDS, IntArray, Interactions, StrArray
from recsys.metrics import ScoreArray
from recsys.models.weights import event_weight_E

DAY_PARTS: Final = 4
NUM_SITUATIONS: Final = 7 * DAY_PARTS
_NUM_LIKE: Final = 30
_SHARPNESS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItems:
    """New items and the known ones that they are like.

    Parameters
    ----------
    weight_NI
        Weight of each known item, rows sum to 1; a row of zeros where nothing like it is known.
    """

    item_ids_N: StrArray
    weight_NI: sparse.csr_array

    def score_UN(self, score_UI: ScoreArray) -> ScoreArray:
        """Score of each new item for each user, from those of the known ones; below 0 and -inf count as 0."""
        usable_UI = np.where(np.isfinite(score_UI), np.maximum(score_UI, 0.0), 0.0).astype(np.float32)
        return np.asarray((self.weight_NI @ usable_UI.T).T)

    @property
    def most_like_N(self) -> IntArray:
        """Row of the known item that each new one is most like; 0 where nothing like it is known."""
        return np.asarray(self.weight_NI.argmax(axis=1)).ravel().astype(np.int64)

    def alike(self) -> "NewItems":
        """Those of which something like them is known."""
        rows = np.flatnonzero(np.diff(self.weight_NI.indptr))
        return NewItems(item_ids_N=self.item_ids_N[rows], weight_NI=self.weight_NI[rows])


def find_like_known(content: ItemContent, *, new_ids: StrArray, known_ids: StrArray, k: int = _NUM_LIKE) -> NewItems:
    """For each new item its ``k`` nearest known ones, weighed by the square of their cosine.

    The square, since many items that share a common word with it would otherwise outweigh the few that are of its kind.
    """
    near = (content.take(new_ids).vector_IF @ content.take(known_ids).vector_IF.T).tocsr()
    rows, columns, weights = [], [], []
    for row in range(len(new_ids)):
        inside = slice(near.indptr[row], near.indptr[row + 1])
        cosine, others = near.data[inside], near.indices[inside]
        best = np.argsort(-cosine, kind="stable")[:k]
        weight = np.maximum(cosine[best], 0.0) ** _SHARPNESS
        if weight.sum() > 0:
            rows += [row] * len(best)
            columns += others[best].tolist()
            weights += (weight / weight.sum()).tolist()
    shape = (len(new_ids), len(known_ids))
    matrix = sparse.csr_array((np.array(weights, dtype=np.float32), (rows, columns)), shape=shape)
    return NewItems(item_ids_N=new_ids, weight_NI=matrix)


def taste_score_UN(content: ItemContent, histories: Interactions, *, new_ids: StrArray) -> ScoreArray:
    """Cosine of each new item and what the user has dealt with, by their descriptions: no model between them."""
    shape = (histories.num_users, histories.num_items)
    weight_UI = sparse.csr_array(
        (event_weight_E(histories), histories.item_E, histories.offset_U1), shape=shape, copy=True
    )
    weight_UI.sum_duplicates()
    weight_UI.data = np.log1p(weight_UI.data)
    taste_UF = unit_rows(sparse.csr_array(weight_UI @ content.take(histories.item_ids_I).vector_IF))
    return np.asarray((taste_UF @ content.take(new_ids).vector_IF.T).toarray())


@dataclass(frozen=True, slots=True, kw_only=True)
class SituationPopularity:
    """What is taken in each situation: one of four parts of the day on one of seven weekdays.

    Parameters
    ----------
    share_XI
        Share of each item; rows sum to 1.
    """

    share_XI: npt.NDArray[np.float64]

    def score_UI(self, time_U: IntArray) -> ScoreArray:
        """Shares at the given instants (seconds)."""
        return self.share_XI[situations_of(time_U)].astype(np.float32)


def fit_situations(
    interactions: Interactions, *, prior: float = 2_000.0, half_life_days: float = 28.0
) -> SituationPopularity:
    """Count what was taken in each situation, late events counting more, with ``prior`` events of all situations."""
    weight_E = event_weight_E(interactions) * np.exp2(-interactions.age_days_E / half_life_days)
    cell_E = situations_of(interactions.time_E) * interactions.num_items + interactions.item_E
    flat = np.bincount(cell_E, weight_E, minlength=NUM_SITUATIONS * interactions.num_items)
    count_XI = np.asarray(flat, dtype=np.float64).reshape(NUM_SITUATIONS, -1)
    overall_I = count_XI.sum(axis=0) / max(count_XI.sum(), 1e-9)
    return SituationPopularity(share_XI=(count_XI + prior * overall_I) / (count_XI.sum(axis=1, keepdims=True) + prior))


def situations_of(time_E: IntArray) -> IntArray:
    """Number of the situation of each instant: weekday (0: Monday) times four plus part of the day."""
    weekday_E = (time_E // DAY_SECONDS + 3) % 7  # 1970 began on a Thursday
    return np.asarray(weekday_E * DAY_PARTS + time_E % DAY_SECONDS * DAY_PARTS // DAY_SECONDS)
