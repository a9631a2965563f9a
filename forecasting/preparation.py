"""What a training run starts from: vocabulary, network and plan, and what it ends as.

Pure: no Ray, no files. Shapes: S series, T history periods.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from cluster.config import Settings
from cluster.errors import DataError
from cluster.panel import DemandPanel
from forecasting.features import check_finite
from forecasting.fitting import ORIGINS_PER_CROP, FitPlan, Fitting
from forecasting.launch_curves import launch_level_S
from forecasting.learning_curve import EpochRow
from forecasting.model import DemandNetwork, NetworkShape, restore_network
from forecasting.named_alike import find_named_alike
from forecasting.new_items import fit_similar_items, reference_rows, usual_dispersion
from forecasting.predict import Forecaster
from forecasting.rows import SharedInputs, features_of_table, series_table
from forecasting.vocabulary import Vocabulary, make_traits

MAX_VALIDATION_SERIES = 2_000
_SHORTEST_HISTORY = 4
_DAYS_FOR_YEARLY = 730
_REFIT_RATE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Everything that a run needs besides the series themselves.

    Parameters
    ----------
    vocabulary
        Of the fitted forecaster: its prior levels are read from all of the history.
    judged_vocabulary
        The same with prior levels from before the validation periods: what the run reads, and what is judged.
    """

    vocabulary: Vocabulary
    judged_vocabulary: Vocabulary
    shape: NetworkShape
    weights: dict[str, torch.Tensor]
    plan: FitPlan
    shared: SharedInputs


def make_start(
    panel: DemandPanel, *, settings: Settings, warm_start: Forecaster | None = None, items: pa.Table | None = None
) -> Start:
    """Vocabulary, first weights and plan for a panel.

    With ``warm_start`` the weights are those of an earlier forecaster, its embeddings moved to the rows of this panel's
    series and categories; the run is ``forecast.refit_epochs`` long, at half the learning rate.

    Raises
    ------
    DataError
        If the panel holds no series, NaN, or fewer than 4 periods; or ``warm_start`` has other periods or promotions.
    """
    check_finite(panel)
    if panel.num_series == 0 or panel.num_periods < _SHORTEST_HISTORY:
        raise DataError(
            f"the forecaster needs at least one series and {_SHORTEST_HISTORY} periods of history, got "
            f"{panel.num_series} series of {panel.num_periods} periods; load more history"
        )
    vocabulary = make_vocabulary(panel, items=items)
    known = panel.until(panel.num_periods - validation_periods(panel, settings=settings))
    shape = NetworkShape(
        num_promotions=len(panel.promotion_names),
        num_series=panel.num_series,
        num_categories=len(vocabulary.category_ids),
        hidden=settings.forecast.hidden,
        context=settings.context,
        horizon=settings.horizon,
        levels=settings.forecast.levels,
        encoder=settings.forecast.encoder,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = DemandNetwork(shape)
    if warm_start is not None:
        _take_over(network, vocabulary=vocabulary, earlier=warm_start)
    return Start(
        vocabulary=vocabulary,
        judged_vocabulary=make_vocabulary(panel, items=items, known=known),
        shape=shape,
        weights=network.state_dict(),
        plan=_make_plan(panel, settings=settings, refit=warm_start is not None),
        shared=SharedInputs(
            calendar=panel.calendar,
            holiday_X=panel.holiday_X,
            promotion_names=panel.promotion_names,
            notice_periods=panel.notice_periods,
            yearly=vocabulary.yearly,
        ),
    )


def make_vocabulary(
    panel: DemandPanel, *, items: pa.Table | None = None, known: DemandPanel | None = None
) -> Vocabulary:
    """Names of a panel, and the level that series similar to each one sold at, itself left out.

    With a table of ``items``, similar is also what is described alike. Levels are read from ``known``, an earlier view
    of the panel, where one is given.
    """
    known = panel if known is None else known
    traits = make_traits(panel.index, price_S=panel.price_ST[:, 0])
    references = reference_rows(panel.index, usable_S=known.first_sale_S < known.num_periods)
    named_alike = find_named_alike(items, panel.index, references=references)
    similar = fit_similar_items(
        traits.take(references),
        level_S=launch_level_S(known)[references],
        dispersion=usual_dispersion(known),
        neighbours=named_alike,
    )
    prior_level_S = similar.prior(traits, neighbours=named_alike).level_S
    prior_level_S[references] = similar.left_out_level_R
    return Vocabulary(
        item_ids=tuple(panel.index.item_ids_S.tolist()),
        location_ids=tuple(panel.index.location_ids_S.tolist()),
        prior_levels=tuple(prior_level_S.tolist()),
        category_ids=tuple(np.unique(panel.index.category_ids_S).tolist()),
        similar=similar,
        promotion_names=panel.promotion_names,
        period_days=panel.calendar.period_days,
        yearly=panel.num_periods * panel.calendar.period_days >= _DAYS_FOR_YEARLY,
    )


def validation_periods(panel: DemandPanel, *, settings: Settings) -> int:
    """Periods at the end of history that judge: the last horizon, at most a sixth; 0 if that leaves too few."""
    tail = min(settings.horizon, panel.num_periods // 6)
    return tail if tail >= _SHORTEST_HISTORY else 0


def _make_plan(panel: DemandPanel, *, settings: Settings, refit: bool) -> FitPlan:
    forecast, workers = settings.forecast, min(settings.forecast.num_workers, panel.num_series)
    tail = validation_periods(panel, settings=settings)
    own_series, crops_per_step = panel.num_series // workers, max(1, forecast.batch_size // ORIGINS_PER_CROP)
    crops_per_series = max(
        -(-forecast.windows_per_series // ORIGINS_PER_CROP), -(-forecast.least_steps * crops_per_step // own_series)
    )
    return FitPlan(
        end=panel.num_periods,
        tail=tail,
        epochs=forecast.refit_epochs if refit else forecast.epochs,
        patience=forecast.patience,
        crops_per_series=crops_per_series,
        crops_per_step=crops_per_step,
        steps_per_epoch=-(-own_series * crops_per_series // crops_per_step),
        learning_rate=forecast.learning_rate * (_REFIT_RATE if refit else 1.0),
        precision=forecast.precision,
        seed=settings.seed,
    )


def _take_over(network: DemandNetwork, *, vocabulary: Vocabulary, earlier: Forecaster) -> None:
    """Copy the weights of an earlier forecaster; a series or category it does not know starts as its unknown one."""
    old, new = earlier.network.shape, network.shape
    same = ("encoder", "num_promotions", "hidden", "context", "horizon", "levels")
    differing = [name for name in same if getattr(old, name) != getattr(new, name)]
    if differing or earlier.vocabulary.period_days != vocabulary.period_days:
        raise DataError(
            f"cannot refit an earlier forecaster: {', '.join(differing) or 'period_days'} differ from it; "
            "leave out --refit to train from scratch"
        )
    state = earlier.network.state_dict()
    pairs = zip(vocabulary.item_ids, vocabulary.location_ids, strict=True)
    known = zip(earlier.vocabulary.item_ids, earlier.vocabulary.location_ids, strict=True)
    state["series.weight"] = _moved(state["series.weight"], names=list(pairs), known=list(known))
    state["category.weight"] = _moved(
        state["category.weight"],
        names=list(vocabulary.category_ids),
        known=list(earlier.vocabulary.category_ids),
    )
    network.load_state_dict(state)


def _moved(table: torch.Tensor, *, names: list[Any], known: list[Any]) -> torch.Tensor:
    row_of = {name: row for row, name in enumerate(known, start=1)}
    return table[torch.tensor([0, *(row_of.get(name, 0) for name in names)])].clone()


def make_forecasters(
    start: Start, *, best: dict[str, torch.Tensor], judged: dict[str, torch.Tensor] | None, history: list[EpochRow]
) -> tuple[Forecaster, Forecaster | None]:
    """What a finished run has found, and the forecaster as it was before it learned from the validation periods."""
    rows = tuple(history)
    fitted = Forecaster(restore_network(start.shape, weights=best), vocabulary=start.vocabulary, history=rows)
    if judged is None:
        return fitted, None
    network = restore_network(start.shape, weights=judged)
    return fitted, Forecaster(network, vocabulary=start.judged_vocabulary, history=rows)


def fit_in_process(
    panel: DemandPanel,
    *,
    settings: Settings,
    warm_start: Forecaster | None = None,
    on_epoch: Callable[[EpochRow], None] = lambda row: None,
) -> Forecaster:
    """Fit without Ray, in this process: for a small panel, a notebook or a test. One worker, no checkpoints.

    On one worker the numbers are those of :func:`forecasting.train.fit_and_hold_out`.
    """
    return fit_and_hold_out(panel, settings=settings, warm_start=warm_start, on_epoch=on_epoch)[0]


def fit_and_hold_out(
    panel: DemandPanel,
    *,
    settings: Settings,
    warm_start: Forecaster | None = None,
    items: pa.Table | None = None,
    on_epoch: Callable[[EpochRow], None] = lambda row: None,
) -> tuple[Forecaster, Forecaster | None]:
    """As :func:`fit_in_process`; and the forecaster as it was before it learned from the validation periods."""
    start = make_start(panel, settings=settings, warm_start=warm_start, items=items)
    table = series_table(panel, known=start.judged_vocabulary.rows(panel.index), seed=settings.seed)
    network = restore_network(start.shape, weights=start.weights)
    features = features_of_table(table, shared=start.shared)
    sample = features_of_table(table.slice(0, MAX_VALIDATION_SERIES), shared=start.shared)
    fitting = Fitting(network, plan=start.plan, validation=[sample], device=torch.device("cpu"))
    while not fitting.is_done:
        on_epoch(fitting.run_epoch([features]))
    return make_forecasters(start, best=fitting.best, judged=fitting.judged, history=fitting.history)
