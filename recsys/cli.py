"""``restock train recommender``; the root mounts this function as a command."""

import json
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cluster.artifacts import StoredVersion, open_store, publish_model
from cluster.config import Settings, load_settings
from cluster.dataset import Dataset, open_dataset
from cluster.errors import DataError
from cluster.options import ConfigOption, JsonOption, SetOption, UntilOption, day_of
from cluster.progress import stage
from cluster.runtime import connect

if TYPE_CHECKING:
    from recsys.insight import Insight
    from recsys.predict import Recommender

NAME = "recommender"
KIND = "blend"


def train_recommender(
    config: ConfigOption = None,
    overrides: SetOption = None,
    until: UntilOption = None,
    warm: Annotated[
        bool, typer.Option("--warm", help="Go on from the champion: its weights and parameters, one epoch.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train the recommender on all history before a day, publish it and make it champion."""
    settings = load_settings(config, overrides=overrides or ())
    dataset = open_dataset(settings)
    until_on = dataset.calendar.date_on(dataset.period_until(day_of(until, option="--until")))
    fitted, insight = _fit(dataset, settings=settings, until_on=until_on, warm=warm)
    stored = _publish(fitted, insight, settings=settings, dataset=dataset, until_on=until_on)
    if as_json:
        facts = {
            "learning_curve": fitted.learning_curve,
            "validation": fitted.validation,
            "privacy": None if fitted.privacy is None else asdict(fitted.privacy),
        }
        print(json.dumps({"version": stored.version, "trained_until_on": str(until_on), **facts}))
        return
    title = f"{NAME} {stored.version}, trained until {until_on}: Recall@10 and NDCG@10 on validation"
    _show(fitted.validation, title=title)
    if fitted.privacy is not None:
        spent = fitted.privacy
        Console().print(f"sequence model: users keep epsilon {spent.epsilon:.2f} at delta {spent.delta:.1e}")


def _fit(dataset: Dataset, *, settings: Settings, until_on: date, warm: bool) -> "tuple[Recommender, Insight]":
    from recsys.insight import fit_insight
    from recsys.interactions import make_interactions  # here: polars and torch take seconds to import
    from recsys.predict import Recommender
    from recsys.train import fit_recommender, refit_recommender

    orders = dataset.table("orders")
    if orders is None:
        raise DataError("the dataset has no orders; configure [data.tables.orders] and run 'restock data load'")
    events = dataset.table("events")
    interactions = make_interactions(orders, events, until=until_on, settings=settings.recommender)
    champion = Recommender.load(open_store(settings).load(NAME).folder) if warm else None
    epochs = 1 if warm else settings.recommender.epochs + 1
    with connect(settings.runtime), stage("Train the recommender", total=epochs) as running:

        def on_epoch(row: dict[str, Any]) -> None:
            running.advance(note=None if row["ndcg"] is None else f"NDCG@10 {row['ndcg']:.3f}")

        if champion is None:
            fitted = fit_recommender(interactions, settings=settings, on_epoch=on_epoch)
        else:
            fitted = refit_recommender(champion, interactions, settings=settings, on_epoch=on_epoch)
    with stage("Learn interests, intervals and neighbours"):
        insight = fit_insight(
            interactions, orders=orders, events=events, items=dataset.table("items"), seed=settings.seed
        )
    return fitted, insight


def _publish(
    fitted: "Recommender", insight: "Insight", *, settings: Settings, dataset: Dataset, until_on: date
) -> StoredVersion:
    stored = publish_model(
        NAME,
        kind=KIND,
        settings=settings,
        trained_until_on=until_on,
        data_digest=dataset.digest,
        metrics={"validation": fitted.validation, "learning_curve": fitted.learning_curve},
        write=lambda folder: save_all(fitted, insight, folder),
    )
    open_store(settings).promote(NAME, stored.version, reason="restock train recommender")
    return stored


def save_all(fitted: "Recommender", insight: "Insight", folder: Path) -> None:
    """Write a recommender and what was learned beside it into an empty folder."""
    fitted.save(folder)
    insight.save(folder)


def _show(rows: list[dict[str, Any]], *, title: str) -> None:
    if not rows:
        Console().print("nothing could be held out to choose weights on; default weights serve", highlight=False)
        return
    table = Table("model", title=title)
    for heading in ("recall", "NDCG", "weight"):
        table.add_column(heading, justify="right")
    for row in rows:
        weight = "" if row["weight"] is None else f"{row['weight']:g}"
        table.add_row(row["model"], f"{row['recall_at_10']:.4f}", f"{row['ndcg_at_10']:.4f}", weight)
    Console().print(table)
