"""A made-up weekly shop with its own column names, and the command line as a function."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from restock.cli import main

FIRST = datetime(2023, 1, 2, 10)
NUM_WEEKS = 70
TRAINED_UNTIL = "2024-04-01"
CONFIG = """
seed = 3
home = "{folder}/home"

[data]
name = "bakery"
frequency = "W"
num_shards = 2
holidays = "DE"

[data.tables.orders]
uri = "{folder}/orders.csv"

[data.tables.orders.columns]
order_id = "Beleg"
item_id = "Artikel"
user_id = "Kunde"
ordered_at = "Zeit"
sold_qty = "Menge"
unit_price = "Preis"

[data.tables.items]
uri = "{folder}/items.csv"

[data.tables.items.columns]
item_id = "Artikel"
name = "Name"
category_id = "Gruppe"

[forecast]
epochs = 1
refit_epochs = 1
hidden = 16
windows_per_series = 8
least_steps = 4
tree_rows = 2000

[recommender]
epochs = 1
hidden = 16
min_item_users = 2

[policy]
algorithms = ["direct"]
max_categories = 1
min_category_series = 3
hidden = 16
num_rows = 64
rollout_periods = 6
budget_steps_direct = 40000
evaluations = 2
imitation_steps = 50
bootstrap_samples = 200
"""


@dataclass(frozen=True)
class Ran:
    """What a verb left behind."""

    code: int
    out: str
    err: str


def write_shop(folder: Path, *, change_after: datetime | None = None) -> None:
    """Orders of 12 items in 2 groups by 40 customers; ``change_after`` makes the weeks from then on another history."""
    generator = np.random.default_rng(7)
    rows = []
    for week in range(NUM_WEEKS):
        for item in range(12):
            when = FIRST + timedelta(weeks=week, hours=item)
            quantity = int(generator.poisson(3 + item))
            customer = int(generator.integers(40))
            if change_after is not None and when >= change_after:
                quantity = 50 - quantity
            if quantity:
                rows.append((f"B{week}-{customer}", f"A{item:02d}", f"K{customer}", when, quantity, 2.0 + item))
    names = ["Beleg", "Artikel", "Kunde", "Zeit", "Menge", "Preis"]
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, schema=names, orient="row").write_csv(folder / "orders.csv")
    pl.DataFrame(
        {
            "Artikel": [f"A{item:02d}" for item in range(12)],
            "Name": [f"Brot {item}" for item in range(12)],
            "Gruppe": ["Brot" if item < 8 else "Kuchen" for item in range(12)],
        }
    ).write_csv(folder / "items.csv")
    (folder / "shop.toml").write_text(CONFIG.format(folder=folder))


@pytest.fixture
def restock(monkeypatch, capsys) -> Callable[..., Ran]:
    """Run a verb in this process, as the console script would."""

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["restock", *arguments])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return Ran(code=code, out=out, err=err)

    return run


@pytest.fixture(scope="session")
def trained_shop(ray_session, tmp_path_factory) -> Path:
    """Folder of a shop that was loaded and trained until ``TRAINED_UNTIL``."""
    folder = tmp_path_factory.mktemp("bakery")
    write_shop(folder)
    for verb in (["data", "load"], ["train", "all", "--until", TRAINED_UNTIL]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["restock", *verb, "--config", str(folder / "shop.toml")])
            with pytest.raises(SystemExit) as end:
                main()
            assert not end.value.code
    return folder
