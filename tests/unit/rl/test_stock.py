"""From stock and open-order tables to the state that policies see."""

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest
from inventory_cases import make_index

from cluster.errors import DataError, StaleInputError
from cluster.panel import Calendar
from rl.inventory import InventoryState, concatenate_states
from rl.stock import make_inventory_state, make_stock_tables

TODAY = date(2024, 1, 11)
DAILY = Calendar(start_on=date(2024, 1, 1), period_days=1)
WEEKLY = Calendar(start_on=date(2024, 1, 1), period_days=7)
INDEX = make_index("a", "a", "b")


def read(stock, open_orders=None, *, calendar=DAILY, on_date=TODAY, **options):
    orders = None if open_orders is None else pa.table(open_orders)
    return make_inventory_state(pa.table(stock), orders, index=INDEX, calendar=calendar, on_date=on_date, **options)


def stock_of(*on_hand, days=None, **columns):
    items = [f"{number:03d}" for number in range(len(on_hand))]
    return {"item_id": items, "on_hand_qty": on_hand, "snapshot_on": days or [TODAY] * len(on_hand), **columns}


def orders_of(*days_ahead, items=None):
    return {
        "item_id": items or ["001"] * len(days_ahead),
        "open_qty": [10.0 * (number + 1) for number in range(len(days_ahead))],
        "expected_on": [TODAY + timedelta(days=days) for days in days_ahead],
    }


def test_rows_are_matched_by_series():
    stock = {
        "item_id": ["002", "000", "001"],
        "location_id": ["main", None, "main"],
        "on_hand_qty": [7.0, 5.0, 0.0],
        "reserved_qty": [2.0, None, None],
        "backorder_qty": [None, None, 3.0],
        "snapshot_on": [TODAY] * 3,
    }
    reading = read(stock)
    assert reading.state.on_hand_S.tolist() == [5, 0, 7]
    assert reading.state.reserved_S.tolist() == [0, 0, 2]
    assert reading.state.backorder_S.tolist() == [0, 3, 0]
    assert reading.state.on_order_SL.tolist() == [[0], [0], [0]]
    assert reading.notes == ()
    assert reading.remark_S == ["", "", ""]


def test_open_orders_arrive_on_their_day_and_add_up():
    reading = read(stock_of(1.0, 1.0, 1.0), orders_of(1, 3, 3))
    assert reading.state.on_order_SL.tolist() == [[0, 0, 0], [10, 0, 50], [0, 0, 0]]
    assert reading.overdue_S.tolist() == [0, 0, 0]


def test_overdue_orders_count_as_arriving_next_period_and_are_flagged():
    reading = read(stock_of(1.0, 1.0, 1.0), orders_of(-4, 0, 2))
    assert reading.state.on_order_SL[1].tolist() == [30, 30]
    assert reading.overdue_S.tolist() == [0, 30, 0]
    assert reading.remark_S[1] == "30 units on order are overdue."
    assert reading.notes == (
        "open_orders: 2 orders (30 units) were due by 2024-01-11 and are still open: counted as arriving next period.",
    )


def test_orders_beyond_any_horizon_still_count():
    reading = read(stock_of(1.0, 1.0, 1.0), orders_of(1, 200, 900_000))
    assert reading.state.inventory_position_S.tolist() == [1, 61, 1]
    assert reading.state.on_order_SL.shape[1] <= 60
    assert reading.state.on_order_SL[1, -1] == 50


def test_weeks_on_a_weekly_panel():
    monday = date(2024, 1, 8)
    orders = {
        "item_id": ["001"] * 3,
        "open_qty": [1.0, 2.0, 4.0],
        "expected_on": [monday + timedelta(days=days) for days in (5, 7, 15)],
    }
    reading = read(stock_of(0.0, 0.0, 0.0, days=[monday] * 3), orders, calendar=WEEKLY, on_date=monday)
    assert reading.state.on_order_SL[1].tolist() == [3, 4]
    assert reading.overdue_S.sum() == 0


def test_series_without_a_stock_row_are_assumed_empty_and_said_so():
    reading = read(stock_of(4.0))
    assert reading.state.on_hand_S.tolist() == [4, 0, 0]
    assert reading.is_assumed_S.tolist() == [False, True, True]
    assert reading.notes == ("stock: no row for 2 series (001, 002): 0 units assumed.",)
    assert reading.remark_S == ["", "No stock was reported: 0 is assumed.", "No stock was reported: 0 is assumed."]


def test_unknown_items_are_reported_not_dropped_in_silence():
    stock = stock_of(*[1.0] * 10)
    reading = read(stock, orders_of(1, items=["zzz"]))
    assert reading.notes == (
        "stock: 7 rows name series that the history lacks (003, 004, 005, 006, 007, ...): not planned.",
        "open_orders: 1 rows name series that the history lacks (zzz): not planned.",
    )
    assert reading.state.on_order_SL.sum() == 0


@pytest.mark.parametrize("days", [[TODAY - timedelta(days=1)] * 3, [TODAY, TODAY, TODAY + timedelta(days=3)]])
def test_a_snapshot_of_another_day_is_stale(days):
    with pytest.raises(StaleInputError, match=r"shelf.csv: the snapshot is of .* but the plan is for 2024-01-11"):
        read(stock_of(1.0, 1.0, 1.0, days=days), stock_source="shelf.csv")


def test_a_snapshot_without_dates_is_taken_to_be_of_the_day():
    assert read(stock_of(1.0, 1.0, 1.0, days=pa.nulls(3, pa.date32()))).notes == ()


@pytest.mark.parametrize(
    ("stock", "message"),
    [
        (stock_of(1.0, -2.0, 1.0), r"stock row 2: on_hand_qty must be a number >= 0 \(got -2\).*backorder_qty"),
        (stock_of(1.0, None, 1.0), r"stock row 2: on_hand_qty must be a number >= 0 \(got nan\)"),
        (stock_of(1.0, 1.0, 1.0, reserved_qty=[0.0, 0.0, np.inf]), "stock row 3: reserved_qty must be a number"),
        ({**stock_of(1.0, 1.0), "item_id": ["001", "001"]}, "stock row 2: item 001 at main is already in row 1"),
        (pa.table(stock_of(1.0)).slice(1), "stock: has no rows"),
    ],
)
def test_bad_rows_are_named(stock, message):
    with pytest.raises(DataError, match=message):
        read(stock)


def test_an_open_order_without_a_day_is_named():
    orders = {"item_id": ["001"], "open_qty": [1.0], "expected_on": pa.nulls(1, pa.date32())}
    with pytest.raises(DataError, match="open_orders row 1: expected_on is missing"):
        read(stock_of(1.0), orders)


@pytest.mark.parametrize("calendar", [DAILY, WEEKLY], ids=["daily", "weekly"])
def test_a_state_survives_its_tables(calendar):
    state = InventoryState(
        on_hand_S=np.array([3, 0, 8], dtype=np.float32),
        on_order_SL=np.array([[0, 4, 0], [0, 0, 0], [1, 0, 2]], dtype=np.float32),
        backorder_S=np.array([0, 2, 0], dtype=np.float32),
        reserved_S=np.array([1, 0, 0], dtype=np.float32),
    )
    on_date = calendar.date_on(3)
    stock, open_orders = make_stock_tables(state, index=INDEX, calendar=calendar, on_date=on_date)
    again = make_inventory_state(stock, open_orders, index=INDEX, calendar=calendar, on_date=on_date)
    for name in ("on_hand_S", "on_order_SL", "backorder_S", "reserved_S"):
        np.testing.assert_array_equal(getattr(again.state, name), getattr(state, name))
    assert again.notes == ()


def test_states_are_joined_and_short_pipelines_continued():
    def state(on_hand, pipeline):
        row = np.array([pipeline], dtype=np.float32)
        one = np.array([on_hand], dtype=np.float32)
        return InventoryState(on_hand_S=one, on_order_SL=row, backorder_S=one * 0, reserved_S=one * 0)

    joined = concatenate_states([state(1, [5]), state(2, [6, 7])])
    assert joined.on_hand_S.tolist() == [1, 2]
    assert joined.on_order_SL.tolist() == [[5, 0], [6, 7]]
