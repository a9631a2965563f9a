"""User and item features as a versioned artifact, with the normalisation that was fitted on the same time."""

import json
from datetime import UTC, datetime, time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.artifacts import StoredVersion, open_store, publish_model
from cluster.dataset import Dataset
from cluster.errors import DataError
from cluster.features import item_features, user_features
from cluster.panel import DemandPanel
from cluster.scaling import Scaler
from cluster.schema import ITEMS

NAME = "features"


def publish_features(dataset: Dataset, *, panel: DemandPanel, period: int) -> StoredVersion:
    """Compute the features that are known at the start of ``period``, scale them, store both.

    The artifact holds ``users.parquet`` and ``items.parquet`` in their own units, ``users_scaled.parquet`` and
    ``items_scaled.parquet`` with every number scaled as ``data.normalisation`` says, and ``scalers.json``, which scales
    later features alike. Rows from ``period`` on are neither counted nor scaled by.

    Raises
    ------
    DataError
        If the dataset has no orders.
    """
    until_on = panel.calendar.date_on(period)
    tables = {
        "users": _users(dataset, before=datetime.combine(until_on, time(), tzinfo=UTC)),
        "items": item_features(panel, period=period),
    }
    scalers = {name: _fit_scaler(table, dataset) for name, table in tables.items()}
    stored = publish_model(
        NAME,
        kind=dataset.settings.data.normalisation,
        settings=dataset.settings,
        trained_until_on=until_on,
        data_digest=dataset.digest,
        metrics={name: {"rows": table.num_rows, "columns": table.column_names} for name, table in tables.items()},
        write=lambda folder: _write(folder, tables, scalers),
    )
    open_store(dataset.settings).promote(NAME, stored.version, reason="restock data features")
    return stored


def scale_table(table: pa.Table, scaler: Scaler) -> pa.Table:
    """The table with its numbers scaled, in the order of its columns; other columns stay as they are."""
    names = number_columns(table)
    scaled_FN = scaler.transform(_values_FN(table, names))
    for name, value_N in zip(names, scaled_FN, strict=True):
        table = table.set_column(table.column_names.index(name), name, pa.array(value_N))
    return table


def number_columns(table: pa.Table) -> list[str]:
    """Columns that hold one number per row."""
    return [field.name for field in table.schema if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)]


def _users(dataset: Dataset, *, before: datetime) -> pa.Table:
    orders = dataset.table("orders")
    if orders is None:
        raise DataError("the dataset has no orders; configure [data.tables.orders] and load it again")
    items = dataset.table("items")
    return user_features(orders, items=ITEMS.empty_table() if items is None else items, before=before)


def _fit_scaler(table: pa.Table, dataset: Dataset) -> Scaler:
    # Here a row is a feature, and what varies along it are the users or series.
    values_FN = _values_FN(table, number_columns(table))
    return Scaler.fit(values_FN, kind=dataset.settings.data.normalisation, until=values_FN.shape[1])


def _values_FN(table: pa.Table, names: list[str]) -> np.ndarray:
    return np.stack([pc.cast(table[name], pa.float32()).to_numpy() for name in names])


def _write(folder: Path, tables: dict[str, pa.Table], scalers: dict[str, Scaler]) -> None:
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
        pq.write_table(scale_table(table, scalers[name]), folder / f"{name}_scaled.parquet")
    trees = {
        name: {"columns": number_columns(table), "scaler": scalers[name].to_dict()} for name, table in tables.items()
    }
    (folder / "scalers.json").write_text(json.dumps(trees, indent=2) + "\n")
