"""Any long-format table becomes a panel: gaps are zeros, terms are numbers or columns, errors name the row."""

import argparse
import re

import numpy as np
import polars as pl
import pytest

from benchmarks.panels import check_arguments, load_table_input
from cluster.errors import ConfigError, DataError

ROWS = {
    "sku": ["b", "a", "b", "a", "b"],
    "week": ["2024-01-01", "2024-01-08", "2024-01-22", "2024-01-08", "2024-02-05"],
    "units": [3, 4, 5, 1, 2],
    "cost": [0.5, 0.25, 0.5, 0.25, 0.5],
    "weeks": [2, 1, 2, 1, 2],
    "group": ["x", "y", "x", "y", "x"],
}


def load(tmp_path, rows=None, **changes):
    path = tmp_path / "sales.csv"
    pl.DataFrame(ROWS if rows is None else rows).write_csv(path)
    given = {
        "csv": str(path),
        "id": "sku",
        "time": "week",
        "target": "units",
        "category": None,
        "freq": "W",
        "lead_time": "2",
        "review_period": "1",
        "holding": "1",
        "penalty": "9",
        "fixed": "0",
    }
    return load_table_input(argparse.Namespace(**{**given, **changes}), home=tmp_path, sets=[])


def test_missing_rows_are_zero_and_rows_of_one_period_add_up(tmp_path):
    panel = load(tmp_path).panel
    assert panel.index.item_ids_S.tolist() == ["a", "b"]
    np.testing.assert_array_equal(panel.sales_ST, [[0, 5, 0, 0, 0, 0], [3, 0, 0, 5, 0, 2]])
    assert panel.calendar.period_days == 7
    assert str(panel.calendar.date_on(1)) == "2024-01-08"


def test_days(tmp_path):
    panel = load(tmp_path, freq="D").panel
    assert panel.num_periods == 36
    assert panel.sales_ST[1, 21] == 5


@pytest.mark.parametrize("times", [[7, 8, 10, 8, 12], [20240101, 20240108, 20240122, 20240108, 20240205]])
def test_periods_and_dates_as_numbers(tmp_path, times):
    panel = load(tmp_path, {**ROWS, "week": times}).panel
    np.testing.assert_array_equal(panel.sales_ST, [[0, 5, 0, 0, 0, 0], [3, 0, 0, 5, 0, 2]])


def test_terms_are_numbers_or_columns(tmp_path):
    given = load(tmp_path, holding="cost", lead_time="weeks", penalty="7.5", fixed="2", category="group")
    terms = given.make_terms(given.panel.until(4))
    assert terms.lead_time_S.tolist() == [1, 2]
    assert terms.costs.holding_S.tolist() == [0.25, 0.5]
    assert terms.costs.lost_sale_S.tolist() == [7.5, 7.5]
    assert terms.costs.fixed_order_S.tolist() == [2, 2]
    assert terms.mean_demand_S.tolist() == pytest.approx([5 / 3, 2]), "master data know nothing after the fourth week"
    assert given.panel.index.category_ids_S.tolist() == ["y", "x"]


def test_the_digest_is_of_rows_and_terms(tmp_path):
    digests = {load(tmp_path).digest, load(tmp_path, holding="2").digest, load(tmp_path, freq="D").digest}
    digests.add(load(tmp_path, {**ROWS, "units": [3, 4, 5, 1, 9]}).digest)
    assert len(digests) == 4
    assert load(tmp_path).digest in digests


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        ({}, {"target": "qty"}, "has no column 'qty'; it has sku, week"),
        ({}, {"holding": "price"}, "has no column 'price'"),
        ({"week": ["2024-01-01", "2024-01-08", "soon", "2024-01-08", "2024-02-05"]}, {}, "row 3: week is 'soon'"),
        ({"units": [3, -4, 5, 1, 2]}, {}, "row 2: units is -4"),
        ({"units": ["3", "4", "many", "1", "2"]}, {}, "row 3: units is 'many'"),
        (
            {"cost": [0.5, 0.25, 0.75, 0.25, 0.5]},
            {"holding": "cost"},
            "'cost' (--holding) has 2 numbers for series 'b'",
        ),
        ({"cost": [0.5, None, 0.5, None, 0.5]}, {"holding": "cost"}, "has 0 numbers for series 'a'"),
        ({}, {"lead_time": "1.5"}, "--lead-time: must be a whole number of periods >= 0 for every series, got 1.5"),
        ({}, {"review_period": "0"}, "--review-period: must be a whole number of periods >= 1"),
        ({}, {"penalty": "-1"}, "--penalty: must be >= 0 for every series, lowest is -1"),
    ],
)
def test_errors_say_what_and_where(tmp_path, rows, changes, message):
    with pytest.raises(DataError, match=re.escape(message)):
        load(tmp_path, {**ROWS, **rows}, **changes)


def test_no_file_and_no_rows(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path, csv=str(tmp_path / "none.csv"))
    with pytest.raises(DataError, match="has no rows"):
        load(tmp_path, pl.DataFrame(ROWS).clear().to_dict(as_series=False))


def test_a_command_line_without_terms():
    given = dict.fromkeys(["id", "time", "target", "lead_time", "review_period", "holding", "penalty"], "1")
    check_arguments(argparse.Namespace(csv=None))
    check_arguments(argparse.Namespace(csv="x.csv", **given))
    with pytest.raises(ConfigError, match="--csv x.csv: --lead-time missing"):
        check_arguments(argparse.Namespace(csv="x.csv", **{**given, "lead_time": None}))
