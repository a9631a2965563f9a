"""``restock train recommender`` on a small shop: one published, promoted version that answers."""

import json

import pytest
from small_shop import load, make_orders

from cluster.artifacts import ArtifactStore
from cluster.errors import ConfigError
from cluster.storage import FolderStorage
from recsys.cli import train_recommender
from recsys.predict import Recommender

pytestmark = pytest.mark.integration
SMALL = ["recommender.min_item_users=1", "recommender.epochs=1", "recommender.hidden=8", "recommender.max_sequence=8"]


def test_the_verb_trains_publishes_and_promotes(ray_session, tmp_path, capsys):
    dataset = load(tmp_path, *SMALL, orders=make_orders())
    home = f'home="{tmp_path / "home"}"'
    same_data = ["data.holidays=", "data.num_shards=3", f'data.tables.orders.uri="{tmp_path / "orders.parquet"}"']
    train_recommender(overrides=[home, *same_data, *SMALL], until="2024-02-20", as_json=True)
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    stored = ArtifactStore(FolderStorage(folder=tmp_path / "home" / "models")).load("recommender")
    assert said["version"] == stored.version == "v0001"
    assert str(stored.manifest.trained_until_on) == said["trained_until_on"] == "2024-02-20"
    assert stored.manifest.data_digest == dataset.digest
    assert {row["model"] for row in stored.manifest.metrics["validation"]} >= {"sequence", "frequency-90", "blend"}
    loaded = Recommender.load(stored.folder)
    assert loaded.trained_until.date().isoformat() == "2024-02-20"
    assert set(loaded.recommend(["u1"], k=3).item_ids_UK[0]) == {"a", "b", "c"}

    train_recommender(overrides=[home, *same_data, *SMALL], until="2024-02-25", warm=True, as_json=True)
    warm = Recommender.load(
        ArtifactStore(FolderStorage(folder=tmp_path / "home" / "models")).load("recommender").folder
    )
    assert warm.trained_until.date().isoformat() == "2024-02-25"
    assert warm.blend.weights == loaded.blend.weights
    assert [row["phase"] for row in warm.learning_curve] == ["refit"]
    assert warm.histories.num_events > loaded.histories.num_events


def test_a_wrong_day_is_named(tmp_path):
    load(tmp_path, orders=make_orders())
    with pytest.raises(ConfigError, match="--until tomorrow"):
        train_recommender(overrides=[f'home="{tmp_path / "home"}"'], until="tomorrow")
