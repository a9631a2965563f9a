"""Popularity: what most users took, ever or lately. The answer for users of whom nothing is known."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np

from recsys.interactions import IntArray, Interactions
from recsys.metrics import ScoreArray
from recsys.models.protocol import Arrays
from recsys.models.weights import event_weight_E


@dataclass(frozen=True, slots=True, kw_only=True)
class Popularity:
    """Weighted events per item over the last ``days`` days, or over all history.

    Parameters
    ----------
    days
        Length of the window; None counts everything.
    """

    kind: ClassVar[str] = "popularity"
    days: float | None = None
    count_I: ScoreArray = field(default_factory=lambda: np.zeros(0, np.float32))

    def fit(self, interactions: Interactions) -> Self:
        """Count; a window without any event falls back to all history, so that there is always an answer."""
        weight_E = event_weight_E(interactions)
        inside_E = weight_E * (interactions.age_days_E <= self.days) if self.days is not None else weight_E
        weight_E = inside_E if inside_E.any() else weight_E
        count_I = np.bincount(interactions.item_E, weights=weight_E, minlength=interactions.num_items)
        return replace(self, count_I=count_I.astype(np.float32))

    def score_UI(self, histories: Interactions) -> ScoreArray:
        """Same scores for everybody."""
        return np.repeat(self.count_I[None], histories.num_users, axis=0)

    def similar_JI(self, item_J: IntArray) -> ScoreArray:
        """Popularity knows no likeness: popular items, whatever the item."""
        score_JI = np.repeat(self.count_I[None], len(item_J), axis=0)
        score_JI[np.arange(len(item_J)), item_J] = -np.inf
        return score_JI

    def to_config(self) -> dict[str, Any]:
        """``days``."""
        return {"days": self.days}

    def arrays(self) -> Arrays:
        """Count per item."""
        return {"count_I": self.count_I}

    @classmethod
    def from_config(cls, config: dict[str, Any], *, arrays: Arrays) -> Self:
        """Model with these parameters and counts."""
        return cls(**config, count_I=arrays["count_I"])
