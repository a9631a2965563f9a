"""Personal frequency: what this user takes again and again, recent times counting more.

Hard to beat where people rebuy (Hu et al. 2020, "Modeling personalized item frequency information for next-basket
recommendation"); zero for items that the user never took, so it needs company.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from scipy import sparse

from recsys.interactions import IntArray, Interactions
from recsys.metrics import ScoreArray
from recsys.models.protocol import Arrays, like_JI
from recsys.models.weights import event_weight_E


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalFrequency:
    """Sum over a user's events of the item: behaviour weight x 2^(-age / half-life).

    Parameters
    ----------
    half_life_days
        Age at which an event counts half.
    vector_ID
        Random projection of who took each item: enough to say which items share buyers.
    """

    kind: ClassVar[str] = "frequency"
    half_life_days: float = 90.0
    vector_ID: ScoreArray | None = None

    def fit(self, interactions: Interactions) -> Self:
        """Scores need no fitting; the projection behind :meth:`similar_JI` does."""
        rng = np.random.default_rng(0)
        code_UD = rng.standard_normal((interactions.num_users, 64), dtype=np.float32)
        return replace(self, vector_ID=self._matrix(interactions).sign().T @ code_UD)

    def score_UI(self, histories: Interactions) -> ScoreArray:
        """Decayed count of each item in each history."""
        return self._matrix(histories).toarray()

    def similar_JI(self, item_J: IntArray) -> ScoreArray:
        """Items that the same users take."""
        if self.vector_ID is None:
            raise ValueError("fit the model before asking what is similar")
        return like_JI(self.vector_ID, item_J)

    def to_config(self) -> dict[str, Any]:
        """``half_life_days``."""
        return {"half_life_days": self.half_life_days}

    def arrays(self) -> Arrays:
        """The projection."""
        return {} if self.vector_ID is None else {"vector_ID": self.vector_ID}

    @classmethod
    def from_config(cls, config: dict[str, Any], *, arrays: Arrays) -> Self:
        """Model with these parameters."""
        return cls(**config, vector_ID=arrays.get("vector_ID"))

    def _matrix(self, histories: Interactions) -> sparse.csr_array:
        decay_E = np.exp2(-histories.age_days_E / np.float32(self.half_life_days))
        weight_E = event_weight_E(histories) * decay_E
        shape = (histories.num_users, histories.num_items)
        matrix = sparse.csr_array((weight_E, histories.item_E, histories.offset_U1), shape=shape, copy=True)
        matrix.sum_duplicates()
        return matrix
