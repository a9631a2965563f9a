"""The models without gradients that a blend may draw on, and which parameters validation prefers.

A member's candidates share what was learned and differ in how a history is read, so choosing costs no second fit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from cluster.settings.models import RecommenderSettings
from recsys.holdout import Holdout
from recsys.interactions import Interactions
from recsys.models.blend import RECENT, best_of
from recsys.models.ease import EaseModel
from recsys.models.factors import AlsModel, BprModel
from recsys.models.frequency import PersonalFrequency
from recsys.models.habits import HabitModel
from recsys.models.neighbours import NeighbourModel
from recsys.models.popularity import Popularity
from recsys.models.protocol import RecommenderModel
from recsys.models.session_neighbours import SessionNeighbours
from recsys.models.tifu import TifuKnn
from recsys.models.transitions import TransitionModel

Models = dict[str, RecommenderModel]
Candidates = Mapping[str, Sequence[RecommenderModel]]
K: Final = 10
_HALF_LIVES_DAYS: Final = (30.0, 90.0, 270.0)
# Few large baskets have pairs enough in themselves; many small ones only have each other.
_LARGE_BASKET: Final = 3.0
_LAGS_SMALL_BASKETS: Final = 5
_TRANSITION_LAGS: Final = 10


def fit_members(holdout: Holdout, *, settings: RecommenderSettings, seen_allowed: bool) -> Models:
    """Members that the settings name, fitted to the holdout's history, with the parameters that do best on it.

    Neighbours and popularity are always among them: similar items and answers to strangers come from them.
    """
    history = holdout.history
    members: Models = {}
    for kind in dict.fromkeys((*settings.members, NeighbourModel.kind)):
        for name, candidates in _CANDIDATES[kind](history, settings).items() if kind in _CANDIDATES else ():
            members[name] = best_of(candidates, holdout, seen_allowed=seen_allowed, k=K)
    return members | {
        RECENT: Popularity(days=settings.popular_days).fit(history),
        Popularity.kind: Popularity().fit(history),
    }


def _frequencies(history: Interactions, settings: RecommenderSettings) -> Candidates:
    """Several half-lives, since old habits and new ones add up."""
    return {
        f"{PersonalFrequency.kind}-{days:g}": [PersonalFrequency(half_life_days=days).fit(history)]
        for days in _HALF_LIVES_DAYS
    }


def _neighbours(history: Interactions, settings: RecommenderSettings) -> Candidates:
    max_lag = 1 if _has_large_baskets(history) else _LAGS_SMALL_BASKETS
    nearest = NeighbourModel(num_neighbours=settings.num_neighbours, max_lag=max_lag).fit(history)
    return {NeighbourModel.kind: [replace(nearest, recency=recency) for recency in (0.5, 0.7, 0.9)]}


def _transitions(history: Interactions, settings: RecommenderSettings) -> Candidates:
    max_lag = 1 if _has_large_baskets(history) else _TRANSITION_LAGS
    models = [TransitionModel(max_lag=max_lag, shares=shares).fit(history) for shares in (False, True)]
    return {
        f"{TransitionModel.kind}-{name}": [replace(model, recency=recency) for recency in (0.2, 0.4, 0.7)]
        for name, model in zip(("counts", "shares"), models, strict=True)
    }


def _pairs(history: Interactions, settings: RecommenderSettings) -> Candidates:
    first = TransitionModel(order=2, recency=0.4).fit(history)
    return {f"{TransitionModel.kind}-2": [replace(first, back_off=weight) for weight in (0.2, 0.5, 1.0)]}


def _sessions(history: Interactions, settings: RecommenderSettings) -> Candidates:
    first = SessionNeighbours().fit(history)
    tried = ((0.2, 0.7), (0.3, 0.9), (0.5, 0.9))
    return {SessionNeighbours.kind: [replace(first, recency=late, nearness=near) for late, near in tried]}


def _tifu(history: Interactions, settings: RecommenderSettings) -> Candidates:
    first = TifuKnn().fit(history)
    return {TifuKnn.kind: [replace(first, own_share=share) for share in (0.5, 0.7, 0.9)]}


def _habits(history: Interactions, settings: RecommenderSettings) -> Candidates:
    """It learns what validation asks for."""
    model = HabitModel(target=settings.validation, target_days=settings.validation_days)
    return {HabitModel.kind: [model.fit(history)]}


def _ease(history: Interactions, settings: RecommenderSettings) -> Candidates:
    first = EaseModel().fit(history)
    return {EaseModel.kind: [replace(first, recency=recency) for recency in (0.5, 0.7, 1.0)]}


def _als(history: Interactions, settings: RecommenderSettings) -> Candidates:
    return {AlsModel.kind: [AlsModel().fit(history)]}


def _bpr(history: Interactions, settings: RecommenderSettings) -> Candidates:
    return {BprModel.kind: [BprModel().fit(history)]}


def _has_large_baskets(history: Interactions) -> bool:
    return bool(history.num_events >= _LARGE_BASKET * np.count_nonzero(history.basket_start_E))


_CANDIDATES: Final[dict[str, Callable[[Interactions, RecommenderSettings], Candidates]]] = {
    "frequency": _frequencies,
    "neighbours": _neighbours,
    "transitions": _transitions,
    "transitions-2": _pairs,
    "sessions": _sessions,
    "tifu": _tifu,
    "habits": _habits,
    "ease": _ease,
    "als": _als,
    "bpr": _bpr,
}
