"""From sequences to a recommender: train, let validation choose parameters and weights, refit on everything."""

from collections.abc import Callable
from typing import Any, Final

from cluster.config import Settings
from cluster.settings.models import RecommenderSettings
from recsys.evaluate import evaluate
from recsys.holdout import Holdout, hold_out_days, hold_out_last_basket, hold_out_next_basket
from recsys.interactions import DAY_SECONDS, Interactions
from recsys.members import K, Models, fit_members
from recsys.models.blend import RECENT, Blend, fit_blend, is_seen_allowed
from recsys.models.neighbours import NeighbourModel
from recsys.models.sequence import SequenceModel
from recsys.predict import Recommender

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
    judged: Models = {}
    refitted: Models = {}
    curve: list[dict[str, Any]] = []
    if SequenceModel.kind in settings.recommender.members:
        if settings.recommender.privacy_epsilon is not None:
            # Once, on what lies before the validation baskets: a second training would cost the users once more.
            private = SequenceModel(settings=settings.recommender, seed=settings.seed).fit(holdout.history)
            judged = refitted = {SequenceModel.kind: private}
        elif trained := train_sequence_model(interactions, holdout=holdout, settings=settings, on_epoch=on_epoch):
            judged, refitted = {SequenceModel.kind: trained.judged}, {SequenceModel.kind: trained.refitted}
            curve = trained.learning_curve
    return blend_models(
        interactions, holdout=holdout, judged=judged, refitted=refitted, settings=settings.recommender, curve=curve
    )


def refit_recommender(
    champion: Recommender,
    interactions: Interactions,
    *,
    settings: Settings,
    on_epoch: Callable[[dict[str, Any]], None] = lambda row: None,
) -> Recommender:
    """Bring a recommender up to date overnight: the same parameters and weights, everything fitted to more history.

    The sequence model goes on from its weights for one epoch at a low rate, with rows for new items; nothing is
    validated again. Call within :func:`cluster.runtime.connect`.

    Parameters
    ----------
    interactions
        All history now; items that are no longer in it are forgotten.
    """
    from recsys.distributed import refit_sequence_model  # here, so that unit tests of the rest start no Ray

    curve: list[dict[str, Any]] = []
    models: Models = {}
    for name, model in champion.models.items():
        if isinstance(model, SequenceModel):
            old_row_I = champion.histories.item_rows(interactions.item_ids_I)
            grown = model.grown(interactions, old_row_I=old_row_I)
            if grown.privacy is not None:
                models[name] = grown
                continue
            models[name], curve = refit_sequence_model(interactions, start=grown, settings=settings, on_epoch=on_epoch)
        else:
            models[name] = model.fit(interactions)
    return Recommender(
        histories=interactions,
        blend=champion.blend.with_models(models),
        learning_curve=curve,
        validation=champion.validation,
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
    allowed = is_seen_allowed(holdout)
    sample = holdout.sample(settings.validation_users)
    models = judged | fit_members(sample, settings=settings, seen_allowed=allowed)
    weights = {name: _UNJUDGED_WEIGHTS.get(name, 0.0) for name in models}
    blend = Blend(models=models, weights=weights, seen_allowed=allowed)
    rows: list[dict[str, Any]] = []
    if len(holdout):
        blend = fit_blend(models, sample, seen_allowed=allowed)
        rows = evaluate(Recommender(histories=holdout.history, blend=blend), sample, protocol=settings.validation, k=K)
    final = {name: refitted.get(name) or model.fit(interactions) for name, model in models.items()}
    return Recommender(
        histories=interactions,
        blend=blend.with_models(final),
        learning_curve=curve,
        validation=rows,
    )


def hold_out_validation(interactions: Interactions, *, settings: RecommenderSettings) -> Holdout:
    """What chooses weights: what was taken in the last days; each user's last basket if those days hold nothing."""
    if settings.validation != "last-basket":
        days = settings.validation_days
        cut = int(interactions.now_U.max()) - days * DAY_SECONDS
        if settings.validation == "next-days":
            holdout = hold_out_days(interactions, cut=cut, days=days)
        else:
            holdout = hold_out_next_basket(interactions, cut=cut)
        if len(holdout):
            return holdout
    return hold_out_last_basket(interactions)
