"""Any long-format table becomes a panel, or the message says what is wrong with it."""

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.forecast_panels import TableColumns, load_table
from cluster.errors import DataError

COLUMNS = TableColumns(id="shop_item", time="day", target="units", known=("promo",))


def write(path: Path, **columns: list[object]) -> Path:
    table = {
        "shop_item": ["b", "a", "a", "b", "b"],
        "day": ["2024-01-03", "2024-01-01", "2024-01-09", "2024-01-03", "2024-01-04"],
        "units": [2.0, 5.0, 1.0, 3.0, -4.0],
        "promo": [0.5, 0.0, None, 0.5, 2.0],
    }
    pl.DataFrame(table | columns).write_csv(path)
    return path


def test_gaps_are_filled_rows_of_a_day_add_up_and_returns_sell_nothing(tmp_path: Path) -> None:
    panel, notes = load_table(write(tmp_path / "sales.csv"), COLUMNS, weekly=False)
    assert panel.index.item_ids_S.tolist() == ["a", "b"]
    assert panel.calendar.start_on == date(2024, 1, 1)
    assert panel.sales_ST[0].tolist() == [5, 0, 0, 0, 0, 0, 0, 0, 1]
    assert panel.sales_ST[1].tolist() == [0, 0, 5, 0, 0, 0, 0, 0, 0]
    # Scaled by the largest value; what is missing is none.
    assert panel.promotion_SXP[1, :5, 0].tolist() == [0, 0, 0.25, 1, 0]
    assert panel.promotion_SXP[0].max() == 0
    assert notes == ["1 rows below zero count as nothing sold"]


def test_weeks_count_from_the_first_day(tmp_path: Path) -> None:
    panel, _ = load_table(write(tmp_path / "sales.csv"), COLUMNS, weekly=True)
    assert panel.calendar.period_days == 7
    assert panel.sales_ST.tolist() == [[5, 1], [5, 0]]


def test_units_that_are_no_numbers_are_counted_and_told(tmp_path: Path) -> None:
    path = write(tmp_path / "sales.csv", units=["2", "many", "", "3", "1"])
    panel, notes = load_table(path, COLUMNS, weekly=False)
    assert panel.sales_ST.sum() == 6
    assert notes == ["2 rows without a number count as nothing sold"]


def test_missing_covariates_are_none(tmp_path: Path) -> None:
    columns = TableColumns(id="shop_item", time="day", target="units")
    panel, _ = load_table(write(tmp_path / "sales.csv"), columns, weekly=False)
    assert panel.promotion_SXP.shape == (2, 9, 0)
    assert np.isnan(panel.price_ST).all()
    assert set(panel.index.category_ids_S.tolist()) == {"all"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"day": ["2024-01-03", "soon", "2024-01-09", "2024-01-03", "2024-01-04"]}, "row 2: day is 'soon'"),
        ({"shop_item": [None] * 5}, "has no rows"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, changed: dict[str, list[object]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_table(write(tmp_path / "sales.csv", **changed), COLUMNS, weekly=False)


def test_an_unknown_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    columns = TableColumns(id="sku", time="day", target="units")
    with pytest.raises(DataError, match="no column 'sku'; it has shop_item, day"):
        load_table(write(tmp_path / "sales.csv"), columns, weekly=False)
    with pytest.raises(DataError, match="cannot be read"):
        load_table(tmp_path / "nothing.csv", COLUMNS, weekly=False)
