"""Network, trees and the weekday rule together: fitted on one history, weighed on its last periods.

Pure: no Ray, no files.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.config import Settings
from cluster.panel import DemandPanel
from forecasting import baselines
from forecasting.blend import Blend, equal_blend, fit_blend
from forecasting.forecast import Forecast
from forecasting.predict import Forecaster
from forecasting.preparation import fit_and_hold_out, make_start
from forecasting.segments import segment_of_S
from forecasting.trees import fit_trees

NETWORK, TREES, WEEKDAY, CROSTON, BLEND = "network", "trees", "weekday-quantiles", "croston", "blend"

_HELD_OUT_SHARE = 0.5
"""Rows of the trees that are only fitted to weigh them, over those of the trees that forecast."""


class _Rolls(Protocol):
    def predict_rolling(self, panel: DemandPanel, *, origins: Sequence[int], horizon: int) -> list[Forecast]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Views:
    """A rule that forecasts one view at a time, rolled over origins."""

    rule: Callable[[DemandPanel, int], Forecast]

    def predict_rolling(self, panel: DemandPanel, *, origins: Sequence[int], horizon: int) -> list[Forecast]:
        return [self.rule(panel.until(origin), horizon) for origin in origins]


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """Fitted members and their blend.

    Parameters
    ----------
    fit_seconds
        CPU-seconds that fitting took, by member; of the blend, everything.
    """

    members: dict[str, _Rolls]
    blend: Blend
    fit_seconds: dict[str, float]

    def predict_rolling(
        self, panel: DemandPanel, *, origins: Sequence[int], horizon: int, member: str = BLEND
    ) -> list[Forecast]:
        """Forecasts of one member, or of the blend, from many origins."""
        if member != BLEND:
            return self.members[member].predict_rolling(panel, origins=origins, horizon=horizon)
        made = {
            name: self.members[name].predict_rolling(panel, origins=origins, horizon=horizon)
            for name in self.blend.members
        }
        return [
            self.blend.combine(
                {name: forecasts[k] for name, forecasts in made.items()}, segment_S=segment_of_S(panel.until(origin))
            )
            for k, origin in enumerate(origins)
        ]


def fit_team(
    panel: DemandPanel, *, settings: Settings, network: tuple[Forecaster, Forecaster | None] | None = None
) -> Team:
    """Fit to a panel, all of it: cut it with ``until`` first.

    The weights come from the last horizon, which the members that are weighed have not seen; then network and trees
    learn from it too. A history too short to hold any period back gives equal weights.

    Parameters
    ----------
    network
        A network fitted to this panel already, and as it was before it saw the last horizon: what
        ``fit_and_hold_out`` returns. Fitted here, in this process, if not given.
    """
    began_s = time.process_time()
    fitted_network, held_out = network or fit_and_hold_out(panel, settings=settings)
    network_s = time.process_time() - began_s
    start = make_start(panel, settings=settings)
    horizon, end = settings.horizon, panel.num_periods
    cut = end - start.plan.tail
    levels = settings.forecast.levels

    def trees(view: DemandPanel, *, share: float = 1.0) -> _Rolls:
        num_rows = int(share * settings.forecast.tree_rows)
        return fit_trees(
            view, vocabulary=start.vocabulary, horizon=horizon, levels=levels, seed=settings.seed, num_rows=num_rows
        )

    rules: dict[str, _Rolls] = {
        WEEKDAY: _Views(
            rule=lambda view, h: baselines.weekday_quantiles(view, horizon=h, seed=settings.seed, levels=levels)
        ),
        CROSTON: _Views(rule=lambda view, h: baselines.croston(view, horizon=h, levels=levels)),
    }
    began_s = time.process_time()
    fitted: dict[str, _Rolls] = {NETWORK: fitted_network, TREES: trees(panel), **rules}
    trees_s = time.process_time() - began_s
    if held_out is None:
        blend = equal_blend(list(fitted))
    else:
        held: dict[str, _Rolls] = {
            NETWORK: held_out,
            TREES: trees(panel.until(cut), share=_HELD_OUT_SHARE),
            **rules,
        }
        origins = sorted({cut, cut + start.plan.tail // 4, cut + start.plan.tail // 2})
        made = {name: model.predict_rolling(panel, origins=origins, horizon=horizon) for name, model in held.items()}
        blend = fit_blend(panel, forecasts=made, origins=origins, end=end)
    everything_s = network_s + time.process_time() - began_s
    return Team(members=fitted, blend=blend, fit_seconds={NETWORK: network_s, TREES: trees_s, BLEND: everything_s})
