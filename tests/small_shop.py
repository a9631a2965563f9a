"""A small made-up shop on disk, for tests of the data plane."""

from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl

from cluster.config import Settings, load_settings
from cluster.dataset import Dataset
from cluster.loading import load_dataset
from cluster.shards import run_here

TODAY = date(2024, 6, 1)
START = datetime(2024, 1, 1, 12)


def make_orders(*, num_days: int = 60, items: tuple[str, ...] = ("a", "b", "c")) -> pl.DataFrame:
    """Item number i sells i + 1 units at price 2 (i + 1) every day, each in an order of its own."""
    rows = [
        {
            "order_id": f"{item}-{day}",
            "item_id": item,
            "user_id": f"u{day % 3}",
            "ordered_at": START + timedelta(days=day),
            "sold_qty": number + 1,
            "unit_price": 2.0 * (number + 1),
        }
        for day in range(num_days)
        for number, item in enumerate(items)
    ]
    return pl.DataFrame(rows)


def make_settings(folder: Path, *overrides: str, **tables: str | Path) -> Settings:
    """Settings that read the given files; keyword names are tables."""
    sources = [f'data.tables.{name}.uri="{path}"' for name, path in tables.items()]
    short = ["split.test_days=7", "split.policy_days=21", "split.validation_days=7", "data.num_shards=3"]
    return load_settings(overrides=[f'home="{folder / "home"}"', "data.holidays=", *short, *sources, *overrides])


def load(folder: Path, *overrides: str, **frames: pl.DataFrame) -> Dataset:
    """Write frames to Parquet and load them in this process."""
    paths = {}
    for name, frame in frames.items():
        paths[name] = folder / f"{name}.parquet"
        frame.write_parquet(paths[name])
    return load_dataset(make_settings(folder, *overrides, **paths), today=TODAY, run=run_here)


def quarantined(dataset: Dataset, table: str = "orders") -> pl.DataFrame:
    """Quarantined rows of a table, in file order."""
    files = sorted((dataset.quarantine_folder / table).glob("*.parquet"))
    return pl.concat([pl.read_parquet(file) for file in files]).sort("row")
