"""TIFU-KNN: personal frequency with decay in groups, and that of the nearest users (Hu et al. 2020).

Shapes: U users, I items, N training users, K neighbours, E events.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from scipy import sparse

from recsys.interactions import IntArray, Interactions
from recsys.metrics import ScoreArray, top_items
from recsys.models.matrices import baskets_back_E, csr_arrays, csr_of, no_matrix, user_matrix
from recsys.models.protocol import Arrays, like_JI
from recsys.models.weights import event_weight_E


@dataclass(frozen=True, slots=True, kw_only=True)
class TifuKnn:
    """A user's decayed item vector, mixed with the mean of the nearest users' vectors.

    Baskets are put into groups of ``group_size``, counted back from the last: an event weighs
    ``basket_decay^(place in the group from its end) x group_decay^(groups ago)``, and a user's vector is the sum over
    baskets, divided by the number of groups and of baskets in one. The score is ``own_share`` of the own vector and the
    rest of the mean vector of the ``num_neighbours`` training users with the largest cosine (the paper: the least
    Euclidean distance). Only the latest ``max_users`` training users are kept.
    """

    kind: ClassVar[str] = "tifu"
    group_size: int = 7
    basket_decay: float = 0.9
    group_decay: float = 0.7
    own_share: float = 0.7
    num_neighbours: int = 300
    max_users: int = 50_000
    vector_NI: sparse.csr_array = field(default_factory=no_matrix)
    unit_IN: sparse.csr_array = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Once per model: it takes longer than finding a user's neighbours.
        object.__setattr__(self, "unit_IN", _unit(self.vector_NI).T.tocsr())

    def fit(self, interactions: Interactions) -> Self:
        """Keep the vectors of the users with events, those seen last if there are too many."""
        rows = np.flatnonzero(np.diff(interactions.offset_U1) > 0)
        last_N = interactions.time_E[interactions.offset_U1[rows + 1] - 1]
        rows = np.sort(rows[np.argsort(-last_N, kind="stable")[: self.max_users]])
        return replace(self, vector_NI=self._vectors(interactions.take(rows)))

    def score_UI(self, histories: Interactions) -> ScoreArray:
        """Own vector and the neighbours'; 0 for a user without events."""
        own_UI = self._vectors(histories)
        near_UN: ScoreArray = (_unit(own_UI) @ self.unit_IN).toarray()
        # Users of the training data are no neighbours of themselves, and those with nothing in common of nobody.
        near_UN[(near_UN > 1.0 - 1e-5) | (near_UN <= 0)] = -np.inf
        user_UK, _ = top_items(near_UN, k=self.num_neighbours)
        found_UK = user_UK >= 0
        count_U = found_UK.sum(axis=1)
        offset = np.concatenate([[0], np.cumsum(count_U)])
        share = np.repeat(1.0 / np.maximum(count_U, 1), count_U).astype(np.float32)
        mean_UN = sparse.csr_array((share, user_UK[found_UK], offset), shape=near_UN.shape)
        score_UI = self.own_share * own_UI + (1.0 - self.own_share) * (mean_UN @ self.vector_NI)
        return score_UI.toarray().astype(np.float32)

    def similar_JI(self, item_J: IntArray) -> ScoreArray:
        """Items in the vectors of the same users."""
        code_ND = np.random.default_rng(0).standard_normal((self.vector_NI.shape[0], 64), dtype=np.float32)
        return like_JI(self.vector_NI.T @ code_ND, item_J)

    def to_config(self) -> dict[str, Any]:
        """Parameters and the number of items."""
        names = ("group_size", "basket_decay", "group_decay", "own_share", "num_neighbours", "max_users")
        return {name: getattr(self, name) for name in names} | {"num_items": self.vector_NI.shape[1]}

    def arrays(self) -> Arrays:
        """Vectors of the training users."""
        return csr_arrays("vector", self.vector_NI)

    @classmethod
    def from_config(cls, config: dict[str, Any], *, arrays: Arrays) -> Self:
        """Model with these parameters and vectors."""
        parameters = {name: value for name, value in config.items() if name != "num_items"}
        return cls(**parameters, vector_NI=csr_of("vector", arrays, num_columns=config["num_items"]))

    def _vectors(self, histories: Interactions) -> sparse.csr_array:
        back_E = baskets_back_E(histories)
        decay_E = self.basket_decay ** (back_E % self.group_size) * self.group_decay ** (back_E // self.group_size)
        num_U = np.bincount(histories.user_E[histories.basket_start_E], minlength=histories.num_users)
        groups_U = np.maximum(-(-num_U // self.group_size), 1)
        size_U = np.maximum(np.minimum(num_U, self.group_size), 1)
        weight_E = event_weight_E(histories) * decay_E / (groups_U * size_U)[histories.user_E]
        return user_matrix(histories, weight_E=weight_E.astype(np.float32))


def _unit(vector_NI: sparse.csr_array) -> sparse.csr_array:
    length_N = np.sqrt(vector_NI.multiply(vector_NI).sum(axis=1))
    return sparse.csr_array(sparse.diags_array(1.0 / np.maximum(length_N, 1e-12)) @ vector_NI)
