import gzip
from datetime import date, datetime

import polars as pl
import pytest
from small_shop import START, TODAY, load, make_orders, make_settings, quarantined

from cluster.errors import DataError, QualityError, SchemaError
from cluster.loading import load_dataset
from cluster.shards import run_here
from cluster.sources.files import read_table


def run(folder, *overrides, **tables):
    return load_dataset(make_settings(folder, *overrides, **tables), today=TODAY, run=run_here)


def orders_of(dataset):
    return pl.DataFrame(pl.from_arrow(dataset.table("orders"))).sort("order_id")


def test_csv_parquet_gzip_glob_folder_and_uri_give_the_same_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("RESTOCK_USER_KEY", "one key for all homes")
    orders = make_orders(num_days=40)
    parts = tmp_path / "parts"
    parts.mkdir()
    orders[:50].write_csv(parts / "one.csv")
    orders[50:].write_csv(parts / "two.csv")
    orders.write_parquet(tmp_path / "all.parquet", row_group_size=7)
    (tmp_path / "all.csv.gz").write_bytes(gzip.compress(orders.write_csv().encode()))
    sources = [
        parts,
        f"{parts}/*.csv",
        tmp_path / "all.parquet",
        tmp_path / "all.csv.gz",
        f"file://{tmp_path}/all.parquet",
    ]
    tables = [orders_of(run(tmp_path / str(number), orders=source)) for number, source in enumerate(sources)]
    assert tables[0].height == orders.height
    for table in tables[1:]:
        assert table.equals(tables[0])


def test_ids_that_look_like_numbers_in_one_file_and_words_in_another_are_text_in_both(tmp_path):
    orders = make_orders()
    (tmp_path / "parts").mkdir()
    orders.with_columns(order_id=pl.row_index() + 100).write_csv(tmp_path / "parts" / "a.csv")
    orders.with_columns(order_id=pl.format("C{}", pl.row_index())).write_csv(tmp_path / "parts" / "b.csv")
    ids = orders_of(run(tmp_path, orders=tmp_path / "parts"))["order_id"].to_list()
    assert "100" in ids
    assert "C0" in ids


def test_a_missing_column_is_named_with_the_one_that_was_meant(tmp_path):
    make_orders().rename({"sold_qty": "Sold Qty"}).write_csv(tmp_path / "orders.csv")
    with pytest.raises(SchemaError, match=r"orders\.csv.*'sold_qty'.*did you mean 'Sold Qty'.*columns\.sold_qty"):
        run(tmp_path, orders=tmp_path / "orders.csv")


def test_a_mapping_to_a_column_that_is_not_there_is_named(tmp_path):
    make_orders().write_csv(tmp_path / "orders.csv")
    with pytest.raises(SchemaError, match="no column 'sold_qt', which data.tables.orders.columns.sold_qty.*'sold_qty'"):
        run(tmp_path, "data.tables.orders.columns.sold_qty=sold_qt", orders=tmp_path / "orders.csv")


def test_a_mapping_of_a_column_that_we_do_not_have_is_named(tmp_path):
    make_orders().write_csv(tmp_path / "orders.csv")
    with pytest.raises(SchemaError, match="we have no column 'quantity_sold'"):
        run(tmp_path, "data.tables.orders.columns.quantity_sold=sold_qty", orders=tmp_path / "orders.csv")


def test_an_unknown_table_is_named(tmp_path):
    make_orders().write_csv(tmp_path / "orders.csv")
    with pytest.raises(SchemaError, match="no such table; did you mean 'promotions'"):
        run(tmp_path, orders=tmp_path / "orders.csv", promotion=tmp_path / "orders.csv")


def test_names_and_constants_are_mapped(tmp_path):
    shop = make_orders().rename({"item_id": "SKU", "unit_price": "Price"}).drop("user_id")
    dataset = load(
        tmp_path,
        "data.tables.orders.columns.item_id=SKU",
        "data.tables.orders.columns.unit_price=Price",
        "data.tables.orders.constants.user_id=till",
        "data.tables.orders.constants.location_id=east",
        orders=shop,
    )
    table = orders_of(dataset)
    assert set(table["user_id"]) == {"till"}
    assert set(table["location_id"]) == {"east"}
    assert table["amount"].sum() == pytest.approx(60 * (2 * 1 + 4 * 2 + 6 * 3))


def test_a_column_of_another_type_is_an_error_and_a_few_cells_are_quarantined(tmp_path):
    words = make_orders().with_columns(sold_qty=pl.lit("three"))
    with pytest.raises(SchemaError, match="no value of column 'sold_qty' can be read as double.*'three'"):
        load(tmp_path, orders=words)
    cells = make_orders().with_columns(
        sold_qty=pl.when(pl.row_index() == 4).then(pl.lit("three")).otherwise(pl.lit("1"))
    )
    rows = quarantined(load(tmp_path, orders=cells))
    assert rows.select("row", "rule", "sold_qty").rows() == [(5, "sold_qty_type", "three")]
    assert rows["file"][0].endswith("orders.parquet")


@pytest.mark.parametrize(
    ("form", "override"),
    [
        ("%Y-%m-%d %H:%M:%S", None),
        ("%Y-%m-%dT%H:%M", None),
        ("%Y%m%d", None),
        ("%Y-%m-%dT%H:%M:%S+00:00", None),
        ("%m/%d/%Y %H:%M", "data.tables.orders.datetime_format=%m/%d/%Y %H:%M"),
    ],
)
def test_dates_written_as_text(tmp_path, form, override):
    orders = make_orders().with_columns(pl.col("ordered_at").dt.strftime(form))
    dataset = load(tmp_path, *([override] if override else []), orders=orders)
    assert dataset.report.tables[0].rows_quarantined == 0
    assert (dataset.calendar.start_on, dataset.num_periods) == (START.date(), 60)


def test_local_times_become_utc_instants_and_local_days(tmp_path):
    orders = make_orders().with_columns(pl.col("ordered_at").dt.offset_by("10h"))  # 22:00 in New York
    dataset = load(tmp_path, "data.timezone=America/New_York", orders=orders)
    assert orders_of(dataset)["ordered_at"].min().hour == 3
    assert (dataset.calendar.start_on, dataset.num_periods) == (START.date(), 60)


def test_an_hour_that_the_clock_skips_is_still_a_sale(tmp_path):
    orders = make_orders(num_days=80).with_columns(
        ordered_at=pl.when(pl.row_index() == 0).then(datetime(2024, 3, 10, 2, 30)).otherwise("ordered_at")
    )
    dataset = load(tmp_path, "data.timezone=America/New_York", orders=orders)
    assert dataset.report.tables[0].rows_kept == orders.height


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "orders.csv", "is empty"),
        (b"order_id,item_id,ordered_at,sold_qty\n", "orders.csv", "there is no order in it"),
        (b"order_id;item_id;ordered_at;sold_qty\n1;2;3;4\n", "orders.csv", "seems split by ';'.*delimiter"),
        (b"order_id,item_id,ordered_at,sold_qty\n1,2,2024-01-01,4,5\n", "orders.csv", "not readable as CSV"),
        (b"order_id,item_id,ordered_at,sold_qty\n1,\xff\xfe,2024-01-01,4\n", "orders.csv", "UTF-8"),
        (b"", "orders.parquet", "not a readable Parquet file"),
        (b"PAR1 and then nothing PAR1", "orders.parquet", "not a readable Parquet file"),
        (b"hello", "orders.xlsx", "neither CSV nor Parquet"),
    ],
)
def test_a_file_that_is_not_what_it_says(tmp_path, content, name, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        run(tmp_path, orders=tmp_path / name)
    assert name in str(caught.value)


def test_a_parquet_file_damaged_in_the_middle(tmp_path):
    path = tmp_path / "orders.parquet"
    make_orders(num_days=400).write_parquet(path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[100:600] = b"\xff" * 500
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"orders\.parquet: damaged Parquet file.*export it again"):
        run(tmp_path, orders=path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"data\.tables\.orders\.uri=.*nowhere\.csv: no such file"):
        run(tmp_path, orders=tmp_path / "nowhere.csv")


def test_an_unknown_protocol(tmp_path):
    with pytest.raises(DataError, match="cannot be listed|install the package"):
        run(tmp_path, orders="nonsense://bucket/orders.csv")


def test_a_table_for_a_verb_has_every_column_in_its_type(tmp_path):
    (tmp_path / "stock.csv").write_text("item_id,on_hand_qty,snapshot_on\n007,5,2024-02-01\n")
    table = read_table("stock", tmp_path / "stock.csv")
    assert table.to_pylist() == [
        {
            "item_id": "007",
            "location_id": "main",
            "on_hand_qty": 5.0,
            "reserved_qty": None,
            "backorder_qty": None,
            "snapshot_on": date(2024, 2, 1),
        }
    ]


def test_an_empty_list_of_open_orders_is_a_table_without_rows(tmp_path):
    (tmp_path / "open.csv").write_text("item_id,open_qty,expected_on\n")
    table = read_table("open_orders", tmp_path / "open.csv")
    assert table.num_rows == 0
    assert "open_order_id" in table.column_names


def test_a_wrong_row_of_a_table_for_a_verb_stops_it_with_file_row_and_value(tmp_path):
    (tmp_path / "terms.csv").write_text("item_id,pack_size_qty\na,6\nb,0\nc,0\n")
    with pytest.raises(
        QualityError, match=r"terms\.csv row 2: pack_size_qty must be > 0 \(got pack_size_qty='0'\); 1 more rows"
    ):
        read_table("supply_terms", tmp_path / "terms.csv")
