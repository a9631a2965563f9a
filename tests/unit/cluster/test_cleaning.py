from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.cleaning import flag_outliers, merge_duplicates, merge_rows, net_returns
from cluster.schema import TABLES


def lines(*rows):
    """(day, user, quantity) of item "a" at price 2, each in an order of its own."""
    return pl.DataFrame(
        {
            "order_id": [str(number) for number in range(len(rows))],
            "item_id": "a",
            "location_id": "main",
            "user_id": pl.Series([user for _, user, _ in rows], dtype=pl.String),
            "ordered_at": [datetime(2024, 1, 1) + timedelta(days=day) for day, _, _ in rows],
            "sold_qty": [float(quantity) for _, _, quantity in rows],
            "amount": [2.0 * quantity for _, _, quantity in rows],
            "unit_price": 2.0,
        }
    ).with_columns(pl.col("ordered_at").dt.replace_time_zone("UTC"))


def sold(netted):
    return dict(zip(netted.sales["order_id"], netted.sales["sold_qty"], strict=True))


def test_a_return_is_taken_off_the_latest_sale_that_has_as_many_units():
    netted = net_returns(lines((0, "u", 5), (1, "u", 5), (2, "u", 2), (3, "u", -4)))
    assert sold(netted) == {"0": 5, "1": 1, "2": 2}
    assert netted.sales["amount"].to_list() == [10, 2, 4]
    assert netted.rows_merged == 1
    assert netted.returns["returned_qty"].to_list() == [4]
    assert netted.returns["sold_at"].to_list()[0].day == 2
    assert netted.returns["returned_at"].to_list()[0].day == 4


def test_a_sale_that_is_returned_as_a_whole_disappears():
    netted = net_returns(lines((0, "u", 5), (1, "u", -5)))
    assert netted.sales.height == 0
    assert (netted.rows_merged, netted.unmatched.height) == (2, 0)


def test_a_return_of_several_purchases_is_spread_from_the_latest_on():
    netted = net_returns(lines((0, "u", 3), (1, "u", 3), (2, "u", -5)))
    assert sold(netted) == {"0": 1}
    assert netted.rows_merged == 2


@pytest.mark.parametrize(
    "rows",
    [
        [(0, "u", 3), (1, "u", -4)],  # more than was sold
        [(0, "u", -1), (1, "u", 3)],  # before the sale
        [(0, "u", 3), (1, "v", -1)],  # somebody else's
        [(0, None, 3), (1, None, -1)],  # nobody's
    ],
)
def test_a_return_without_its_sale_changes_nothing(rows):
    netted = net_returns(lines(*rows))
    assert netted.unmatched["sold_qty"].to_list() == [min(quantity for *_, quantity in rows)]
    assert netted.sales["sold_qty"].to_list() == [3]
    assert netted.rows_merged == 0


def net_slowly(frame):
    """The rule, row by row."""
    sales, matched = [], set()
    rows = sorted(frame.with_row_index().iter_rows(named=True), key=lambda row: (row["ordered_at"], row["index"]))
    for row in rows:
        if row["sold_qty"] > 0:
            sales.append([row["order_id"], row["user_id"], row["sold_qty"]])
            continue
        mine = [sale for sale in reversed(sales) if sale[1] == row["user_id"] and row["user_id"]]
        whole = [sale for sale in mine if sale[2] >= -row["sold_qty"]][:1]
        left = -row["sold_qty"]
        if whole or sum(sale[2] for sale in mine) >= left:
            matched.add(row["order_id"])
            for sale in whole or mine:
                part = min(sale[2], left)
                sale[2] -= part
                left -= part
    return {sale[0]: sale[2] for sale in sales if sale[2] > 0}, matched


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["u", "v", None]), st.integers(-4, 6).filter(bool)),
        min_size=1,
        max_size=14,
    )
)
def test_netting_equals_the_slow_loop_and_conserves_units(rows):
    frame = lines(*rows)
    netted = net_returns(frame)
    kept, matched = net_slowly(frame)
    assert sold(netted) == kept
    assert set(netted.unmatched["order_id"]) == {str(i) for i, row in enumerate(rows) if row[2] < 0} - matched
    assert netted.sales["sold_qty"].sum() + netted.unmatched["sold_qty"].sum() == frame["sold_qty"].sum()
    assert netted.sales["amount"].sum() == pytest.approx(2 * netted.sales["sold_qty"].sum())


def test_equal_lines_are_one_line_sent_twice_or_units_scanned_singly():
    frame = pl.concat([lines((0, "u", 2), (1, "u", 1))] * 3).with_columns(_row=pl.row_index())
    once = merge_duplicates(frame, identical="repeat")
    assert once["sold_qty"].to_list() == [2, 1]
    assert once["_row"].to_list() == [0, 1]
    added = merge_duplicates(frame, identical="sum")
    assert added["sold_qty"].to_list() == [6, 3]
    assert added["amount"].to_list() == [12, 6]
    assert added.columns == frame.columns


def test_lines_that_differ_in_one_column_are_not_duplicates():
    frame = lines((0, "u", 2), (0, "u", 2))
    assert merge_duplicates(frame, identical="repeat").height == 2


def test_outliers_are_flagged_and_kept():
    frame = lines(*[(day, "u", 1 + day % 3) for day in range(100)], (100, "u", 24), (101, "u", 23))
    flagged = flag_outliers(frame, iqr=10)
    assert flagged.height == 102
    # Quartiles 1 and 3: the limit is 3 + 10 * 2 = 23.
    assert flagged.filter("is_outlier")["sold_qty"].to_list() == [24]


def test_a_series_that_never_varies_has_a_limit_of_whole_units():
    flagged = flag_outliers(lines(*[(day, "u", 1) for day in range(50)], (50, "u", 12)), iqr=10)
    assert flagged["is_outlier"].sum() == 1
    assert not flag_outliers(lines((0, "u", 1), (1, "u", 11)), iqr=10)["is_outlier"].any()


def rows_of(table, *rows):
    frame = pl.DataFrame(pl.from_arrow(TABLES[table].empty_table()))
    return pl.concat([frame, pl.DataFrame(list(rows))], how="diagonal_relaxed").select(frame.columns)


def test_rows_of_one_item_are_merged_and_fill_each_others_gaps():
    merged = merge_rows(
        rows_of("items", {"item_id": "a", "name": None, "brand": "x"}, {"item_id": "a", "name": "A", "brand": "y"}),
        table="items",
    )
    assert merged.select("item_id", "name", "brand").rows() == [("a", "A", "x")]


def test_equal_open_orders_are_two_orders_unless_their_id_says_otherwise():
    row = {"item_id": "a", "open_qty": 5.0}
    assert merge_rows(rows_of("open_orders", row, row), table="open_orders").height == 2
    known = row | {"open_order_id": "7"}
    assert merge_rows(rows_of("open_orders", known, known, row), table="open_orders").height == 2


def test_no_line_is_lost_among_many_customers_and_returns():
    rng = np.random.default_rng(0)
    size = 200_000
    frame = pl.DataFrame(
        {
            "order_id": [str(number) for number in range(size)],
            "item_id": rng.integers(0, 2_000, size).astype(str),
            "location_id": "main",
            "user_id": rng.integers(0, 2_000, size).astype(str),
            "ordered_at": np.datetime64("2024-01-01", "us") + rng.integers(0, 10**12, size),
            "sold_qty": np.where(rng.random(size) < 0.05, -1.0, 2.0),
            "amount": 1.0,
        }
    )
    netted = net_returns(frame)
    assert netted.sales.height + netted.rows_merged + netted.unmatched.height == size
