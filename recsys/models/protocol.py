"""What every recommender model answers: how much does each item suit each user, and what is like this item.

Shapes: U users, I items, J some items, K ranks.
"""

from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from recsys.interactions import IntArray, Interactions, RowArray
from recsys.metrics import ScoreArray, top_items

Arrays = dict[str, npt.NDArray[Any]]
_TINY = np.float32(1e-30)
_BATCH_USERS = 256
_BATCH_SCORES = 8_000_000


class Scorer(Protocol):
    """Anything that scores items for histories: a model, or a blend of models."""

    def score_UI(self, histories: Interactions) -> ScoreArray:
        """Score of each item for each user; a higher one suits better."""


class RecommenderModel(Scorer, Protocol):
    """A model reads histories, not user ids: a stored user, a live session and a stranger go one way.

    A fitted model is its :meth:`to_config` (JSON) and its :meth:`arrays`; :meth:`from_config` gives it back.
    """

    kind: ClassVar[str]

    def fit(self, interactions: Interactions) -> Self:
        """Return a model with the same parameters, fitted to these sequences."""

    def score_UI(self, histories: Interactions) -> ScoreArray:
        """Score of each item for each user, 0 or more, comparable within a user only."""

    def similar_JI(self, item_J: IntArray) -> ScoreArray:
        """How like the given items every item is; the item itself scores -inf."""

    def to_config(self) -> dict[str, Any]:
        """Parameters, as JSON can write them."""

    def arrays(self) -> Arrays:
        """What was learned."""

    @classmethod
    def from_config(cls, config: dict[str, Any], *, arrays: Arrays) -> Self:
        """Model with these parameters and what it had learned."""


def users_per_batch(num_items: int) -> int:
    """Users to score at once: so few that scores take megabytes, however large the catalogue."""
    return max(min(_BATCH_USERS, _BATCH_SCORES // max(num_items, 1)), 1)


def recommend(model: Scorer, histories: Interactions, *, k: int, seen_allowed: bool) -> RowArray:
    """Best ``k`` items for each user by one model alone, shape (U, K); -1 where there are no more.

    Without ``seen_allowed`` the items of a user's own history are left out.
    """
    ranked, batch_users = [], users_per_batch(histories.num_items)
    for start in range(0, histories.num_users, batch_users):
        part = histories.take(np.arange(start, min(start + batch_users, histories.num_users)))
        score_UI = model.score_UI(part)
        if not seen_allowed:
            score_UI[part.user_E, part.item_E] = -np.inf
        ranked.append(top_items(score_UI, k=k)[0])
    return np.concatenate(ranked)


def scaled(score_UI: ScoreArray) -> ScoreArray:
    """Scores with each user's best at 1, so that models of different units can be added."""
    best_U = score_UI.max(axis=1, keepdims=True)
    return score_UI / np.maximum(best_U, _TINY)


def like_JI(vector_ID: ScoreArray, item_J: IntArray) -> ScoreArray:
    """Cosine between the given items and all, by any vectors of items; the item itself scores -inf."""
    length_I = np.linalg.norm(vector_ID, axis=1, keepdims=True)
    unit_ID = vector_ID / np.maximum(length_I, _TINY)
    score_JI = (unit_ID[item_J] @ unit_ID.T).astype(np.float32)
    score_JI[np.arange(len(item_J)), item_J] = -np.inf
    return score_JI
