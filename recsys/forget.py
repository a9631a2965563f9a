"""Delete one user from everything that is stored: datasets, features and recommenders.

Orders stay as a guest's, since what was sold was sold; behaviour events, features and the user's history go. Models
that count are fitted again without the user. What a sequence network learned stays until it is trained next: its
weights hold no id, but the user was among those that it learned from.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from cluster.artifacts import ArtifactStore, open_store
from cluster.config import Settings
from cluster.dataset import Dataset, open_dataset
from cluster.errors import DataError
from cluster.layout import write_table
from cluster.privacy import mark_forgotten, open_user_ids
from cluster.schema import Col
from cluster.storage import Storage, open_storage
from recsys.insight import FOLDER, Insight, fit_insight
from recsys.models.blend import Blend
from recsys.models.sequence import SequenceModel
from recsys.predict import Recommender

RECOMMENDER: Final = "recommender"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What was changed: rows that became a guest's, rows that are gone, and recommenders that were fitted again."""

    orders: int
    rows: int
    recommenders: tuple[str, ...]


def forget_user(settings: Settings, user_id: str, *, num_elsewhere: int = 0) -> Forgotten:
    """Delete a user, called as the shop does, and read the user's rows as a guest's in later loads.

    Parameters
    ----------
    num_elsewhere
        Rows of the user that were found, and deleted, in other places.

    Raises
    ------
    DataError
        If nothing that is stored knows the user.
    """
    hashed = open_user_ids(settings).hash_id(user_id)
    storage = open_storage(settings)
    for key in storage.published():
        storage.fetch(key)
    orders, rows = _forget_in_tables(storage, hashed)
    refitted = _forget_in_recommenders(settings, hashed)
    if not orders and not rows and not refitted and not num_elsewhere:
        raise DataError(f"no dataset and no model below {settings.home} knows this user; check the id and the key")
    mark_forgotten(settings, hashed)
    return Forgotten(orders=orders, rows=rows, recommenders=refitted)


def without_user(recommender: Recommender, hashed_id: str) -> Recommender:
    """The recommender as if the user had never been there, but for what a sequence network learned."""
    histories = recommender.histories
    others = np.flatnonzero(histories.user_ids_U != hashed_id)
    kept = histories.take(others)
    models = {
        name: model if isinstance(model, SequenceModel) else model.fit(kept)
        for name, model in recommender.models.items()
    }
    blend = recommender.blend
    return replace(
        recommender,
        histories=kept,
        blend=Blend(models=models, weights=blend.weights, seen_allowed=blend.seen_allowed),
    )


def _forget_in_tables(storage: Storage, hashed: str) -> tuple[int, int]:
    """Rows changed and rows dropped in every Parquet file with a column of users, recommenders' own files aside."""
    changed, dropped = 0, 0
    changed_paths = []
    for path in sorted(storage.folder.rglob("*.parquet")):
        if path.name == "histories.parquet" or Col.USER_ID not in pq.read_schema(path).names:
            continue
        table = pq.read_table(path, partitioning=None)
        frame = pl.DataFrame(pl.from_arrow(table))
        theirs = (frame[Col.USER_ID].cast(pl.String) == hashed).fill_null(value=False)
        if not theirs.any():
            continue
        if path.parent.name == "orders" and path.parent.parent.name == "tables":
            changed += int(theirs.sum())
            user = pl.when(theirs).then(None).otherwise(pl.col(Col.USER_ID)).alias(Col.USER_ID)
            kept = frame.with_columns(user).to_arrow().cast(table.schema)
        else:
            dropped += int(theirs.sum())
            kept = table.filter((~theirs).to_arrow())
        beside = path.with_name(f".{path.name}.new")
        write_table(kept.replace_schema_metadata(table.schema.metadata), beside)
        beside.replace(path)
        changed_paths.append(path)
    for key in storage.published():
        if any(path.is_relative_to(storage.folder / key) for path in changed_paths):
            storage.save(key)
    return changed, dropped


def _forget_in_recommenders(settings: Settings, hashed: str) -> tuple[str, ...]:
    store = open_store(settings)
    refitted = []
    for version in store.versions(RECOMMENDER):
        folder = store.load(RECOMMENDER, version).folder
        if hashed in pq.read_table(folder / "histories.parquet", columns=[Col.USER_ID])[Col.USER_ID].to_pylist():
            _refit(store, version, hashed=hashed, dataset=open_dataset(settings))
            refitted.append(version)
    return tuple(refitted)


def _refit(store: ArtifactStore, version: str, *, hashed: str, dataset: Dataset) -> None:
    folder = store.load(RECOMMENDER, version).folder
    recommender = without_user(Recommender.load(folder), hashed)
    insight = _insight_of(recommender, dataset) if (folder / FOLDER).is_dir() else None

    def write(draft: Path) -> None:
        recommender.save(draft)
        if insight is not None:
            insight.save(draft)

    store.replace(RECOMMENDER, version, write=write)


def _insight_of(recommender: Recommender, dataset: Dataset) -> Insight:
    orders = dataset.table("orders")
    assert orders is not None
    return fit_insight(
        recommender.histories,
        orders=orders,
        events=dataset.table("events"),
        items=dataset.table("items"),
        seed=dataset.settings.seed,
    )
