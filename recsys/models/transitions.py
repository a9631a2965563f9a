"""Markov chains over baskets: what came after the last one, soon after the late ones, or after the last two events.

Shapes: U users, I items, C contexts, E events, G baskets.
"""

from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import Any, ClassVar, Final, Self

import numpy as np
from scipy import sparse

from recsys.interactions import IntArray, Interactions
from recsys.metrics import ScoreArray
from recsys.models.matrices import basket_matrix, baskets_back_E, csr_arrays, csr_of, no_matrix, user_matrix
from recsys.models.protocol import Arrays
from recsys.models.weights import event_weight_E

_BASKETS_READ: Final = 100
"""Any recency leaves nothing of older baskets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionModel:
    """What the same users took soon after an item.

    ``n(i, j) = sum over lags d of n(i in g, j in g + d) / d``, or its share ``p(j | i)`` of all that came after i. A
    user's score for j sums over the history, the basket before last counting ``recency`` times the last one and so on.
    ``max_lag=1, recency=0`` is the textbook's chain. The second order adds the share of what came after the last two
    events in a row, ``p(j | h, i)``, to ``back_off`` times the first.

    Parameters
    ----------
    order
        1 or 2.
    max_lag
        Baskets ahead that count, the d-th one 1/d.
    recency
        Weight of a basket over that of the next later one, in the history that is read; 0 reads the last basket only.
    shares
        Whether an item's counts are divided by their sum: an item that is followed often then counts no more than
        others.
    back_off
        Weight of the first order within the second.
    """

    kind: ClassVar[str] = "transitions"
    order: int = 1
    max_lag: int = 1
    recency: float = 0.0
    shares: bool = True
    back_off: float = 0.5
    pair_C: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    next_II: sparse.csr_array = field(default_factory=no_matrix)
    next_CI: sparse.csr_array = field(default_factory=no_matrix)

    def fit(self, interactions: Interactions) -> Self:
        """Count what came next."""
        basket_GI = basket_matrix(interactions)
        user_G = interactions.user_E[interactions.basket_start_E]
        lags = [basket_GI[:-lag].T @ (_same(user_G, lag=lag) @ basket_GI[lag:]) for lag in range(1, self.max_lag + 1)]
        count_II = reduce(add, lags).tocsr()
        next_II = _shares(count_II) if self.shares else count_II
        fitted = replace(self, next_II=next_II.astype(np.float32))
        return fitted if self.order == 1 else replace(fitted, **_pairs(interactions))

    def score_UI(self, histories: Interactions) -> ScoreArray:
        """Sum over the late baskets of what followed their items; 0 for a user without events."""
        weight_E = np.float32(self.recency) ** np.minimum(baskets_back_E(histories), _BASKETS_READ).astype(np.float32)
        late_UI = user_matrix(histories, weight_E=event_weight_E(histories) * weight_E)
        score_UI: ScoreArray = (late_UI @ self.next_II).toarray()
        if self.order == 2:
            score_UI *= np.float32(self.back_off)
            score_UI += self._pair_score_UI(histories)
        return score_UI

    def similar_JI(self, item_J: IntArray) -> ScoreArray:
        """What came next after the given items; -inf for the item itself."""
        score_JI = self.next_II[item_J].toarray()
        score_JI[np.arange(len(item_J)), item_J] = -np.inf
        return score_JI

    def to_config(self) -> dict[str, Any]:
        """Parameters and the number of items."""
        names = ("order", "max_lag", "recency", "shares", "back_off")
        return {name: getattr(self, name) for name in names} | {"num_items": self.next_II.shape[1]}

    def arrays(self) -> Arrays:
        """The shares, and the pairs of the second order."""
        return csr_arrays("next", self.next_II) | csr_arrays("pairs", self.next_CI) | {"pair_C": self.pair_C}

    @classmethod
    def from_config(cls, config: dict[str, Any], *, arrays: Arrays) -> Self:
        """Model with these parameters and shares."""
        num_items = config["num_items"]
        return cls(
            **{name: value for name, value in config.items() if name != "num_items"},
            pair_C=arrays["pair_C"],
            next_II=csr_of("next", arrays, num_columns=num_items),
            next_CI=csr_of("pairs", arrays, num_columns=num_items),
        )

    def _pair_score_UI(self, histories: Interactions) -> ScoreArray:
        end_U = histories.offset_U1[1:]
        known_U = np.diff(histories.offset_U1) >= 2
        item_E = np.append(histories.item_E.astype(np.int64), 0)
        pair_U = np.where(known_U, item_E[end_U - 2] * histories.num_items + item_E[end_U - 1], -1)
        row_U = np.searchsorted(self.pair_C, pair_U)
        found_U = known_U & (np.append(self.pair_C, -1)[row_U] == pair_U)
        score_UI = np.zeros((histories.num_users, histories.num_items), np.float32)
        score_UI[found_U] = self.next_CI[row_U[found_U]].toarray()
        return score_UI


def _same(user_G: IntArray, *, lag: int) -> sparse.dia_array:
    """1 / lag where a basket and the one so many later are one user's, on the diagonal."""
    return sparse.diags_array((user_G[:-lag] == user_G[lag:]).astype(np.float32) / lag)


def _pairs(interactions: Interactions) -> dict[str, Any]:
    """Pairs of successive events, sorted, and the shares of the event that came after each."""
    item_E = interactions.item_E.astype(np.int64)
    user_E = interactions.user_E
    whole_E = user_E[2:] == user_E[:-2]
    pair_E = (item_E[:-2] * interactions.num_items + item_E[1:-1])[whole_E]
    pair_C, row_E = np.unique(pair_E, return_inverse=True)
    shape = (len(pair_C), interactions.num_items)
    counts_CI = sparse.csr_array((np.ones(len(row_E), np.float32), (row_E, item_E[2:][whole_E])), shape=shape)
    counts_CI.sum_duplicates()
    return {"pair_C": pair_C, "next_CI": _shares(counts_CI)}


def _shares(counts: sparse.csr_array) -> sparse.csr_array:
    total = np.maximum(counts.sum(axis=1), 1e-9)
    return sparse.csr_array(sparse.diags_array((1.0 / total).astype(np.float32)) @ counts)
