"""EASE: a linear autoencoder between items, in closed form (Steck 2019, "Embarrassingly shallow autoencoders").

Shapes: U users, I items, J items that the inverse runs over.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy import sparse

from recsys.interactions import IntArray, Interactions
from recsys.metrics import ScoreArray
from recsys.models.matrices import baskets_back_E, csr_arrays, csr_of, no_matrix, user_matrix
from recsys.models.protocol import Arrays
from recsys.models.weights import event_weight_E


@dataclass(frozen=True, slots=True, kw_only=True)
class EaseModel:
    """Weights ``B = I - P diag(1 / P)`` with ``P = (X'X + ridge)^-1``, X which user took which item.

    Differs from the paper: only the ``num_neighbours`` largest positive weights of an item are kept, so that an
    artifact does not grow with the square of the items, and a history may count its late events more.

    Parameters
    ----------
    ridge
        Added to the diagonal; large for sparse data.
    recency
        Weight of a basket over that of the next later one, in the history that is read; 1 is the paper's.
    max_items
        The most popular items that the inverse runs over, since its time grows with their cube; others score 0.
    """

    kind: ClassVar[str] = "ease"
    ridge: float = 250.0
    recency: float = 1.0
    num_neighbours: int = 200
    max_items: int = 12_500
    weight_II: sparse.csr_array = field(default_factory=no_matrix)

    def fit(self, interactions: Interactions) -> Self:
        """Invert the ridged co-occurrence matrix."""
        bought_UI = user_matrix(interactions, weight_E=event_weight_E(interactions)).sign()
        count_I = np.asarray(bought_UI.sum(axis=0)).ravel()
        item_J = np.sort(np.argsort(-count_I, kind="stable")[: self.max_items])
        some_UJ = bought_UI[:, item_J]
        gram_JJ = torch.from_numpy((some_UJ.T @ some_UJ).toarray())
        gram_JJ.diagonal().add_(self.ridge)
        inverse_JJ = torch.cholesky_inverse(torch.linalg.cholesky(gram_JJ)).numpy()
        return replace(self, weight_II=self._largest(inverse_JJ, item_J=item_J, num_items=interactions.num_items))

    def score_UI(self, histories: Interactions) -> ScoreArray:
        """Sum of the weights of the items in the history, late ones counting more."""
        decay_E = np.float32(self.recency) ** np.minimum(baskets_back_E(histories), 1_000).astype(np.float32)
        history_UI = user_matrix(histories, weight_E=event_weight_E(histories) * decay_E)
        if self.recency == 1.0:
            history_UI = history_UI.sign()
        return (history_UI @ self.weight_II).toarray()

    def similar_JI(self, item_J: IntArray) -> ScoreArray:
        """Weights of the given items; -inf for the item itself."""
        score_JI = self.weight_II[item_J].toarray()
        score_JI[np.arange(len(item_J)), item_J] = -np.inf
        return score_JI

    def to_config(self) -> dict[str, Any]:
        """Parameters and the number of items."""
        names = ("ridge", "recency", "num_neighbours", "max_items")
        return {name: getattr(self, name) for name in names} | {"num_items": self.weight_II.shape[1]}

    def arrays(self) -> Arrays:
        """The weights."""
        return csr_arrays("weight", self.weight_II)

    @classmethod
    def from_config(cls, config: dict[str, Any], *, arrays: Arrays) -> Self:
        """Model with these parameters and weights."""
        parameters = {name: value for name, value in config.items() if name != "num_items"}
        return cls(**parameters, weight_II=csr_of("weight", arrays, num_columns=config["num_items"]))

    def _largest(self, inverse_JJ: ScoreArray, *, item_J: IntArray, num_items: int) -> sparse.csr_array:
        weight_JJ = -inverse_JJ / np.diag(inverse_JJ)
        np.fill_diagonal(weight_JJ, 0.0)
        k = min(self.num_neighbours, len(item_J))
        column_JK = np.argpartition(-weight_JJ, k - 1, axis=1)[:, :k]
        value_JK = np.maximum(np.take_along_axis(weight_JJ, column_JK, axis=1), 0.0)
        row_JK = np.broadcast_to(item_J[:, None], column_JK.shape)
        cells = (value_JK.ravel().astype(np.float32), (row_JK.ravel(), item_J[column_JK].ravel()))
        matrix = sparse.csr_array(cells, shape=(num_items, num_items))
        matrix.eliminate_zeros()
        return matrix
