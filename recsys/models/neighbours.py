"""Item neighbours with recency: items that are taken together, or soon after one another.

Shapes: U users, I items, K neighbours, E events, G baskets.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Self

import numpy as np
from scipy import sparse

from recsys.interactions import IntArray, Interactions, RowArray, StrArray
from recsys.metrics import ScoreArray
from recsys.models.matrices import basket_matrix, baskets_back_E
from recsys.models.protocol import Arrays
from recsys.models.weights import event_weight_E
from recsys.neighbours import ItemNeighbours

EVENTS_READ: Final = 200
"""Latest events of a history that are read: older ones have no weight left by recency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourModel:
    """Decayed co-occurrence cosine from baskets and from one basket to the next ones.

    ``c(i, j) = sum over baskets g of [i in g] ([j in g] + sum over lags d >= 1 of decay^(d-1) [j in g+d])`` within a
    user, divided by ``sqrt(n(i) n(j))`` with n the number of baskets that hold the item. A user's score for j sums
    ``c(i, j)`` over the history, the basket before last counting ``recency`` times the last one, and so on.

    Parameters
    ----------
    max_lag, lag_decay
        Baskets ahead that count as 'soon after', and what each further one loses.
    recency
        Weight of a basket over that of the next later one, in the history that is read.
    num_neighbours
        Neighbours kept per item.
    """

    kind: ClassVar[str] = "neighbours"
    max_lag: int = 1
    lag_decay: float = 0.7
    recency: float = 0.7
    num_neighbours: int = 100
    item_IK: RowArray = field(default_factory=lambda: np.zeros((0, 0), np.int32))
    score_IK: ScoreArray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    near_II: sparse.csr_array = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Once per model: building it takes longer than a user's scores.
        object.__setattr__(self, "near_II", _near_II(self.item_IK, self.score_IK))

    def fit(self, interactions: Interactions) -> Self:
        """Count pairs, one lag after the other, and keep the best neighbours of each item."""
        basket_GI = basket_matrix(interactions)
        user_G = interactions.user_E[interactions.basket_start_E]
        pairs_II = basket_GI.T @ basket_GI
        num_I = pairs_II.diagonal()
        for lag in range(1, min(self.max_lag, len(user_G) - 1) + 1):
            same_G = sparse.diags_array((user_G[:-lag] == user_G[lag:]).astype(np.float32))
            pairs_II = pairs_II + self.lag_decay ** (lag - 1) * (basket_GI[:-lag].T @ (same_G @ basket_GI[lag:]))
        item_IK, score_IK = _nearest(pairs_II.tocsr(), num_I=num_I, k=self.num_neighbours)
        return replace(self, item_IK=item_IK, score_IK=score_IK)

    def score_UI(self, histories: Interactions) -> ScoreArray:
        """Recency-weighted sum of the neighbours of the latest events in the history."""
        histories = histories.latest(EVENTS_READ)
        shape = (histories.num_users, histories.num_items)
        weight_E = self.weight_E(histories)
        history_UI = sparse.csr_array((weight_E, histories.item_E, histories.offset_U1), shape=shape)
        return (history_UI @ self.near_II).toarray()

    def weight_E(self, histories: Interactions) -> ScoreArray:
        """Weight of each event of a history: its behaviour, and how many baskets ago it was."""
        return event_weight_E(histories) * np.float32(self.recency) ** baskets_back_E(histories).astype(np.float32)

    def similar_JI(self, item_J: IntArray) -> ScoreArray:
        """Co-occurrence with the given items; -inf for the item itself."""
        score_JI = self.near_II[item_J].toarray()
        score_JI[np.arange(len(item_J)), item_J] = -np.inf
        return score_JI

    def neighbours(self, item_ids_I: StrArray) -> ItemNeighbours:
        """Neighbour lists for cold start and substitution."""
        return ItemNeighbours(item_ids_I=item_ids_I, item_IK=self.item_IK, score_IK=self.score_IK)

    def to_config(self) -> dict[str, Any]:
        """Parameters."""
        return {
            "max_lag": self.max_lag,
            "lag_decay": self.lag_decay,
            "recency": self.recency,
            "num_neighbours": self.num_neighbours,
        }

    def arrays(self) -> Arrays:
        """Neighbour lists."""
        return {"item_IK": self.item_IK, "score_IK": self.score_IK}

    @classmethod
    def from_config(cls, config: dict[str, Any], *, arrays: Arrays) -> Self:
        """Model with these parameters and neighbour lists."""
        return cls(**config, item_IK=arrays["item_IK"], score_IK=arrays["score_IK"])


def _near_II(item_IK: RowArray, score_IK: ScoreArray) -> sparse.csr_array:
    kept_IK = item_IK >= 0
    offset = np.concatenate([[0], np.cumsum(kept_IK.sum(axis=1))])
    num_items = len(item_IK)
    return sparse.csr_array((score_IK[kept_IK], item_IK[kept_IK], offset), shape=(num_items, num_items))


def _nearest(pairs_II: sparse.csr_array, *, num_I: ScoreArray, k: int) -> tuple[RowArray, ScoreArray]:
    """Neighbours by cosine, best first, the item itself left out."""
    num_items = len(num_I)
    item_IK = np.full((num_items, k), -1, dtype=np.int32)
    score_IK = np.zeros((num_items, k), dtype=np.float32)
    scale_I = 1.0 / np.sqrt(np.maximum(num_I, 1e-9))
    for row in range(num_items):
        inside = slice(pairs_II.indptr[row], pairs_II.indptr[row + 1])
        others = pairs_II.indices[inside]
        score = pairs_II.data[inside] * scale_I[others] * scale_I[row]
        score[others == row] = 0.0
        best = np.argpartition(-score, k - 1)[:k] if len(score) > k else np.arange(len(score))
        best = best[np.lexsort((others[best], -score[best]))]
        best = best[score[best] > 0]
        item_IK[row, : len(best)] = others[best]
        score_IK[row, : len(best)] = score[best]
    return item_IK, score_IK
