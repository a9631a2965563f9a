"""What is served: a network, trees and two simple rules, weighed into one forecast. Imports torch, never Ray.

Shapes: S series, T history periods, H horizon, Q quantile levels.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from cluster.errors import ArtifactError
from cluster.panel import DemandPanel
from forecasting import baselines
from forecasting.blend import Blend
from forecasting.features import SeriesFeatures
from forecasting.forecast import Forecast
from forecasting.learning_curve import EpochRow
from forecasting.predict import Forecaster, RollingQuestion, roll_in_groups
from forecasting.segments import segment_of_S
from forecasting.trees import TreeForecaster

NETWORK: Final = "network"
TREES: Final = "trees"
WEEKDAY: Final = "weekday-quantiles"
CROSTON: Final = "croston"
BLEND: Final = "blend"

_FILE = "blend.json"
_FORMAT = 1
_SEED = 0
"""Of the weeks that the weekday rule draws: its forecast is then a function of history alone."""


class Team:
    """Members fitted on one history and their blend: quantile forecasts of any series, as :class:`Forecaster`.

    Parameters
    ----------
    trees
        None where LightGBM was not installed at training.
    fit_seconds
        CPU-seconds that fitting took, by member; of the blend, everything. Empty once loaded.
    promised
        How good the blend was on the periods that its weights come from; empty once loaded (the manifest keeps it).
    """

    def __init__(
        self,
        *,
        network: Forecaster,
        trees: TreeForecaster | None,
        blend: Blend,
        fit_seconds: dict[str, float] | None = None,
        promised: dict[str, float | None] | None = None,
    ) -> None:
        self.network, self.trees, self.blend = network, trees, blend
        self.fit_seconds, self.promised = fit_seconds or {}, promised or {}

    @property
    def levels(self) -> tuple[float, ...]:
        """Quantile levels of every forecast."""
        return self.network.levels

    @property
    def horizon(self) -> int:
        """The longest horizon, in periods."""
        return self.network.horizon

    @property
    def history(self) -> tuple[EpochRow, ...]:
        """The network's learning curve."""
        return self.network.history

    def predict(self, view: DemandPanel, *, horizon: int | None = None) -> Forecast:
        """Forecast the periods after a view, as :meth:`forecasting.predict.Forecaster.predict`."""
        return self.predict_rolling(view, origins=[view.num_periods], horizon=horizon or self.horizon)[0]

    def predict_rolling(
        self, panel: DemandPanel, *, origins: Sequence[int], horizon: int, member: str = BLEND
    ) -> list[Forecast]:
        """Forecasts of the blend, or of one member, from many origins; see :class:`Forecaster`."""

        def forecast_group(view: DemandPanel, features: SeriesFeatures, at: RollingQuestion) -> list[Forecast]:
            if member != BLEND:
                return self.forecast_member(member, view, features, at)
            made = {name: self.forecast_member(name, view, features, at) for name in self.blend.members}
            return [
                self.blend.combine(
                    {name: forecasts[k] for name, forecasts in made.items()},
                    segment_S=segment_of_S(view.until(int(origin))),
                )
                for k, origin in enumerate(at.origins)
            ]

        return roll_in_groups(self.network, panel, origins=origins, horizon=horizon, forecast_group=forecast_group)

    def forecast_member(
        self, name: str, view: DemandPanel, features: SeriesFeatures, at: RollingQuestion
    ) -> list[Forecast]:
        """Forecasts of one member, one per origin, from some series and what the network reads of them."""
        if name == NETWORK:
            return self.network.forecast_group(view, features, at)
        if name == TREES:
            assert self.trees is not None
            return self.trees.predict_features(features, origins=at.origins.tolist(), horizon=at.horizon)
        return roll_rule(name, view, origins=at.origins.tolist(), horizon=at.horizon, levels=self.levels)

    def save(self, folder: Path) -> None:
        """Write the network's files, the trees' (text) and the blend (JSON) into an existing folder."""
        self.network.save(folder)
        document = {
            "format": _FORMAT,
            "blend": self.blend.document(),
            "fitted_levels": None if self.trees is None else list(self.trees.fitted_levels),
        }
        if self.trees is not None:
            self.trees.save(folder)
        (folder / _FILE).write_text(json.dumps(document, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Team":
        """Read a team that :meth:`save` wrote; nothing is unpickled.

        Raises
        ------
        ArtifactError
            If a file is missing, damaged or of another format.
        """
        network = Forecaster.load(folder)
        try:
            document = json.loads((folder / _FILE).read_text())
            if document["format"] != _FORMAT:
                raise ValueError(f"format {document['format']}, this version reads {_FORMAT}")
            blend, fitted_levels = Blend.restore(document["blend"]), document["fitted_levels"]
            if fitted_levels is None:
                return cls(network=network, trees=None, blend=blend)
            trees = TreeForecaster.load(
                folder, vocabulary=network.vocabulary, levels=network.levels, fitted_levels=fitted_levels
            )
            return cls(network=network, trees=trees, blend=blend)
        except (OSError, RuntimeError, LookupError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"the blend in {folder} cannot be read ({type(error).__name__}: {str(error)[:200]}); "
                "name another version, or train it again with 'restock train forecaster'"
            ) from error


ServedForecaster = Forecaster | Team
"""What ``restock train forecaster`` publishes: both predict, save and load alike."""


def load_forecaster(folder: Path) -> ServedForecaster:
    """Read what is stored in a folder: a blend, or a network alone.

    Raises
    ------
    ArtifactError
        As :meth:`Team.load`.
    """
    return Team.load(folder) if (folder / _FILE).exists() else Forecaster.load(folder)


def network_of(forecaster: ServedForecaster) -> Forecaster:
    """The network, alone or in its team: what a refit starts from."""
    return forecaster.network if isinstance(forecaster, Team) else forecaster


def training_facts(forecaster: ServedForecaster) -> dict[str, Any]:
    """What a manifest says of a fitted forecaster: members, weights, what to expect of it, and its learning curve."""
    blend = forecaster.blend if isinstance(forecaster, Team) else None
    return {
        "members": [NETWORK] if blend is None else list(blend.members),
        "weights": [] if blend is None else blend.table(),
        "promised": forecaster.promised if isinstance(forecaster, Team) else {},
        "learning_curve": [asdict(row) for row in forecaster.history],
    }


def roll_rule(
    name: str, panel: DemandPanel, *, origins: Sequence[int], horizon: int, levels: Sequence[float]
) -> list[Forecast]:
    """Forecasts of a simple rule, one per origin."""
    views = [panel.until(origin) for origin in origins]
    if name == WEEKDAY:
        return [baselines.weekday_quantiles(view, horizon=horizon, seed=_SEED, levels=levels) for view in views]
    return [baselines.croston(view, horizon=horizon, levels=levels) for view in views]
