"""The serving blend: a weighted sum of models, each scaled to 1 at a user's best item, with weights from validation.

Shapes: U users, I items, K ranks, P candidates in a user's pool, M models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from recsys.holdout import Holdout
from recsys.interactions import IntArray, Interactions
from recsys.metrics import ScoreArray, hits, ideal_gain_K, top_items
from recsys.models.popularity import Popularity
from recsys.models.protocol import RecommenderModel, scaled, users_per_batch

Model = TypeVar("Model", bound=RecommenderModel)
_WEIGHTS: Final = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5)
_PASSES: Final = 3
_POOL_PER_MODEL: Final = 50
RECENT: Final = "recent-popularity"
# Fewer repeats than this among what users took next: they do not rebuy, so what they have is left out.
_MIN_SEEN_SHARE: Final = 0.02
# Ties and users of whom nothing is known fall to what is popular lately, then ever, whatever the weights.
_LEAST_WEIGHTS: Final = {RECENT: 1e-6, Popularity.kind: 1e-9}


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """Fitted models and their weights.

    Parameters
    ----------
    models
        By name; ``recent-popularity`` and ``popularity`` must be among them.
    weights
        One per model, 0 or more.
    seen_allowed
        Whether items of a user's own history may be recommended again.
    """

    models: Mapping[str, RecommenderModel]
    weights: Mapping[str, float]
    seen_allowed: bool

    def with_models(self, models: Mapping[str, RecommenderModel]) -> "Blend":
        """The same weights over refitted models."""
        return replace(self, models=models)

    def parts(self, histories: Interactions) -> dict[str, ScoreArray]:
        """What each model adds to the score of each item, shape (U, I); models without weight are not asked."""
        nothing_known_U = np.diff(histories.offset_U1) == 0
        parts = {}
        for name, model in self.models.items():
            least = _LEAST_WEIGHTS.get(name, 0.0)
            weight = max(self.weights[name], least)
            if weight > 0:
                parts[name] = np.float32(weight) * scaled(model.score_UI(histories))
                parts[name][nothing_known_U] *= np.float32(least / weight)
        return parts

    def score_UI(self, histories: Interactions) -> ScoreArray:
        """Sum of the parts."""
        return sum_UI(self.parts(histories))


def sum_UI(parts: Mapping[str, ScoreArray]) -> ScoreArray:
    """Sum of the parts, in one new array."""
    first, *others = parts.values()
    total_UI = first.copy()
    for part_UI in others:
        total_UI += part_UI
    return total_UI


def is_seen_allowed(holdout: Holdout) -> bool:
    """Whether users take what they have: told by the holdout, and assumed where it holds nothing."""
    return not len(holdout) or seen_share(holdout) >= _MIN_SEEN_SHARE


def fit_blend(models: Mapping[str, RecommenderModel], holdout: Holdout, *, seen_allowed: bool, k: int = 10) -> Blend:
    """Blend with the weights that do best on the holdout (:func:`choose_weights`)."""
    weights, _ = choose_weights(models, holdout, seen_allowed=seen_allowed, k=k)
    return Blend(models=models, weights=weights, seen_allowed=seen_allowed)


def seen_share(holdout: Holdout) -> float:
    """Share of the items to find that their user had taken before: near 0 where people do not rebuy."""
    history = holdout.history
    width = history.num_items
    seen = history.user_E * width + history.item_E
    wanted = np.repeat(holdout.user_V, holdout.size_V) * width + holdout.target_N
    return float(np.isin(wanted, seen).mean()) if len(wanted) else 0.0


def best_of(candidates: Sequence[Model], holdout: Holdout, *, seen_allowed: bool, k: int) -> Model:
    """Candidate with the best NDCG@k by itself; the middle one if there is nothing to find."""
    if not len(holdout):
        return candidates[len(candidates) // 2]
    named = {str(place): model for place, model in enumerate(candidates)}
    pool = _make_pool(named, holdout, seen_allowed=seen_allowed, k=k)
    return named[max(named, key=lambda name: pool.ndcg({name: 1.0}))]


def choose_weights(
    models: Mapping[str, RecommenderModel], holdout: Holdout, *, seen_allowed: bool, k: int
) -> tuple[dict[str, float], float]:
    """Weights with the best NDCG@k on the holdout, and that NDCG.

    Coordinate search from the best single model, over the pool of each model's best items per user. A model that does
    not help keeps weight 0.
    """
    pool = _make_pool(models, holdout, seen_allowed=seen_allowed, k=k)
    names = list(models)
    alone = {name: pool.ndcg({name: 1.0}) for name in names}
    weights = {name: float(name == max(alone, key=lambda other: alone[other])) for name in names}
    best = pool.ndcg(weights)
    for _ in range(_PASSES):
        for name in names:
            for weight in _WEIGHTS:
                tried = weights | {name: weight}
                value = pool.ndcg(tried) if any(tried.values()) else -1.0
                if value > best:
                    weights, best = tried, value
    return weights, best


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pool:
    """Scores of few candidates per user: enough to compare weights a hundred times a second."""

    score_MUP: Mapping[str, ScoreArray]
    hit_UP: npt.NDArray[np.bool_]
    size_U: IntArray
    k: int

    def ndcg(self, weights: Mapping[str, float]) -> float:
        used = {name: weight for name, weight in weights.items() if weight > 0}
        total_UP = sum(np.float32(weight) * self.score_MUP[name] for name, weight in used.items())
        assert isinstance(total_UP, np.ndarray)
        place_UK, _ = top_items(total_UP, k=self.k)
        hit_UK = np.take_along_axis(self.hit_UP, np.maximum(place_UK, 0), axis=1) & (place_UK >= 0)
        discount_K = 1.0 / np.log2(np.arange(2, self.k + 2))
        gain_U = hit_UK @ discount_K[: hit_UK.shape[1]]
        return float(np.mean(gain_U / ideal_gain_K(self.k)[np.minimum(self.size_U, self.k)]))


def _make_pool(models: Mapping[str, RecommenderModel], holdout: Holdout, *, seen_allowed: bool, k: int) -> _Pool:
    parts: list[dict[str, Any]] = []
    batch_users = users_per_batch(holdout.history.num_items)
    for start in range(0, len(holdout), batch_users):
        histories = holdout.history.take(holdout.user_V[start : start + batch_users])
        scores = {name: scaled(model.score_UI(histories)) for name, model in models.items()}
        if not seen_allowed:
            for score_UI in scores.values():
                score_UI[histories.user_E, histories.item_E] = -np.inf
        parts.append(_candidates(scores, k=max(k, _POOL_PER_MODEL)))
    item_UP = np.concatenate([part["item"] for part in parts])
    return _Pool(
        score_MUP={name: np.concatenate([part[name] for part in parts]) for name in models},
        hit_UP=hits(item_UP, target_N=holdout.target_N, offset_U1=holdout.offset_V1),
        size_U=holdout.size_V,
        k=k,
    )


def _candidates(scores: Mapping[str, ScoreArray], *, k: int) -> dict[str, Any]:
    """Union of the models' best items, in item order; repeats are voided."""
    item_UP = np.sort(np.concatenate([top_items(score_UI, k=k)[0] for score_UI in scores.values()], axis=1), axis=1)
    void_UP = (item_UP < 0) | (np.diff(item_UP, axis=1, prepend=-2) == 0)
    found: dict[str, Any] = {"item": np.where(void_UP, -1, item_UP)}
    for name, score_UI in scores.items():
        found[name] = np.where(void_UP, -np.inf, np.take_along_axis(score_UI, np.maximum(item_UP, 0), axis=1))
    return found
