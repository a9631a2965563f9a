"""A tiny shop with real models in a real store, made in about a second without Ray: what the service's tests serve."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from cluster.artifacts import ArtifactStore
from cluster.config import Settings, load_settings
from cluster.dataset import Dataset, open_dataset
from cluster.loading import load_dataset
from cluster.manifest import make_manifest, slug_of
from cluster.shards import run_here
from cluster.storage import FolderStorage
from forecasting.model import DemandNetwork, NetworkShape
from forecasting.new_items import fit_similar_items
from forecasting.predict import Forecaster
from forecasting.vocabulary import Vocabulary, make_traits
from recsys.cli import save_all
from recsys.insight import fit_insight
from recsys.interactions import make_interactions
from recsys.models.blend import RECENT, Blend
from recsys.models.neighbours import NeighbourModel
from recsys.models.popularity import Popularity
from recsys.predict import Recommender
from rl.actors import GreedyActor
from rl.export import export_policy
from rl.network import OBSERVATION_NAMES, make_mlp
from rl.observation import ActionGrid
from rl.policies.classical import BaseStock
from rl.policies.store import save_policy

FIRST_ON = date(2024, 1, 1)
NUM_DAYS = 120
AFTER_ON = FIRST_ON + timedelta(days=NUM_DAYS)
TRAINED_UNTIL_ON = AFTER_ON - timedelta(days=14)
ITEMS = tuple(f"item-{row}" for row in range(8))
CATEGORIES = ("dairy", "bread", "odds")
USERS = tuple(f"user-{row}" for row in range(20))
LEVELS = (0.1, 0.5, 0.9)
HORIZON = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The settings of a tiny shop, and its store."""

    settings: Settings
    store: ArtifactStore


def make_home(folder: Path, *, overrides: tuple[str, ...] = ()) -> Home:
    """Load the shop and publish its models: categories dairy and bread have policies, odds has none."""
    settings = _settings(folder, overrides)
    dataset = load_dataset(settings, run=run_here)
    home = Home(settings=settings, store=ArtifactStore(FolderStorage(folder=settings.home / "models")))
    publish_forecaster(home, seed=0)
    publish_recommender(home)
    publish_policy(home, "policy/default", cycle_service_level=0.5)
    for category in CATEGORIES[:2]:
        publish_policy(home, f"policy/{slug_of(category)}", cycle_service_level=0.9)
    assert dataset.num_series >= len(ITEMS)
    return home


def publish_forecaster(home: Home, *, seed: int) -> str:
    """Store a forecaster with untrained weights as the champion."""
    forecaster = make_forecaster(open_dataset(home.settings), home.settings, seed=seed)
    return _publish(home, "forecaster", kind="lstm", save=forecaster.save)


def publish_recommender(home: Home) -> str:
    """Store a recommender of counts, and what is learned beside it, as the champion."""
    fitted, dataset = make_recommender(home.settings), open_dataset(home.settings)
    orders, items = dataset.table("orders"), dataset.table("items")
    assert orders is not None
    insight = fit_insight(fitted.histories, orders=orders, events=None, items=items)
    return _publish(home, "recommender", kind="blend", save=lambda folder: save_all(fitted, insight, folder))


def publish_policy(home: Home, name: str, *, cycle_service_level: float) -> str:
    """Store a base-stock rule as the champion."""
    policy = BaseStock(cycle_service_level=cycle_service_level)
    return _publish(home, name, kind="base_stock", save=lambda folder: save_policy(policy, folder))


def publish_learned_policy(home: Home, name: str, *, seed: int) -> str:
    """Store a network of drawn weights as the champion."""
    grid = ActionGrid(anchor_score=1 + seed / 10)
    torch.manual_seed(seed)
    network = make_mlp(len(OBSERVATION_NAMES), hidden=8, num_outputs=grid.num_actions, output_gain=3.0)
    policy = export_policy(GreedyActor(network), grid=grid, name="dqn")
    return _publish(home, name, kind="dqn", save=policy.save)


def make_forecaster(dataset: Dataset, settings: Settings, *, seed: int) -> Forecaster:
    """A forecaster of the real network with drawn weights."""
    index = dataset.panel().index
    categories = tuple(sorted(set(index.category_ids_S.tolist())))
    torch.manual_seed(seed)
    network = DemandNetwork(
        NetworkShape(
            num_promotions=len(dataset.promotion_names),
            num_series=len(index),
            num_categories=len(categories),
            hidden=settings.forecast.hidden,
            context=settings.forecast.context,
            horizon=settings.forecast.horizon,
            levels=settings.forecast.levels,
            encoder=settings.forecast.encoder,
        )
    )
    vocabulary = Vocabulary(
        item_ids=tuple(index.item_ids_S.tolist()),
        location_ids=tuple(index.location_ids_S.tolist()),
        prior_levels=(2.0,) * len(index),
        category_ids=categories,
        similar=fit_similar_items(make_traits(index, price_S=None), level_S=np.full(len(index), 2.0, dtype=np.float32)),
        promotion_names=dataset.promotion_names,
        period_days=1,
        yearly=False,
    )
    return Forecaster(network, vocabulary=vocabulary, history=())


def make_recommender(settings: Settings) -> Recommender:
    """Popularity and neighbours, fitted to the shop's orders."""
    orders = open_dataset(settings).table("orders")
    interactions = make_interactions(orders, until=AFTER_ON, settings=settings.recommender)
    models: dict[str, Any] = {
        RECENT: Popularity(days=28.0).fit(interactions),
        NeighbourModel.kind: NeighbourModel().fit(interactions),
    }
    blend = Blend(models=models, weights={RECENT: 0.1, NeighbourModel.kind: 1.0}, seen_allowed=True)
    return Recommender(histories=interactions, blend=blend)


def _publish(home: Home, name: str, *, kind: str, save: Any) -> str:
    manifest = make_manifest(
        name,
        kind=kind,
        seed=0,
        trained_until_on=TRAINED_UNTIL_ON,
        config={},
        data_digest="",
        metrics={},
    )
    with home.store.writing(name) as draft:
        save(draft)
        stored = home.store.publish(draft, manifest)
    home.store.promote(name, stored.version)
    return stored.version


def _settings(folder: Path, overrides: tuple[str, ...]) -> Settings:
    orders, items = _write_tables(folder)
    given = [
        f'home="{folder / "home"}"',
        f'data.tables={{"orders": {{"uri": "{orders}"}}, "items": {{"uri": "{items}"}}}}',
        "data.num_shards=1",
        "split.test_days=14",
        "split.policy_days=42",
        "split.validation_days=14",
        f"forecast.horizon={HORIZON}",
        "forecast.context=16",
        "forecast.hidden=8",
        f"forecast.levels={list(LEVELS)}",
        "recommender.min_item_users=1",
        "serve.port=0",
        "serve.access=development",
        *overrides,
    ]
    return load_settings(overrides=given)


def _write_tables(folder: Path) -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    num_lines = NUM_DAYS * 12
    days = np.arange(num_lines) // 12
    opened = datetime.combine(FIRST_ON, datetime.min.time(), tzinfo=UTC)
    orders = pl.DataFrame(
        {
            "order_id": [f"order-{line // 2}" for line in range(num_lines)],
            # Every item sells on the first day, so that no series is dropped.
            "item_id": [ITEMS[line % 8] if line < 12 else ITEMS[draw.integers(8)] for line in range(num_lines)],
            "user_id": [USERS[line // 2 % len(USERS)] for line in range(num_lines)],
            "ordered_at": [opened + timedelta(days=int(day), hours=12) for day in days],
            "sold_qty": draw.integers(1, 4, size=num_lines).astype(float),
            "unit_price": np.full(num_lines, 5.0),
        }
    )
    items = pl.DataFrame({"item_id": ITEMS, "category_id": [CATEGORIES[min(row // 3, 2)] for row in range(8)]})
    orders.write_parquet(folder / "orders.parquet")
    items.write_csv(folder / "items.csv")
    return folder / "orders.parquet", folder / "items.csv"
