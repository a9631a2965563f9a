import sqlite3

import polars as pl
import pytest
from small_shop import TODAY, load, make_orders

from cluster.config import load_settings
from cluster.errors import ConfigError, DataError
from cluster.loading import load_dataset
from cluster.settings.data import TableSource
from cluster.shards import run_here
from cluster.sources.sql import check_connection


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "shop.db"
    orders = make_orders().with_columns(pl.col("ordered_at").dt.strftime("%Y-%m-%d %H:%M:%S"))
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE lines (order_id, item_id, user_id, ordered_at, sold_qty, unit_price)")
        connection.executemany("INSERT INTO lines VALUES (?, ?, ?, ?, ?, ?)", orders.rows())
        connection.execute("INSERT INTO lines VALUES ('x', NULL, NULL, '2024-01-05', 1, NULL)")
    connection.close()
    return path


def settings_of(folder, url, query):
    return load_settings(
        overrides=[
            f'home="{folder / "home"}"',
            "data.holidays=",
            f'data.tables.orders.sql_url="{url}"',
            f'data.tables.orders.query="{query}"',
        ]
    )


@pytest.mark.parametrize("query", ["lines", "SELECT * FROM lines"])
def test_a_query_loads_as_a_file_does(tmp_path, database, query, monkeypatch):
    monkeypatch.setenv("SHOP_DATABASE", str(database))
    settings = settings_of(tmp_path, "sqlite:///${SHOP_DATABASE}", query)
    dataset = load_dataset(settings, today=TODAY, run=run_here)
    counts = dataset.report.tables[0]
    assert (counts.rows_in, counts.rows_kept, counts.rows_quarantined) == (181, 180, 1)
    (tmp_path / "file").mkdir()
    from_file = load(tmp_path / "file", orders=make_orders())
    columns = ["order_id", "item_id", "ordered_at", "sold_qty", "amount"]
    ours, theirs = (
        pl.DataFrame(pl.from_arrow(one.table("orders"))).select(columns).sort("order_id")
        for one in (dataset, from_file)
    )
    assert ours.equals(theirs)


def test_the_same_rows_again_are_a_rerun_and_leave_no_copy(tmp_path, database):
    settings = settings_of(tmp_path, f"sqlite:///{database}", "lines")
    first = load_dataset(settings, today=TODAY, run=run_here)
    assert load_dataset(settings, today=TODAY, run=None).digest == first.digest
    assert not list(first.folder.glob("raw*"))
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM lines WHERE order_id = 'x'")
    connection.close()
    assert load_dataset(settings, today=TODAY, run=run_here).digest != first.digest


def test_an_unreachable_database_is_named_without_its_password(tmp_path, monkeypatch):
    monkeypatch.setenv("PASSWORD", "hush")
    settings = settings_of(tmp_path, "sqlite:////no/such/folder/${PASSWORD}.db", "lines")
    with pytest.raises(
        DataError, match=r"data\.tables\.orders: .* does not answer or refuses the query.*restock doctor"
    ):
        load_dataset(settings, today=TODAY, run=run_here)


def test_a_query_that_the_database_refuses(tmp_path, database):
    with pytest.raises(DataError, match="no such table: rows"):
        load_dataset(settings_of(tmp_path, f"sqlite:///{database}", "rows"), today=TODAY, run=run_here)


def test_a_secret_that_is_not_set_is_named(tmp_path):
    with pytest.raises(ConfigError, match="the environment has no variable NO_SUCH_SECRET"):
        load_dataset(settings_of(tmp_path, "sqlite:///${NO_SUCH_SECRET}", "lines"), today=TODAY, run=run_here)


@pytest.mark.parametrize("url", ["hush", "nonsense://user:hush@host/name"])
def test_a_url_that_is_none_is_refused_without_printing_it(url):
    with pytest.raises(ConfigError, match="not a usable SQLAlchemy URL") as caught:
        check_connection("orders", source=TableSource(sql_url=url, query="lines"))
    assert "hush" not in str(caught.value)


def test_a_connection_is_tried_and_shown_as_it_was_written(database, monkeypatch):
    monkeypatch.setenv("SHOP_DATABASE", str(database))
    source = TableSource(sql_url="sqlite:///${SHOP_DATABASE}", query="lines")
    assert check_connection("orders", source=source) == "sqlite:///${SHOP_DATABASE}"


def test_a_password_in_the_url_itself_is_hidden():
    source = TableSource(sql_url="sqlite://user:hush@host/no/such", query="lines")
    with pytest.raises((DataError, ConfigError)) as caught:
        check_connection("orders", source=source)
    assert "hush" not in str(caught.value)
