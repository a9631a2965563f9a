"""What a user is interested in: the share of each category in what they will do next. Pure NumPy.

A user's recent events, weighted by behaviour and halved in weight every ``half_life_days``, are counts; what all users
did lately is the prior, worth ``prior`` events (the mean of a Dirichlet posterior). Both numbers are those that make
what users did in the last weeks of the history most likely.

Shapes: U users, I items, C categories, E events.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from recsys.interactions import DAY_SECONDS, IntArray, Interactions, StrArray
from recsys.models.weights import event_weight_E

Matrix = npt.NDArray[np.float64]
_HALF_LIVES: Final = (14.0, 45.0, 120.0, 1e6)
_PRIORS: Final = (0.5, 2.0, 8.0, 30.0)
_JUDGED_DAYS: Final = 28
_RECENT_DAYS: Final = 56
_SMOOTHING: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class InterestModel:
    """Half-life, weight of the prior, and the prior itself.

    Parameters
    ----------
    category_C
        Sorted names.
    category_I
        Category of each of the recommender's items, as a position in ``category_C``.
    """

    category_C: StrArray
    category_I: IntArray
    overall_C: Matrix
    half_life_days: float
    prior: float

    def shares_UC(self, histories: Interactions) -> Matrix:
        """Expected share of each category in the next events of each user; rows sum to 1."""
        count_UC = _counts(
            histories, category_I=self.category_I, num=len(self.category_C), half_life=self.half_life_days
        )
        return (count_UC + self.prior * self.overall_C) / (count_UC.sum(axis=1, keepdims=True) + self.prior)

    def to_config(self) -> dict[str, Any]:
        """Parameters, as JSON can write them."""
        names = self.category_C.tolist()
        overall = self.overall_C.tolist()
        return {"categories": names, "overall": overall, "half_life_days": self.half_life_days, "prior": self.prior}

    @classmethod
    def from_config(cls, config: dict[str, Any], *, category_ids_I: StrArray) -> "InterestModel":
        """What :meth:`to_config` wrote, for items of these categories."""
        category_C = np.array(config["categories"], dtype=str)
        return cls(
            category_C=category_C,
            category_I=np.searchsorted(category_C, category_ids_I).astype(np.int64),
            overall_C=np.array(config["overall"]),
            half_life_days=config["half_life_days"],
            prior=config["prior"],
        )


def fit_interests(interactions: Interactions, *, category_ids_I: StrArray) -> InterestModel:
    """Choose half-life and prior on the last four weeks, and count what all users did lately."""
    category_C, category_I = np.unique(category_ids_I, return_inverse=True)
    category_I = category_I.astype(np.int64)
    cut = int(interactions.now_U.max(initial=0)) - _JUDGED_DAYS * DAY_SECONDS
    before = interactions.before(cut)
    actual_UC = future_UC(interactions, category_I=category_I, num=len(category_C), since=cut)
    overall_C = _overall(before, category_I=category_I, num=len(category_C))
    best = (-np.inf, _HALF_LIVES[1], _PRIORS[1])
    for half_life in _HALF_LIVES:
        count_UC = _counts(before, category_I=category_I, num=len(category_C), half_life=half_life)
        for prior in _PRIORS:
            share_UC = (count_UC + prior * overall_C) / (count_UC.sum(axis=1, keepdims=True) + prior)
            best = max(best, (float((actual_UC * np.log(share_UC)).sum()), half_life, prior))
    return InterestModel(
        category_C=category_C,
        category_I=category_I,
        overall_C=_overall(interactions, category_I=category_I, num=len(category_C)),
        half_life_days=best[1],
        prior=best[2],
    )


def future_UC(interactions: Interactions, *, category_I: IntArray, num: int, since: int) -> Matrix:
    """Weighted events of each user and category at or after an instant (seconds)."""
    weight_E = event_weight_E(interactions) * (interactions.time_E >= since)
    cell_E = interactions.user_E * num + category_I[interactions.item_E]
    flat = np.bincount(cell_E, weight_E, minlength=interactions.num_users * num)
    return np.asarray(flat, dtype=np.float64).reshape(-1, num)


def score_shares(share_UC: Matrix, actual_UC: Matrix) -> dict[str, float]:
    """How well shares tell what came: nats per event, and the share of it that lies where it was expected.

    Users without any event do not count. ``explained`` is the overlap ``sum min(expected, actual share)``, mean over
    users: 1 says that every share came as expected.
    """
    total_U = actual_UC.sum(axis=1)
    judged_U = total_U > 0
    expected_UC, came_UC = share_UC[judged_U], actual_UC[judged_U] / total_U[judged_U, None]
    nats_U = -(came_UC * np.log(np.maximum(expected_UC, 1e-12))).sum(axis=1)
    return {
        "users": int(judged_U.sum()),
        "nats": float(nats_U.mean()),
        "explained": float(np.minimum(expected_UC, came_UC).sum(axis=1).mean()),
    }


def _counts(histories: Interactions, *, category_I: IntArray, num: int, half_life: float) -> Matrix:
    weight_E = event_weight_E(histories) * np.exp2(-histories.age_days_E / half_life)
    cell_E = histories.user_E * num + category_I[histories.item_E]
    flat = np.bincount(cell_E, weight_E, minlength=histories.num_users * num)
    return np.asarray(flat, dtype=np.float64).reshape(-1, num)


def _overall(interactions: Interactions, *, category_I: IntArray, num: int) -> Matrix:
    """Share of each category in what all users did lately; none is 0."""
    weight_E = event_weight_E(interactions) * (interactions.age_days_E <= _RECENT_DAYS)
    count_C = np.bincount(category_I[interactions.item_E], weight_E, minlength=num) + _SMOOTHING
    return np.asarray(count_C / count_C.sum())
