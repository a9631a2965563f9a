"""What is watched after the launch: does demand still behave, do forecasts and policies keep what they promised.

Everything is computed anew from history, so that a run may be repeated and one that was missed costs nothing. A part
that cannot be computed yet (too little history since training) says so and leaves its metrics out: an absent series is
honest where a zero is not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any, Final

import numpy as np

from cluster.artifacts import ArtifactStore, StoredVersion, open_store
from cluster.config import Settings
from cluster.dataset import Dataset
from cluster.errors import DataError, RestockError
from cluster.manifest import slug_of
from cluster.panel import DemandPanel
from forecasting.drift import input_drift, promises_kept
from forecasting.team import ServedForecaster, load_forecaster, network_of
from restock.monitor_metrics import (
    DATA_AGE,
    DEMAND_CHANGE,
    DEMAND_STABILITY,
    FALLBACK_SERIES,
    FORECAST_BIAS,
    FORECAST_COVERAGE,
    FORECAST_LOSS,
    MODEL_AGE,
    POLICY_COST_RATIO,
    POLICY_FILL_RATE,
)
from restock.training import DEFAULT_POLICY, FORECASTER, RECOMMENDER
from rl.assumptions import make_supply_terms
from rl.evaluate import perfect_foresight_cost_S, replay
from rl.policies.store import load_policy
from rl.scenarios import ReplayScenario, make_replay
from serve.watch.metrics import Metric

LEAST_PERIODS: Final = 14
"""Periods since training from which forecasts and policies are judged: fewer say more about the weather."""
_MOST_PERIODS: Final = 56
MOST_SERIES: Final = 2_000
"""Series that forecasts and policies are judged on, drawn once by the seed: a rolling forecast of all takes hours."""
_SCORES: Final = {"bias": FORECAST_BIAS, "coverage_80_pit": FORECAST_COVERAGE, "wql": FORECAST_LOSS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One value of a metric, under its labels."""

    metric: Metric
    value: float
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What was read, the parts that there are, and why some are missing: name of the part -> reason."""

    readings: tuple[Reading, ...]
    parts: tuple[str, ...]
    missing: dict[str, str]


class _Scene:
    """What every part reads, each piece at its first use."""

    def __init__(self, dataset: Dataset, *, settings: Settings, until: date | None, num_series: int) -> None:
        self.settings, self.dataset, self.num_series = settings, dataset, num_series
        self.end = dataset.period_until(until)
        self.store: ArtifactStore = open_store(settings)

    @cached_property
    def panel(self) -> DemandPanel:
        return self.dataset.panel(until=self.end)

    @cached_property
    def sample(self) -> DemandPanel:
        rows = np.random.default_rng(self.settings.seed).permutation(self.panel.num_series)
        return self.panel.take(np.sort(rows[: self.num_series]))

    @cached_property
    def stored_forecaster(self) -> StoredVersion:
        return self.store.load(FORECASTER)

    @cached_property
    def forecaster(self) -> ServedForecaster:
        return load_forecaster(self.stored_forecaster.folder)

    def since(self, stored: StoredVersion) -> int:
        """First period that a version had not seen, of the last eight weeks at most; refuses too short a stretch."""
        since = self.dataset.calendar.period_of(stored.manifest.trained_until_on)
        if self.end - since < LEAST_PERIODS:
            raise DataError(
                f"{stored.manifest.name} {stored.version} was trained until {stored.manifest.trained_until_on}, "
                f"{max(0, self.end - since)} periods before the end of history; {LEAST_PERIODS} are needed"
            )
        return max(since, self.end - _MOST_PERIODS)


def watch(dataset: Dataset, *, settings: Settings, until: date | None = None, num_series: int = MOST_SERIES) -> Watch:
    """Compute everything that is watched; a part that fails is named and the others go on.

    Parameters
    ----------
    until
        Day before which history ends; default: all of it.
    num_series
        Series that forecasts and policies are judged on; demand is looked at in all.
    """
    scene = _Scene(dataset, settings=settings, until=until, num_series=num_series)
    parts: dict[str, Callable[[_Scene], list[Reading]]] = {
        "age": _ages,
        "demand": _demand,
        "forecast": _forecast,
        "fallbacks": _fallbacks,
        "policies": _policies,
    }
    readings: list[Reading] = []
    missing: dict[str, str] = {}
    for name, part in parts.items():
        try:
            readings += part(scene)
        except RestockError as error:
            missing[name] = str(error)
    return Watch(readings=tuple(readings), parts=tuple(parts), missing=missing)


def _ages(scene: _Scene) -> list[Reading]:
    """Days since the last day of history and since each champion's training ended."""
    today = datetime.now(UTC).date()
    ended_on = scene.dataset.calendar.date_on(scene.end)
    readings = [Reading(metric=DATA_AGE, value=float((today - ended_on).days))]
    for name in (FORECASTER, RECOMMENDER, DEFAULT_POLICY):
        if "champion" in scene.store.aliases(name):
            trained_on = scene.store.load(name).manifest.trained_until_on
            readings.append(Reading(metric=MODEL_AGE, value=float((today - trained_on).days), labels=(name,)))
    return readings


def _demand(scene: _Scene) -> list[Reading]:
    since = scene.since(scene.stored_forecaster)
    readings = []
    for row in input_drift(scene.panel, since=since):
        for metric, name in ((DEMAND_STABILITY, "stability"), (DEMAND_CHANGE, "demand_change")):
            if row[name] is not None:
                readings.append(Reading(metric=metric, value=row[name], labels=(row["category_id"],)))
    return readings


def _forecast(scene: _Scene) -> list[Reading]:
    since, horizon = scene.since(scene.stored_forecaster), scene.forecaster.horizon
    # Only origins whose whole horizon is known: a clipped one would be judged on its easy days.
    last = max(since, scene.end - horizon)
    origins = list(range(since, last + 1, max(1, horizon // 4)))
    forecasts = scene.forecaster.predict_rolling(scene.sample, origins=origins, horizon=horizon)
    promised = scene.stored_forecaster.manifest.metrics.get("promised", {})
    rows = promises_kept(scene.sample, forecasts=forecasts, origins=origins, promised=promised)
    return [
        Reading(metric=_SCORES[row["score"]], value=row[kind], labels=(kind,))
        for row in rows
        if row["score"] in _SCORES
        for kind in ("kept", "promised")
        if row[kind] is not None
    ]


def _fallbacks(scene: _Scene) -> list[Reading]:
    """Share of series that the forecaster does not know, and share whose category has no policy of its own."""
    index = scene.panel.index
    vocabulary = network_of(scene.forecaster).vocabulary
    known = set(zip(vocabulary.item_ids, vocabulary.location_ids, strict=True))
    pairs = zip(index.item_ids_S.tolist(), index.location_ids_S.tolist(), strict=True)
    strangers = float(np.mean([pair not in known for pair in pairs]))
    own = set(_policy_names(scene.store))
    without = float(np.mean([f"policy/{slug_of(category)}" not in own for category in index.category_ids_S.tolist()]))
    return [
        Reading(metric=FALLBACK_SERIES, value=strangers, labels=("forecaster",)),
        Reading(metric=FALLBACK_SERIES, value=without, labels=("policy",)),
    ]


def _policies(scene: _Scene) -> list[Reading]:
    """Each category's policy on the periods since its gate, beside the replay that it was promoted for."""
    stored = [scene.store.load(name) for name in _policy_names(scene.store)]
    stored = [one for one in stored if "test" in one.manifest.metrics]
    if not stored:
        raise DataError("no policy with a replay is promoted; run 'restock train policies'")
    first = max(scene.since(one) for one in stored)
    scenario = _scenario(scene, first=first)
    readings = []
    for one in stored:
        rows = np.flatnonzero(scene.sample.index.category_ids_S == one.manifest.metrics["category_id"])
        if len(rows):
            readings += _policy_readings(one, scenario.take(rows))
    return readings


def _policy_readings(stored: StoredVersion, scenario: ReplayScenario) -> list[Reading]:
    category, report = stored.manifest.metrics["category_id"], stored.manifest.metrics["test"]
    result = replay(load_policy(stored.folder), scenario)
    score = _promoted_score(stored)
    ratios = {
        "promised": _ratio(score["cost"], report["bound_cost"]),
        "kept": _ratio(float(result.cost_S.sum()), float(perfect_foresight_cost_S(scenario).sum())),
    }
    fills = {"promised": score["fill_rate"], "kept": result.fill_rate}
    return [
        Reading(metric=metric, value=value, labels=(category, kind))
        for metric, values in ((POLICY_COST_RATIO, ratios), (POLICY_FILL_RATE, fills))
        for kind, value in values.items()
        if value is not None
    ]


def _promoted_score(stored: StoredVersion) -> dict[str, Any]:
    metrics = stored.manifest.metrics
    scores: Sequence[dict[str, Any]] = metrics["test"]["scores"]
    return next(score for score in scores if score["name"] == metrics["decision"]["policy_name"])


def _ratio(cost: float, bound: float) -> float | None:
    return cost / bound if bound > 0 else None


def _scenario(scene: _Scene, *, first: int) -> ReplayScenario:
    panel, settings = scene.sample, scene.settings
    terms, _ = make_supply_terms(scene.dataset.table("supply_terms"), panel=panel.until(first), settings=settings)
    forecasts = scene.forecaster.predict_rolling(
        panel, origins=range(first, scene.end), horizon=scene.forecaster.horizon
    )
    return make_replay(
        panel,
        first=first,
        num_periods=scene.end - first,
        forecasts=forecasts,
        terms=terms,
        seed=settings.seed,
        jitter_periods=settings.assumptions.lead_time_jitter_days // panel.calendar.period_days,
    )


def _policy_names(store: ArtifactStore) -> list[str]:
    names = (name for name in store.names("policy/") if name != DEFAULT_POLICY)
    return [name for name in names if "champion" in store.aliases(name)]
