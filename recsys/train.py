"""From sequences to a recommender: train, let validation choose parameters and weights, refit on everything."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from cluster.config import RecommenderSettings, Settings
from recsys.evaluate import evaluate
from recsys.holdout import Holdout, hold_out_last_basket, hold_out_next_basket
from recsys.interactions import DAY_SECONDS, Interactions
from recsys.models.blend import RECENT, Blend, best_of, choose_weights, seen_share
from recsys.models.frequency import PersonalFrequency
from recsys.models.neighbours import NeighbourModel
from recsys.models.popularity import Popularity
from recsys.models.protocol import RecommenderModel
from recsys.predict import Recommender

K: Final = 10
Models = dict[str, RecommenderModel]
_HALF_LIVES_DAYS: Final = (30.0, 90.0, 270.0)
_RECENCIES: Final = (0.5, 0.7, 0.9)
# Few large baskets have pairs enough in themselves; many small ones only have each other.
_LARGE_BASKET: Final = 3.0
_LAGS_SMALL_BASKETS: Final = 5
# Fewer repeats than this among what users took next: they do not rebuy, so what they have is left out.
_MIN_SEEN_SHARE: Final = 0.02
# Used where nothing can be held out to choose weights on.
_UNJUDGED_WEIGHTS: Final = {"frequency-90": 1.0, NeighbourModel.kind: 0.2, RECENT: 0.1}


def fit_recommender(
    interactions: Interactions,
    *,
    settings: Settings,
    on_epoch: Callable[[dict[str, Any]], None] = lambda row: None,
) -> Recommender:
    """Fit every model and the blend; call within :func:`cluster.runtime.connect`.

    Models are first fitted to what lies before the validation baskets. On those the parameters of the simple models and
    the weights of the blend are chosen. Then everything is refitted on all history.

    Parameters
    ----------
    interactions
        What may be learned from, all of it.
    on_epoch
        Called in this process with each row of the sequence model's learning curve.
    """
    from recsys.distributed import train_sequence_model  # here, so that unit tests of the rest start no Ray

    holdout = hold_out_validation(interactions, settings=settings.recommender)
    trained = train_sequence_model(interactions, holdout=holdout, settings=settings, on_epoch=on_epoch)
    judged: Models = {} if trained is None else {"sequence": trained.judged}
    refitted: Models = {} if trained is None else {"sequence": trained.refitted}
    curve = [] if trained is None else trained.learning_curve
    return blend_models(
        interactions, holdout=holdout, judged=judged, refitted=refitted, settings=settings.recommender, curve=curve
    )


def blend_models(
    interactions: Interactions,
    *,
    holdout: Holdout,
    judged: Models,
    refitted: Models,
    settings: RecommenderSettings,
    curve: list[dict[str, Any]],
) -> Recommender:
    """Add the simple models to the trained ones, choose weights on the holdout and refit the simple ones on all.

    Parameters
    ----------
    judged, refitted
        The trained models by name, before and after they saw the validation baskets.
    """
    allowed = not len(holdout) or seen_share(holdout) >= _MIN_SEEN_SHARE
    sample = holdout.sample(settings.validation_users)
    models = judged | fit_simple_models(sample, settings=settings, seen_allowed=allowed)
    weights = {name: _UNJUDGED_WEIGHTS.get(name, 0.0) for name in models}
    rows: list[dict[str, Any]] = []
    if len(holdout):
        weights, _ = choose_weights(models, sample, seen_allowed=allowed, k=K)
        blend = Blend(models=models, weights=weights, seen_allowed=allowed)
        rows = evaluate(Recommender(histories=holdout.history, blend=blend), sample, protocol=settings.validation, k=K)
    final = {name: refitted.get(name) or model.fit(interactions) for name, model in models.items()}
    return Recommender(
        histories=interactions,
        blend=Blend(models=final, weights=weights, seen_allowed=allowed),
        learning_curve=curve,
        validation=rows,
    )


def hold_out_validation(interactions: Interactions, *, settings: RecommenderSettings) -> Holdout:
    """What chooses weights: the first basket of the last days; each user's last one if those days hold none."""
    if settings.validation == "next-basket":
        cut = int(interactions.now_U.max()) - settings.validation_days * DAY_SECONDS
        holdout = hold_out_next_basket(interactions, cut=cut)
        if len(holdout):
            return holdout
    return hold_out_last_basket(interactions)


def fit_simple_models(holdout: Holdout, *, settings: RecommenderSettings, seen_allowed: bool) -> Models:
    """Models without gradients, fitted to the holdout's history; of the neighbours the recency that finds most.

    Personal frequency comes with several half-lives, since old habits and new ones add up.
    """
    history = holdout.history
    large = history.num_events >= _LARGE_BASKET * np.count_nonzero(history.basket_start_E)
    max_lag = 1 if large else _LAGS_SMALL_BASKETS
    nearest = NeighbourModel(num_neighbours=settings.num_neighbours, max_lag=max_lag).fit(history)
    neighbours = [replace(nearest, recency=recency) for recency in _RECENCIES]
    frequencies: Models = {
        f"{PersonalFrequency.kind}-{days:g}": PersonalFrequency(half_life_days=days).fit(history)
        for days in _HALF_LIVES_DAYS
    }
    return frequencies | {
        NeighbourModel.kind: best_of(neighbours, holdout, seen_allowed=seen_allowed, k=K),
        RECENT: Popularity(days=settings.popular_days).fit(history),
        Popularity.kind: Popularity().fit(history),
    }
