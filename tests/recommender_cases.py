"""A recommender of counts, fitted in a moment: for tests of what stands around it."""

from typing import Any

from recsys.interactions import Interactions
from recsys.models.blend import RECENT, Blend
from recsys.models.neighbours import NeighbourModel
from recsys.models.popularity import Popularity
from recsys.predict import Recommender


def fit_counts(log: Interactions) -> Recommender:
    """Popularity and neighbours; items may be bought again."""
    models: dict[str, Any] = {
        RECENT: Popularity(days=28.0).fit(log),
        Popularity.kind: Popularity().fit(log),
        NeighbourModel.kind: NeighbourModel(num_neighbours=10).fit(log),
    }
    weights = {RECENT: 0.1, Popularity.kind: 0.1, NeighbourModel.kind: 1.0}
    return Recommender(histories=log, blend=Blend(models=models, weights=weights, seen_allowed=True))
