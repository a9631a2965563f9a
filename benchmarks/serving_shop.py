"""A made-up shop with real models in a real store: what the benchmarks and drills of the service serve.

Items have lognormal rates. Forecaster (blend), recommender (all members but the sequence
model, which needs a training run) and an exported policy per category are fitted lightly: they cost what well trained
ones do.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import torch

from cluster.artifacts import open_store, publish_model
from cluster.config import Settings, load_settings
from cluster.dataset import Dataset, open_dataset
from cluster.errors import ConfigError
from cluster.loading import load_dataset
from cluster.manifest import slug_of
from cluster.shards import run_here
from forecasting.team_fit import fit_team
from recsys.cli import save_all
from recsys.insight import fit_insight
from recsys.interactions import make_interactions
from recsys.train import fit_recommender
from rl.actors import GreedyActor
from rl.export import export_policy
from rl.network import OBSERVATION_NAMES, make_mlp
from rl.observation import ActionGrid
from rl.policies.classical import BaseStock
from rl.policies.exported import ExportedPolicy
from rl.policies.store import save_policy

NUM_DAYS = 120
FIRST_ON = date(2024, 1, 1)
AFTER_ON = FIRST_ON + timedelta(days=NUM_DAYS)
NUM_CATEGORIES = 10
NUM_USERS = 3_000
_FITTED_SERIES = 400
_LINES_PER_ORDER = 3
_LIGHT = (
    "forecast.horizon=28",
    "forecast.epochs=1",
    "forecast.windows_per_series=8",
    "forecast.tree_rows=20000",
    'recommender.members=["frequency","habits","neighbours","transitions","tifu"]',
    "recommender.min_item_users=1",
    "recommender.validation_users=200",
    "data.num_shards=4",
    "split.test_days=14",
    "split.policy_days=42",
    "split.validation_days=14",
)


def open_shop(folder: Path, *, num_items: int, seed: int = 0, recommends: bool = True) -> Settings:
    """Settings of the shop in a folder; it is made if it is not there, with a recommender or without.

    Raises
    ------
    ConfigError
        If the shop that is there has another number of items: requests would name what it does not have.
    """
    settings = load_settings(overrides=overrides_of(folder, seed=seed))
    complete = folder / "complete"
    if complete.exists() and complete.read_text() != str(num_items):
        raise ConfigError(f"{folder}: holds a shop of another size than {num_items} items; name another folder")
    if not complete.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write_tables(folder, num_items=num_items, seed=seed)
        dataset = load_dataset(settings, run=run_here)
        publish_forecaster(dataset, settings)
        if recommends:
            _publish_recommender(dataset, settings)
        _publish_policies(settings)
        complete.write_text(str(num_items))
    return settings


def overrides_of(folder: Path, *, seed: int = 0) -> list[str]:
    """The ``--set`` options of the shop's configuration."""
    tables = f'{{"orders": {{"uri": "{folder}/orders.parquet"}}, "items": {{"uri": "{folder}/items.csv"}}}}'
    return [f'home="{folder / "home"}"', f"data.tables={tables}", f"seed={seed}", "serve.port=0", *_LIGHT]


def publish_forecaster(dataset: Dataset, settings: Settings) -> str:
    """Fit a blend to some of the series and make it the champion; its version."""
    panel = dataset.panel()
    team = fit_team(panel.take(np.arange(min(_FITTED_SERIES, panel.num_series))), settings=settings)
    return _publish("forecaster", "blend", settings, save=team.save)


def _publish_recommender(dataset: Dataset, settings: Settings) -> None:
    orders, items = dataset.table("orders"), dataset.table("items")
    assert orders is not None
    interactions = make_interactions(orders, until=AFTER_ON, settings=settings.recommender)
    fitted = fit_recommender(interactions, settings=settings)
    insight = fit_insight(interactions, orders=orders, events=None, items=items)
    _publish("recommender", "blend", settings, save=lambda folder: save_all(fitted, insight, folder))


def _publish_policies(settings: Settings) -> None:
    rule = BaseStock(cycle_service_level=0.9)
    _publish("policy/default", "base_stock", settings, save=lambda folder: save_policy(rule, folder))
    for number in range(NUM_CATEGORIES - 1):  # the last category keeps the textbook rule
        policy = _drawn_policy(number)
        name = f"policy/{slug_of(f'category-{number}')}"
        _publish(name, "dqn", settings, save=policy.save)


def _drawn_policy(seed: int) -> ExportedPolicy:
    grid = ActionGrid()
    torch.manual_seed(seed)
    network = make_mlp(len(OBSERVATION_NAMES), hidden=64, num_outputs=grid.num_actions, output_gain=3.0)
    return export_policy(GreedyActor(network), grid=grid, name="dqn")


def _publish(name: str, kind: str, settings: Settings, *, save: Callable[[Path], None]) -> str:
    dataset = open_dataset(settings)
    stored = publish_model(
        name,
        kind=kind,
        settings=settings,
        trained_until_on=AFTER_ON - timedelta(days=14),
        data_digest=dataset.digest,
        metrics={},
        write=save,
    )
    open_store(settings).promote(name, stored.version, reason="made for a benchmark")
    return stored.version


def _write_tables(folder: Path, *, num_items: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    category_I = np.arange(num_items) % NUM_CATEGORIES
    weight_I = rng.lognormal(0.0, 1.0, num_items)
    num_lines = max(20 * num_items, 20_000)
    item_L = rng.choice(num_items, size=num_lines, p=weight_I / weight_I.sum())
    item_L[:num_items] = np.arange(num_items)  # every item sells, so that every one is a series
    opened = datetime.combine(FIRST_ON, datetime.min.time(), tzinfo=UTC)
    day_L = np.sort(rng.integers(NUM_DAYS, size=num_lines))
    day_L[0], day_L[-1] = 0, NUM_DAYS - 1
    order_L = np.arange(num_lines) // _LINES_PER_ORDER
    user_O = rng.integers(NUM_USERS, size=order_L[-1] + 1)
    orders = pl.DataFrame(
        {
            "order_id": [f"order-{order}" for order in order_L],
            "item_id": [f"item-{item:05d}" for item in rng.permutation(item_L)],
            "user_id": [f"user-{user_O[order]}" for order in order_L],
            "ordered_at": [opened + timedelta(days=int(day), hours=12) for day in day_L],
            "sold_qty": rng.integers(1, 4, size=num_lines).astype(float),
            "unit_price": np.full(num_lines, 5.0),
        }
    )
    orders.write_parquet(folder / "orders.parquet")
    items = {
        "item_id": [f"item-{item:05d}" for item in range(num_items)],
        "category_id": [f"category-{category}" for category in category_I],
    }
    pl.DataFrame(items).write_csv(folder / "items.csv")
