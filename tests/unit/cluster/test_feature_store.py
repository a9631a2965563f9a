import json

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from small_shop import load, make_orders

from cluster.feature_store import number_columns, publish_features, scale_table
from cluster.scaling import Scaler


@pytest.fixture(params=["standard", "min-max"])
def published(request, tmp_path):
    dataset = load(tmp_path, f"data.normalisation={request.param}", orders=make_orders())
    panel = dataset.panel()
    return request.param, dataset, panel, publish_features(dataset, panel=panel, period=40)


def test_both_tables_are_stored_in_their_units_and_scaled(published):
    kind, _, _, stored = published
    for name, rows in (("users", 3), ("items", 3)):
        table = pq.read_table(stored.folder / f"{name}.parquet")
        scaled = pq.read_table(stored.folder / f"{name}_scaled.parquet")
        assert table.num_rows == scaled.num_rows == rows
        for column in number_columns(table):
            values, scales = table[column].to_numpy(), scaled[column].to_numpy()
            if np.ptp(values) == 0:
                assert (scales == 0).all()
            elif kind == "min-max":
                assert (scales.min(), scales.max()) == pytest.approx((0, 1))
            else:
                assert (scales.mean(), scales.std()) == pytest.approx((0, 1), abs=1e-5)


def test_the_stored_scaler_scales_later_rows_alike(published):
    _, _, _, stored = published
    tree = json.loads((stored.folder / "scalers.json").read_text())["items"]
    table = pq.read_table(stored.folder / "items.parquet")
    assert tree["columns"] == number_columns(table)
    again = scale_table(table, Scaler.from_dict(tree["scaler"]))
    assert again.equals(pq.read_table(stored.folder / "items_scaled.parquet"))


def test_what_happens_later_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("RESTOCK_USER_KEY", "one key for both homes")
    orders = make_orders()
    later = pl.col("ordered_at") >= pl.datetime(2024, 2, 10)
    digests = []
    for name, frame in (
        ("a", orders),
        ("b", orders.with_columns(sold_qty=pl.when(later).then(99).otherwise("sold_qty"))),
    ):
        (tmp_path / name).mkdir()
        dataset = load(tmp_path / name, orders=frame)
        stored = publish_features(dataset, panel=dataset.panel(), period=40)
        digests.append([(stored.folder / f"{part}_scaled.parquet").read_bytes() for part in ("users", "items")])
    assert digests[0] == digests[1]


def test_the_manifest_says_until_when(published):
    kind, dataset, panel, stored = published
    assert stored.manifest.kind == kind
    assert stored.manifest.trained_until_on == panel.calendar.date_on(40)
    assert stored.manifest.data_digest == dataset.digest
