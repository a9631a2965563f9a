"""The main job on the second real shop: a mapping file, small settings, every stage for real."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cluster.artifacts import ArtifactStore
from cluster.config import load_settings
from cluster.storage import FolderStorage
from restock.pipeline import run_main_job

pytestmark = pytest.mark.integration

ONLINE_RETAIL = Path(__file__).parents[1] / "data" / "online_retail.toml"
TEXTBOOK = {
    "newsvendor",
    "base_stock",
    "capped_base_stock",
    "reorder_point",
    "negative_binomial",
    "static_min_max",
}
SMALL = (
    "data.max_series=60",
    "forecast.epochs=1",
    "forecast.refit_epochs=1",
    "forecast.hidden=16",
    "forecast.windows_per_series=8",
    "forecast.tree_rows=5000",
    "recommender.epochs=1",
    "recommender.hidden=16",
    "recommender.windows_per_user=1",
    "policy.hidden=16",
    "policy.num_rows=128",
    "policy.budget_steps_ppo=8000",
    "policy.budget_steps_dqn=8000",
    "policy.budget_steps_direct=60000",
    "policy.evaluations=2",
    "policy.imitation_steps=50",
    "policy.minibatch_size=512",
    "policy.bootstrap_samples=200",
)


@pytest.fixture(scope="module")
def job(shared_data, ray_session, tmp_path_factory):
    home = tmp_path_factory.mktemp("main-job")
    source = f'data.tables.orders.uri="{shared_data / "online_retail.parquet"}"'
    return run_main_job(load_settings(ONLINE_RETAIL, overrides=[f'home="{home}"', source, *SMALL]))


def test_every_row_is_accounted_for(job):
    rows = job.summary["rows"]
    assert rows["in"] == 541_909
    assert rows["in"] == rows["kept"] + rows["merged"] + rows["quarantined"]


def test_every_model_stands_beside_its_baselines(job):
    forecast = {row["model"]: row["wql"] for row in job.summary["forecast"]}
    assert {"blend", "network", "trees", "seasonal-naive", "ets", "arima"} <= set(forecast)
    assert forecast["blend"] < forecast["seasonal-naive"]
    recommender = {row["model"]: row["ndcg_at_10"] for row in job.summary["recommender"]}
    assert {"sequence", "popularity", "neighbours", "blend"} <= set(recommender)
    assert recommender["blend"] > recommender["popularity"] > 0


def test_every_policy_is_replayed_and_none_beats_perfect_foresight(job):
    (policy,) = job.summary["policies"].values()
    assert set(policy["costs"]) == TEXTBOOK | {"dqn", "ppo", "direct", "perfect_foresight"}
    assert policy["costs"]["perfect_foresight"] < min(v for k, v in policy["costs"].items() if k != "perfect_foresight")
    assert policy["is_learned"] == (policy["promoted"] in ("dqn", "ppo", "direct"))
    if policy["is_learned"]:
        assert policy["against_textbook"][policy["promoted"]][2] < 0


def test_the_plan_orders_in_packs_and_its_ledger_sums(job):
    table = pq.read_table(job.folder / "plan.parquet")
    assert table.num_rows == job.summary["series"] == 60
    order = table["order_qty"].to_numpy()
    ledger = sum(table[name].to_numpy() for name in table.column_names if name.startswith("ledger_"))
    np.testing.assert_array_equal(ledger, order)
    assert (order % table["pack_size_qty"].to_numpy() == 0).all()
    assert job.summary["plan"]["units"] == order.sum() > 0


def test_what_was_assumed_is_said(job):
    said = " ".join(job.summary["assumed"])
    for what in ("unit cost", "lead time", "pack size", "tock"):
        assert what in said
    assert all(line in (job.folder / "report.html").read_text() for line in job.summary["assumed"] if "&" not in line)


def test_the_summary_is_one_json_object(job):
    summary = json.loads(json.dumps(job.summary))
    assert {"rows", "series", "categories", "forecast", "recommender", "policies", "plan", "seconds"} <= set(summary)
    assert summary["peak_memory_mb"] > 100
    assert {"load", "forecaster", "recommender", "policies", "plan"} <= set(summary["seconds"])


def test_what_serves_is_in_the_store(job):
    store = ArtifactStore(FolderStorage(folder=job.dataset.settings.home / "models"))
    for name in ("forecaster", "recommender", "policy/default", "features"):
        manifest = store.load(name).manifest
        assert manifest.data_digest == job.dataset.digest
        assert manifest.config_digest == job.summary["digests"]["config"]
