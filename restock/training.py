"""Train each room's model from a dataset, judge it on the held-out periods, and publish it."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa

from cluster.artifacts import ArtifactStore, StoredVersion, open_store, publish_model
from cluster.config import Settings
from cluster.dataset import Dataset
from cluster.errors import DataError
from cluster.manifest import code_digest, slug_of
from cluster.panel import DemandPanel
from cluster.progress import stage
from cluster.schema import Col
from cluster.split import Split, make_split
from cluster.storage import open_storage
from forecasting.learning_curve import EpochRow
from forecasting.team import ServedForecaster, load_forecaster, training_facts
from forecasting.train import fit_served
from recsys.cli import save_all
from recsys.evaluate import evaluate
from recsys.holdout import hold_out_tables
from recsys.insight import fit_insight
from recsys.interactions import make_interactions
from recsys.predict import Recommender
from recsys.train import fit_recommender
from rl.assumptions import make_supply_terms
from rl.policies.classical import ClassicalPolicy
from rl.policies.exported import ExportedPolicy
from rl.policies.store import save_policy
from rl.scenarios import OPENING_STOCK
from rl.study import PolicyStudy, make_windows, study_policies
from rl.trial_table import show_trials

FORECASTER = "forecaster"
RECOMMENDER = "recommender"
DEFAULT_POLICY = "policy/default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workbench:
    """What every training starts from: the dataset, its panel up to the last day that is read, and where it is cut."""

    settings: Settings
    dataset: Dataset
    panel: DemandPanel
    split: Split

    @property
    def store(self) -> ArtifactStore:
        """Where models are published."""
        return open_store(self.settings)

    def date_on(self, period: int) -> date:
        """First day of a period."""
        return self.panel.calendar.date_on(period)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecasters:
    """``past`` has seen nothing from the policies' window on, ``current`` nothing from the test on."""

    past: ServedForecaster
    current: ServedForecaster


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOutcome:
    """The study, and what had to be assumed for it."""

    study: PolicyStudy
    assumed: tuple[str, ...]


def open_workbench(dataset: Dataset, *, settings: Settings, until: date | None = None) -> Workbench:
    """Cut the dataset's panel at ``until`` and split it.

    Raises
    ------
    DataError
        If nothing is sold, history is too short, or ``until`` lies outside it.
    """
    end = dataset.period_until(until)
    split = make_split(end, settings=settings.split, calendar=dataset.calendar)
    panel = dataset.panel(until=end, selection_end=split.test)
    return Workbench(settings=settings, dataset=dataset, panel=panel, split=split)


def train_forecasters(bench: Workbench) -> Forecasters:
    """Fit on the past, then refit, warm, up to the test. Both are published; the second becomes champion."""
    past = _fit_until(bench, bench.split.policy, label="forecaster", warm_start=None)
    current = _fit_until(bench, bench.split.test, label="forecaster, refit", warm_start=past)
    bench.store.promote(FORECASTER, bench.store.versions(FORECASTER)[-1], reason="refitted up to the held-out periods")
    return Forecasters(past=past, current=current)


def _fit_until(bench: Workbench, period: int, *, label: str, warm_start: ServedForecaster | None) -> ServedForecaster:
    forecast = bench.settings.forecast
    epochs = forecast.epochs if warm_start is None else forecast.refit_epochs
    with stage(f"Train the {label}", total=epochs) as running:
        fitted = fit_served(
            bench.panel.until(period),
            settings=bench.settings,
            warm_start=warm_start,
            items=bench.dataset.table("items"),
            on_epoch=lambda row: running.advance(note=_wql_note(row)),
        )
    _publish(
        bench,
        FORECASTER,
        kind=bench.settings.forecast.serve,
        until_on=bench.date_on(period),
        metrics=training_facts(fitted),
        write=fitted.save,
    )
    return fitted


def _wql_note(row: EpochRow) -> str | None:
    return None if row.validation_wql is None else f"validation WQL {row.validation_wql:.3f}"


def find_forecasters(bench: Workbench) -> Forecasters:
    """Published forecasters of this data, split, settings and code, trained now where there are none."""
    past, current = (_find_forecaster(bench, period) for period in (bench.split.policy, bench.split.test))
    if past is None or current is None:
        return train_forecasters(bench)
    return Forecasters(past=past, current=current)


def _find_forecaster(bench: Workbench, period: int) -> ServedForecaster | None:
    config = bench.settings.forecast.model_dump(mode="json")
    for version in bench.store.versions(FORECASTER)[::-1]:
        stored = bench.store.load(FORECASTER, version)
        manifest = stored.manifest
        made_of = (manifest.trained_until_on, manifest.data_digest, manifest.code_digest, manifest.seed)
        wanted = (bench.date_on(period), bench.dataset.digest, code_digest(), bench.settings.seed)
        if made_of == wanted and manifest.config["forecast"] == config:
            return load_forecaster(stored.folder)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRecommender:
    """A fitted recommender, and one row per model on each user's first basket in the test."""

    model: Recommender
    rows: tuple[dict[str, Any], ...]


def train_recommender(bench: Workbench) -> JudgedRecommender | None:
    """Fit on everything before the test, judge on each user's first basket in it, publish and promote.

    None for a shop whose orders and events name no user: there is nobody to recommend to.
    """
    if not _names_users(bench):
        return None
    orders, events = _required(bench, "orders"), bench.dataset.table("events")
    cut_on, end_on = bench.date_on(bench.split.test), bench.date_on(bench.split.end)
    settings = bench.settings.recommender
    interactions = make_interactions(orders, events, until=cut_on, settings=settings)
    with stage("Train the recommender", total=settings.epochs + 1) as running:
        fitted = fit_recommender(interactions, settings=bench.settings, on_epoch=lambda row: running.advance())
    with stage("Learn interests, intervals and neighbours"):
        items = bench.dataset.table("items")
        insight = fit_insight(interactions, orders=orders, events=events, items=items, seed=bench.settings.seed)
    holdout = hold_out_tables(fitted.histories, orders, events, since=cut_on, until=end_on)
    rows = evaluate(fitted, holdout, protocol=f"first basket from {cut_on} on")
    stored = _publish(
        bench,
        RECOMMENDER,
        kind="blend",
        until_on=cut_on,
        metrics={"test": rows, "validation": fitted.validation, "learning_curve": fitted.learning_curve},
        write=lambda folder: save_all(fitted, insight, folder),
    )
    bench.store.promote(RECOMMENDER, stored.version, reason="fitted up to the held-out periods")
    return JudgedRecommender(model=fitted, rows=tuple(rows))


def _names_users(bench: Workbench) -> bool:
    tables = (bench.dataset.table(name) for name in ("orders", "events"))
    return any(table is not None and table[Col.USER_ID].null_count < table.num_rows for table in tables)


def train_policies(bench: Workbench, forecasters: Forecasters, *, resume: bool) -> PolicyOutcome:
    """Tune, train, replay and gate; publish and promote what serves in each category.

    Parameters
    ----------
    resume
        Keep trials that an earlier run with the same inputs has finished or begun; else begin all anew.
    """
    split, panel, settings = bench.split, bench.panel, bench.settings
    storage = open_storage(settings).below("runs/policies")
    if not resume:
        shutil.rmtree(storage.folder, ignore_errors=True)
        for key in storage.published():
            storage.remove(key)
    terms, assumed = make_supply_terms(
        bench.dataset.table("supply_terms"), panel=panel.until(split.policy), settings=settings
    )
    with stage("Forecast every period that policies are trained and judged on"):
        windows = make_windows(
            panel, split=split, past=forecasters.past, current=forecasters.current, terms=terms, settings=settings
        )
    with show_trials("Tune, train and replay the policies") as follow:
        study = study_policies(
            windows,
            category_ids_S=panel.index.category_ids_S,
            settings=settings,
            storage=storage,
            on_progress=follow,
        )
    _publish_policies(bench, study)
    return PolicyOutcome(study=study, assumed=(*assumed, OPENING_STOCK))


def _publish_policies(bench: Workbench, study: PolicyStudy) -> None:
    # The gate has seen the test: what it let through may decide from the end of history on, not before.
    until_on = bench.date_on(bench.split.end)
    reason = "tuned on all categories together"
    _publish_policy(bench, DEFAULT_POLICY, study.default, until_on=until_on, metrics={}, reason=reason)
    for category, policy in study.policies.items():
        metrics = {
            "category_id": category,
            "decision": asdict(study.decisions[category]),
            "test": study.reports[category].to_dict(),
        }
        reason = study.decisions[category].reason
        name = f"policy/{slug_of(category)}"
        _publish_policy(bench, name, policy, until_on=until_on, metrics=metrics, reason=reason)


def _publish_policy(
    bench: Workbench,
    name: str,
    policy: ClassicalPolicy | ExportedPolicy,
    *,
    until_on: date,
    metrics: dict[str, Any],
    reason: str,
) -> None:
    stored = _publish(
        bench,
        name,
        kind=policy.name,
        until_on=until_on,
        metrics=metrics,
        write=lambda folder: save_policy(policy, folder),
    )
    bench.store.promote(name, stored.version, reason=reason)


def _publish(
    bench: Workbench,
    name: str,
    *,
    kind: str,
    until_on: date,
    metrics: dict[str, Any],
    write: Callable[[Path], None],
) -> StoredVersion:
    return publish_model(
        name,
        kind=kind,
        settings=bench.settings,
        trained_until_on=until_on,
        data_digest=bench.dataset.digest,
        metrics=metrics,
        write=write,
    )


def _required(bench: Workbench, name: str) -> pa.Table:
    table = bench.dataset.table(name)
    if table is None:
        raise DataError(
            f"the dataset has no table '{name}'; configure [data.tables.{name}] and run 'restock data load'"
        )
    return table
