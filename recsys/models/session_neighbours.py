"""Session neighbours: what earlier sessions like this one took near to what they share (STAN, Garg et al. 2019).

Shapes: U users, I items, N training sessions, P pairs of a user and a neighbour, X events of all pairs, E events.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Self

import numpy as np
from scipy import sparse

from recsys.interactions import IntArray, Interactions, RowArray
from recsys.metrics import ScoreArray
from recsys.models.matrices import baskets_back_E, user_matrix
from recsys.models.protocol import Arrays
from recsys.models.weights import event_weight_E

_EVENTS: Final = 20
"""Latest events of a session that are kept, and read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionNeighbours:
    """Sum over the nearest training sessions of their likeness, by how near to the shared item an item was.

    A training user's latest events are a session ``n`` with ``|n|`` different items. Its likeness to a history is the
    sum of the weights of the shared items over ``sqrt(|n|)``; the latest basket weighs 1, each one before ``recency``
    times the next. An item of ``n`` adds ``likeness x nearness^steps``, steps counted from the shared item that weighs
    most, and ``before`` of that where it came before that one. Sessions that hold shared items only have nothing to say
    and are no neighbours: a user who was learned from is not their own. The paper has ``before = 1``, and a third
    factor for the time between sessions, which is left out.

    Parameters
    ----------
    num_neighbours
        Sessions that are summed over.
    max_sessions
        Training sessions kept, latest first.
    """

    kind: ClassVar[str] = "sessions"
    recency: float = 0.3
    nearness: float = 0.7
    before: float = 0.0
    num_neighbours: int = 500
    max_sessions: int = 200_000
    num_items: int = 0
    item_E: RowArray = field(default_factory=lambda: np.zeros(0, np.int32))
    offset_N1: IntArray = field(default_factory=lambda: np.zeros(1, np.int64))
    share_IN: sparse.csr_array = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Once per model: it takes longer than finding a user's neighbours.
        object.__setattr__(self, "share_IN", _shares(self.item_E, self.offset_N1, num_items=self.num_items))

    def fit(self, interactions: Interactions) -> Self:
        """Keep the latest sessions of two events and more."""
        rows = np.flatnonzero(np.diff(interactions.offset_U1) > 1)
        last_N = interactions.time_E[interactions.offset_U1[rows + 1] - 1]
        rows = np.sort(rows[np.argsort(-last_N, kind="stable")[: self.max_sessions]])
        kept = interactions.take(rows).latest(_EVENTS)
        return replace(self, num_items=kept.num_items, item_E=kept.item_E, offset_N1=kept.offset_U1)

    def score_UI(self, histories: Interactions) -> ScoreArray:
        """What near sessions took near to what they share with the history; 0 for a user without events."""
        late = histories.latest(_EVENTS)
        decay_E = np.float32(self.recency) ** baskets_back_E(late).astype(np.float32)
        weight_UI = user_matrix(late, weight_E=event_weight_E(late) * decay_E)
        weight_UI.eliminate_zeros()
        user_P, session_P, likeness_P = self._nearest(weight_UI)
        size_P = np.diff(self.offset_N1)[session_P]
        start_P1 = np.concatenate([[0], np.cumsum(size_P)])
        step_X = np.arange(start_P1[-1]) - np.repeat(start_P1[:-1], size_P)
        user_X = np.repeat(user_P, size_P)
        item_X = self.item_E[np.repeat(self.offset_N1[session_P], size_P) + step_X]
        shared_X = weight_UI.toarray()[user_X, item_X]
        after_X = step_X - np.repeat(_heaviest_P(shared_X, start_P1), size_P)
        near_X = np.float32(self.nearness) ** np.abs(after_X).astype(np.float32)
        near_X[after_X < 0] *= np.float32(self.before)
        score_X = np.repeat(likeness_P, size_P) * near_X
        summed: ScoreArray = sparse.coo_array((score_X, (user_X, item_X)), shape=weight_UI.shape).toarray()
        return summed

    def similar_JI(self, item_J: IntArray) -> ScoreArray:
        """Items of the same sessions, small sessions counting more; -inf for the item itself."""
        score_JI: ScoreArray = (self.share_IN[item_J] @ self.share_IN.T).toarray()
        score_JI[np.arange(len(item_J)), item_J] = -np.inf
        return score_JI

    def to_config(self) -> dict[str, Any]:
        """Parameters and the number of items."""
        names = ("recency", "nearness", "before", "num_neighbours", "max_sessions", "num_items")
        return {name: getattr(self, name) for name in names}

    def arrays(self) -> Arrays:
        """The sessions."""
        return {"item_E": self.item_E, "offset_N1": self.offset_N1}

    @classmethod
    def from_config(cls, config: dict[str, Any], *, arrays: Arrays) -> Self:
        """Model with these parameters and sessions."""
        return cls(**config, item_E=arrays["item_E"], offset_N1=arrays["offset_N1"])

    def _nearest(self, weight_UI: sparse.csr_array) -> tuple[IntArray, IntArray, ScoreArray]:
        """User, session and likeness of each pair, user by user."""
        like_UN = sparse.csr_array(weight_UI @ self.share_IN)
        shared_UN = sparse.csr_array(weight_UI.sign() @ self.share_IN.sign())
        like_UN.sort_indices()
        shared_UN.sort_indices()
        told_N = np.diff(self.share_IN.tocsc().indptr)
        like_UN.data[shared_UN.data >= told_N[like_UN.indices]] = 0.0
        like_UN.eliminate_zeros()
        kept = [
            first + _best(like_UN.data[first:last], k=self.num_neighbours)
            for first, last in zip(like_UN.indptr[:-1], like_UN.indptr[1:], strict=True)
        ]
        place_P = np.concatenate([*kept, np.zeros(0, np.int64)]).astype(np.int64)
        user_P = np.repeat(np.arange(len(kept)), [len(places) for places in kept])
        return user_P, like_UN.indices[place_P].astype(np.int64), like_UN.data[place_P]


def _best(like: ScoreArray, *, k: int) -> IntArray:
    """Places of the k largest; of equal ones the later sessions."""
    if len(like) <= k:
        return np.arange(len(like))
    return np.argsort(-like[::-1], kind="stable")[:k] * -1 + len(like) - 1


def _heaviest_P(weight_X: ScoreArray, start_P1: IntArray) -> IntArray:
    """Step of the heaviest event of each pair, the last one of equals."""
    if len(start_P1) < 2:
        return np.zeros(0, np.int64)
    size_P = np.diff(start_P1)
    heaviest_X = weight_X >= np.repeat(np.maximum.reduceat(weight_X, start_P1[:-1]), size_P)
    step_X = np.arange(len(weight_X)) - np.repeat(start_P1[:-1], size_P)
    return np.maximum.reduceat(np.where(heaviest_X, step_X, -1), start_P1[:-1])


def _shares(item_E: RowArray, offset_N1: IntArray, *, num_items: int) -> sparse.csr_array:
    """``1 / sqrt(different items)`` where a session holds an item, items by sessions."""
    held_NI = sparse.csr_array(
        (np.ones(len(item_E), np.float32), item_E, offset_N1), shape=(len(offset_N1) - 1, num_items), copy=True
    )
    held_NI.sum_duplicates()
    held_NI.data[:] = np.repeat(1.0 / np.sqrt(np.maximum(np.diff(held_NI.indptr), 1)), np.diff(held_NI.indptr))
    return sparse.csr_array(held_NI.T)
