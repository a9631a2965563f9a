import errno
import json
import socket
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pyarrow.parquet
import pytest
from small_shop import START, TODAY, load, make_orders, make_settings, quarantined

from cluster.dataset import open_dataset
from cluster.errors import DataError, QualityError
from cluster.loading import check_tables, load_dataset
from cluster.shards import run_here


def never(work, tasks):
    raise AssertionError("nothing should be read again")
    yield


def test_the_panel_holds_what_was_sold(tmp_path):
    panel = load(tmp_path, orders=make_orders()).panel()
    assert panel.index.item_ids_S.tolist() == ["a", "b", "c"]
    assert panel.sales_ST.shape == (3, 60)
    np.testing.assert_array_equal(panel.sales_ST, np.array([[1], [2], [3]]) * np.ones((1, 60)))
    np.testing.assert_array_equal(panel.price_ST, np.array([[2], [4], [6]]) * np.ones((1, 60)))
    assert panel.in_stock_ST.all()
    assert panel.num_periods + panel.notice_periods == len(panel.holiday_X)


def test_a_rerun_on_the_same_input_reads_nothing(tmp_path):
    first = load(tmp_path, orders=make_orders())
    settings = make_settings(tmp_path, orders=tmp_path / "orders.parquet")
    again = load_dataset(settings, today=TODAY, run=never)
    assert again.digest == first.digest
    assert again.report == first.report
    assert open_dataset(settings).digest == first.digest


def test_another_content_or_setting_makes_another_dataset(tmp_path):
    digests = {load(tmp_path, orders=make_orders(num_days=days)).digest for days in (50, 51)}
    digests.add(load(tmp_path, "data.outlier_iqr=3", orders=make_orders(num_days=51)).digest)
    assert len(digests) == 3


def test_how_many_series_are_planned_makes_no_other_dataset(tmp_path):
    assert (
        load(tmp_path, orders=make_orders()).digest == load(tmp_path, "data.max_series=2", orders=make_orders()).digest
    )


def test_the_best_sellers_before_the_test_are_picked(tmp_path):
    orders = make_orders().with_columns(
        # "a" sells most in the held-out last week only.
        sold_qty=pl.when((pl.col("item_id") == "a") & (pl.col("ordered_at") > START + timedelta(days=53)))
        .then(1000)
        .otherwise("sold_qty")
    )
    dataset = load(tmp_path, "data.max_series=2", orders=orders)
    assert dataset.panel().index.item_ids_S.tolist() == ["b", "c"]
    assert dataset.panel(selection_end=60).index.item_ids_S.tolist() == ["a", "c"]


def test_history_until_a_day_is_what_a_load_on_that_day_gives(tmp_path):
    """The honest replay: later rows, returns and series change nothing that was known before."""
    rng = np.random.default_rng(1)
    orders = make_orders(num_days=70, items=("a", "b", "c", "d")).with_columns(
        sold_qty=pl.Series(rng.integers(1, 9, 280))
    )
    late = orders.filter(pl.col("item_id") == "d").with_columns(
        item_id=pl.lit("new"), ordered_at=pl.col("ordered_at") + timedelta(days=60)
    )
    back = orders[::3].with_columns(
        pl.format("back-{}", "order_id").alias("order_id"),
        -pl.col("sold_qty"),
        pl.col("ordered_at") + timedelta(days=9),
    )
    orders = pl.concat([orders, late, back]).sample(fraction=1, shuffle=True, seed=2)
    (tmp_path / "whole").mkdir()
    (tmp_path / "part").mkdir()
    whole = load(tmp_path / "whole", "data.max_quarantine_share=1", orders=orders).panel(until=55)
    cut = orders.filter(pl.col("ordered_at") < START.replace(hour=0) + timedelta(days=55))
    part = load(tmp_path / "part", "data.max_quarantine_share=1", orders=cut).panel(until=55)
    assert whole.index.item_ids_S.tolist() == part.index.item_ids_S.tolist() == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(whole.sales_ST, part.sales_ST)
    np.testing.assert_array_equal(whole.price_ST, part.price_ST)
    np.testing.assert_array_equal(whole.promotion_SXP, part.promotion_SXP)


def test_a_decision_may_stand_on_a_day_after_the_last_order(tmp_path):
    dataset = load(tmp_path, orders=make_orders())
    panel = dataset.panel(until=65)
    assert panel.num_periods == 65
    assert panel.sales_ST[:, 60:].sum() == 0
    with pytest.raises(DataError, match="knows nothing after 2024-03-08, asked for 2024-03-09.*load newer orders"):
        dataset.panel(until=68)


def test_ten_days_of_history_are_too_few_and_the_message_says_how_many_are_needed(tmp_path):
    dataset = load(tmp_path, orders=make_orders(num_days=10))
    with pytest.raises(DataError, match=r"history has 10 days.*at least 32.*split\.test_days"):
        dataset.panel()


def test_a_series_without_sales_has_the_price_of_its_category(tmp_path):
    items = pl.DataFrame({"item_id": ["a", "b", "c", "z"], "category_id": ["x", "y", "x", "x"]})
    terms = pl.DataFrame({"item_id": ["z"], "lead_time_days": [3.0]})
    panel = load(tmp_path, orders=make_orders(), items=items, supply_terms=terms).panel()
    assert panel.index.item_ids_S.tolist() == ["a", "b", "c", "z"]
    assert panel.sales_ST[3].sum() == 0
    assert set(panel.price_ST[3]) == {4.0}
    assert panel.first_sale_S[3] == panel.num_periods


def test_what_is_not_stocked_stays_among_the_orders_and_makes_no_series(tmp_path):
    items = pl.DataFrame({"item_id": ["a", "b", "c"], "category_id": ["goods", "goods", "services"]})
    dataset = load(tmp_path, 'data.not_stocked=["services", "b"]', orders=make_orders(), items=items)
    assert dataset.panel().index.item_ids_S.tolist() == ["a"]
    assert dataset.table("orders").num_rows == 180


def test_nothing_stocked_is_said(tmp_path):
    with pytest.raises(DataError, match=r"no series.*data\.not_stocked"):
        load(tmp_path, 'data.not_stocked=["a", "b", "c"]', orders=make_orders()).panel()


def test_unknown_items_future_dates_and_negative_prices_are_quarantined_with_their_row(tmp_path):
    orders = make_orders().with_columns(
        item_id=pl.when(pl.row_index() == 3).then(pl.lit("typo")).otherwise("item_id"),
        ordered_at=pl.when(pl.row_index() == 4).then(datetime(2031, 1, 1)).otherwise("ordered_at"),
        unit_price=pl.when(pl.row_index() == 5).then(-1.0).otherwise("unit_price"),
    )
    dataset = load(tmp_path, orders=orders, items=pl.DataFrame({"item_id": ["a", "b", "c"]}))
    assert quarantined(dataset).select("row", "rule").rows() == [
        (4, "item_id_known"),
        (5, "ordered_at_not_in_future"),
        (6, "unit_price_not_negative"),
    ]
    assert dataset.num_periods == 60


def test_too_many_bad_rows_stop_the_load_and_name_the_worst_rule(tmp_path):
    orders = make_orders().with_columns(sold_qty=pl.when(pl.row_index() < 60).then(0).otherwise("sold_qty"))
    with pytest.raises(
        QualityError, match=r"orders: 60 of 180 rows.*60 rows: sold_qty must not be 0.*restock data check"
    ):
        load(tmp_path, orders=orders)
    settings = make_settings(tmp_path, orders=tmp_path / "orders.parquet")
    report = check_tables(settings, today=TODAY, run=run_here, quarantine=tmp_path / "bad")
    assert report.tables[0].rows_quarantined == 60
    assert len(list((tmp_path / "bad" / "orders").glob("*.parquet"))) == 1
    assert entries(tmp_path) == []


def test_duplicated_orders_are_merged_and_counted(tmp_path):
    orders = make_orders()
    counts = load(tmp_path, orders=pl.concat([orders, orders[:7]])).report.tables[0]
    assert (counts.rows_in, counts.rows_kept, counts.rows_merged) == (187, 180, 7)


def test_items_are_those_that_were_ordered_where_no_table_is_given(tmp_path):
    items = load(tmp_path, orders=make_orders()).table("items").to_pylist()
    assert [(row["item_id"], row["category_id"]) for row in items] == [(item, "uncategorised") for item in "abc"]


def test_tables_that_the_shop_does_not_have_are_none(tmp_path):
    dataset = load(tmp_path, orders=make_orders())
    assert dataset.table("events") is None
    with pytest.raises(ValueError, match="no table 'sales'"):
        dataset.table("sales")


def test_no_dataset_yet(tmp_path):
    with pytest.raises(DataError, match="no dataset 'shop'.*restock data load"):
        open_dataset(make_settings(tmp_path))
    with pytest.raises(DataError, match=r"no orders to read.*data\.tables\.orders\.uri"):
        load_dataset(make_settings(tmp_path), run=run_here)


def entries(folder):
    root = folder / "home" / "datasets" / "shop"
    return sorted(path.name for path in root.iterdir() if path.name != ".lock")


def test_a_load_that_fails_half_way_leaves_the_previous_dataset_and_nothing_else(tmp_path):
    before = load(tmp_path, orders=make_orders())

    def dies(work, tasks):
        yield from run_here(work, tasks[:1])
        raise KeyboardInterrupt

    make_orders(num_days=61).write_parquet(tmp_path / "orders.parquet")
    settings = make_settings(tmp_path, orders=tmp_path / "orders.parquet")
    with pytest.raises(KeyboardInterrupt):
        load_dataset(settings, today=TODAY, run=dies)
    assert open_dataset(settings).digest == before.digest
    assert entries(tmp_path) == sorted([before.digest, "current"])


def test_what_a_killed_process_left_is_removed_by_the_next_load(tmp_path):
    before = load(tmp_path, orders=make_orders())
    leftover = tmp_path / "home" / "datasets" / "shop" / f".draft-{socket.gethostname()}-999999999"
    (leftover / "stage").mkdir(parents=True)
    load(tmp_path, orders=make_orders())
    assert entries(tmp_path) == sorted([before.digest, "current"])


def test_a_full_disk_is_said_and_leaves_the_previous_dataset(tmp_path, monkeypatch):
    before = load(tmp_path, orders=make_orders())

    def fills_up(rows, path, **options):
        if "panel" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(rows, path, **options)

    write = pyarrow.parquet.write_table
    monkeypatch.setattr(pyarrow.parquet, "write_table", fills_up)
    with pytest.raises(DataError, match="the disk is full.*free space, or set home"):
        load(tmp_path, "data.outlier_iqr=5", orders=make_orders(num_days=61))
    assert entries(tmp_path) == sorted([before.digest, "current"])


def test_the_description_says_what_the_shards_hold(tmp_path):
    dataset = load(tmp_path, orders=make_orders())
    tree = json.loads((dataset.folder / "dataset.json").read_text())
    assert (tree["num_periods"], tree["num_stored"], tree["num_series"]) == (60, 67, 3)
    rows = sum(pyarrow.parquet.read_metadata(path).num_rows for path in dataset.panel_folder.glob("*.parquet"))
    assert rows == 3


def test_weeks(tmp_path):
    panel = load(tmp_path, "data.frequency=W", orders=make_orders()).panel(selection_end=3)
    assert panel.calendar.period_days == 7
    np.testing.assert_array_equal(panel.sales_ST, np.array([[7], [14], [21]]) * np.ones((1, 8)))
