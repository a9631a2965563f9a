"""Fit a team: the members on all of one history, their weights on its last periods.

Pure but for the processor clock: no Ray, no files.
"""

import time
from collections.abc import Mapping
from importlib.util import find_spec

import numpy as np

from cluster.config import Settings
from cluster.panel import DemandPanel
from forecasting.blend import Blend, equal_blend, fit_blend, sells_whole_units
from forecasting.drift import promises_of
from forecasting.forecast import Forecast
from forecasting.predict import Forecaster
from forecasting.preparation import fit_and_hold_out, validation_periods
from forecasting.segments import segment_of_S
from forecasting.team import BLEND, CROSTON, NETWORK, TREES, WEEKDAY, Team, roll_rule
from forecasting.trees import TreeForecaster, fit_trees
from forecasting.vocabulary import Vocabulary

_HELD_OUT_SHARE = 0.25
"""Rows of the trees that are only fitted to weigh them, over those of the trees that forecast."""
_FITTED_LEVELS = 6
"""Levels that trees of a team are fitted at; read between them they lose little, and cost half as much."""


def has_trees() -> bool:
    """Whether LightGBM is installed."""
    return find_spec("lightgbm") is not None


def fit_team(
    panel: DemandPanel, *, settings: Settings, network: tuple[Forecaster, Forecaster | None] | None = None
) -> Team:
    """Fit to a panel, all of it: cut it with ``until`` first. Without LightGBM the team has no trees.

    The weights come from the last horizon, which the members that are weighed have not seen; then network and trees
    learn from it too. A history too short to hold any period back gives equal weights.

    Parameters
    ----------
    network
        A network fitted to this panel already, and as it was before it saw the last horizon: what
        ``fit_and_hold_out`` returns. Fitted here, in this process, if not given.
    """
    began_s = time.process_time()
    fitted, held_out = network or fit_and_hold_out(panel, settings=settings)
    network_s = time.process_time() - began_s
    began_s = time.process_time()
    trees = _fit_trees(panel, vocabulary=fitted.vocabulary, settings=settings, share=1.0) if has_trees() else None
    trees_s = time.process_time() - began_s
    members = (NETWORK, *((TREES,) if trees else ()), WEEKDAY, CROSTON)
    blend, promised = (
        (equal_blend(members, in_whole_units=sells_whole_units(panel)), None)
        if held_out is None
        else _weigh(panel, held_out, members=members, settings=settings)
    )
    everything_s = network_s + time.process_time() - began_s
    seconds = {NETWORK: network_s, TREES: trees_s, BLEND: everything_s}
    return Team(network=fitted, trees=trees, blend=blend, fit_seconds=seconds, promised=promised)


def tree_levels(levels: tuple[float, ...]) -> tuple[float, ...]:
    """The levels that trees of a team are fitted at, the outermost among them.

    >>> tree_levels((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99))
    (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)
    """
    count = min(_FITTED_LEVELS, len(levels))
    return tuple(levels[place] for place in np.linspace(0, len(levels) - 1, count).round().astype(int))


def _fit_trees(panel: DemandPanel, *, vocabulary: Vocabulary, settings: Settings, share: float) -> TreeForecaster:
    levels = settings.forecast.levels
    return fit_trees(
        panel,
        vocabulary=vocabulary,
        horizon=settings.horizon,
        levels=levels,
        fitted_levels=tree_levels(levels),
        seed=settings.seed,
        num_rows=int(share * settings.forecast.tree_rows),
    )


def _weigh(
    panel: DemandPanel, held_out: Forecaster, *, members: tuple[str, ...], settings: Settings
) -> tuple[Blend, dict[str, float | None]]:
    """Weights and calibration from the periods that no weighed member has seen, and how good the blend is there."""
    end, tail = panel.num_periods, validation_periods(panel, settings=settings)
    cut, horizon = end - tail, settings.horizon
    origins = sorted({cut, cut + tail // 4, cut + tail // 2})

    def forecasts_of(name: str) -> list[Forecast]:
        if name == NETWORK:
            return held_out.predict_rolling(panel, origins=origins, horizon=horizon)
        if name == TREES:
            known = panel.until(cut)
            trees = _fit_trees(known, vocabulary=held_out.vocabulary, settings=settings, share=_HELD_OUT_SHARE)
            return trees.predict_rolling(panel, origins=origins, horizon=horizon)
        return roll_rule(name, panel, origins=origins, horizon=horizon, levels=settings.forecast.levels)

    made: Mapping[str, list[Forecast]] = {name: forecasts_of(name) for name in members}
    blend = fit_blend(panel, forecasts=made, origins=origins, end=end)
    blended = [
        blend.combine({name: parts[k] for name, parts in made.items()}, segment_S=segment_of_S(panel.until(origin)))
        for k, origin in enumerate(origins)
    ]
    return blend, promises_of(panel, forecasts=blended, origins=origins)
