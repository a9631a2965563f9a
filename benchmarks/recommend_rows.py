"""The simple rows of the recommendation benchmark, with the parameters that papers and others' runs give them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from recsys.interactions import Interactions
from recsys.models.blend import Blend
from recsys.models.ease import EaseModel
from recsys.models.factors import AlsModel, BprModel
from recsys.models.frequency import PersonalFrequency
from recsys.models.neighbours import NeighbourModel
from recsys.models.popularity import Popularity
from recsys.models.protocol import Scorer
from recsys.models.session_neighbours import SessionNeighbours
from recsys.models.tifu import TifuKnn
from recsys.models.transitions import TransitionModel

SIMPLE = (
    "popularity",
    "frequency",
    "personal-popular",
    "tifu",
    "neighbours",
    "markov",
    "markov-2",
    "stan",
    "stan-after",
    "ease",
    "ease-recency",
    "als",
    "bpr",
)
COSTLY = ("ease", "ease-recency", "als", "bpr")
"""Of these, what takes longer than all others together; the quick form leaves them out."""
_HALF_LIFE_DAYS = 90.0
_POPULAR_WEIGHT = 0.1
_LARGE_BASKET = 3.0
_TIES = 1e-3
"""The last basket decides; where it says nothing, those before it do."""


def simple_models(train: Interactions) -> dict[str, Callable[[], Scorer]]:
    """What fits each simple row; rows of repeats only where there are baskets."""
    large = train.num_events >= _LARGE_BASKET * np.count_nonzero(train.basket_start_E)
    lags, near = (1, 1) if large else (10, 5)
    ease: list[EaseModel] = []

    def fit_ease() -> EaseModel:
        ease.append(EaseModel().fit(train))
        return ease[0]

    def with_recency() -> EaseModel:
        return replace(ease[0] if ease else EaseModel().fit(train), recency=0.7)

    rows: dict[str, Callable[[], Scorer]] = {
        "popularity": lambda: Popularity().fit(train),
        "frequency": lambda: PersonalFrequency(half_life_days=_HALF_LIFE_DAYS).fit(train),
        "personal-popular": lambda: _personal_popular(train),
        "tifu": lambda: TifuKnn().fit(train),
        "neighbours": lambda: NeighbourModel(max_lag=near).fit(train),
        "markov": lambda: TransitionModel(max_lag=lags, recency=_TIES).fit(train),
        "markov-2": lambda: TransitionModel(order=2, max_lag=lags, recency=_TIES).fit(train),
        "stan": lambda: SessionNeighbours(recency=0.7, nearness=0.7, before=1.0).fit(train),
        "stan-after": lambda: SessionNeighbours().fit(train),
        "ease": fit_ease,
        "ease-recency": with_recency,
        "als": lambda: AlsModel().fit(train),
        "bpr": lambda: BprModel().fit(train),
    }
    # Repeats are for baskets, sessions for what has few events.
    others = ("stan", "stan-after") if large else ("frequency", "personal-popular", "tifu")
    return {name: make for name, make in rows.items() if name not in others}


def _personal_popular(train: Interactions) -> Blend:
    """Personal frequency without decay, and a little popularity for what the user never took."""
    models = {
        "frequency": PersonalFrequency(half_life_days=1e6).fit(train),
        "popularity": Popularity().fit(train),
    }
    return Blend(models=models, weights={"frequency": 1.0, "popularity": _POPULAR_WEIGHT}, seen_allowed=True)
