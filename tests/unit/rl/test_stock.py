from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import DataError, StaleInputError
from cluster.panel import Calendar, SeriesIndex
from rl.stock import make_inventory_state

DAYS = Calendar(start_on=date(2024, 1, 1), period_days=1)
WEEKS = Calendar(start_on=date(2024, 1, 1), period_days=7)
INDEX = SeriesIndex(
    item_ids_S=np.array(["a", "b"]), location_ids_S=np.array(["main", "main"]), category_ids_S=np.array(["x", "x"])
)


def stock(**columns):
    return pa.table({"item_id": ["b", "other", "a"], "on_hand_qty": [2.0, 9.0, 1.0], **columns})


def state_of(stock, open_orders=None, *, calendar=DAYS, period=10):
    return make_inventory_state(stock, open_orders, index=INDEX, calendar=calendar, period=period)


def test_rows_are_matched_by_series_and_others_not_read():
    state = state_of(stock(reserved_qty=[1.0, 0.0, None], backorder_qty=[0.0, 0.0, 3.0]))
    assert state.on_hand_S.tolist() == [1, 2]
    assert state.reserved_S.tolist() == [0, 1]
    assert state.backorder_S.tolist() == [3, 0]
    assert state.on_order_SL.tolist() == [[0], [0]]


@pytest.mark.parametrize(("days_ahead", "column"), [(-30, 0), (0, 0), (1, 0), (2, 1), (5, 4)])
def test_open_orders_arrive_in_their_period_and_overdue_ones_in_the_next(days_ahead, column):
    orders = pa.table(
        {
            "item_id": ["b", "b", "other"],
            "open_qty": [5.0, 2.0, 9.0],
            "expected_on": [DAYS.date_on(10) + timedelta(days=days_ahead)] * 3,
        }
    )
    on_order_SL = state_of(stock(), orders).on_order_SL
    assert on_order_SL[1, column] == 7
    assert on_order_SL.sum() == 7


def test_weeks_are_counted_on_the_calendar():
    orders = pa.table({"item_id": ["a"], "open_qty": [4.0], "expected_on": [WEEKS.date_on(12) + timedelta(days=3)]})
    counted = stock(snapshot_on=[WEEKS.date_on(10) + timedelta(days=1)] * 3)
    assert state_of(counted, orders, calendar=WEEKS).on_order_SL.tolist() == [[0, 4], [0, 0]]


@given(year=st.integers(2100, 9999))
def test_a_far_year_counts_in_the_position_without_a_huge_array(year):
    orders = pa.table({"item_id": ["a"], "open_qty": [4.0], "expected_on": [date(year, 1, 1)]})
    state = state_of(stock(), orders)
    assert state.on_order_SL.shape[1] <= 366
    assert state.inventory_position_S.tolist() == [5, 2]


@pytest.mark.parametrize("days", [-1, 1])
def test_stock_of_another_day_is_stale(days):
    counted = stock(snapshot_on=[DAYS.date_on(10), None, DAYS.date_on(10 + days)])
    with pytest.raises(StaleInputError, match=f"counted on {DAYS.date_on(10 + days)}, the plan is for 2024-01-11"):
        state_of(counted)


def test_a_series_without_a_row_is_named():
    with pytest.raises(DataError, match="item a at main: no stock row"):
        state_of(stock().slice(0, 2))


def test_a_series_with_two_rows_is_named():
    with pytest.raises(DataError, match="item b at main: more than one"):
        state_of(pa.concat_tables([stock(), stock().slice(0, 1)]))


@pytest.mark.parametrize("qty", [-1.0, np.nan, np.inf])
def test_impossible_quantities_name_their_row(qty):
    with pytest.raises(DataError, match=r"stock row 3: on_hand_qty must be a number >= 0"):
        state_of(pa.table({"item_id": ["b", "other", "a"], "on_hand_qty": [2.0, 9.0, qty]}))
