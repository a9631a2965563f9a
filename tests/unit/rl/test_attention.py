"""Marks of plan lines, and what a quantity changed by hand must fit."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import InfeasibleOrderError
from rl.attention import LineTerms, check_line_quantity, mark_lines

TERMS = LineTerms(
    min_order_qty=12, pack_size_qty=6, order_cap_qty=60, storage_capacity_qty=100, inventory_position_qty=50
)


def mark(position, order, *, forecast=40.0, lead=3, protection=4):
    row = {
        "inventory_position_qty": float(position),
        "order_qty": float(order),
        "forecast_qty": forecast,
        "lead_time_days": lead,
        "protection_days": protection,
    }
    marks = mark_lines(pa.Table.from_pylist([row]), overstock_days=30)
    return bool(marks.is_stockout_risk_S[0]), bool(marks.is_overstock_S[0])


@pytest.mark.parametrize(
    ("position", "order", "marks"),
    [
        (29, 30, (True, False)),  # 10 a day for 3 days of lead time
        (30, 10, (False, False)),
        (30, 9, (True, False)),  # 40 until the next one arrives
        (300, 0, (False, False)),
        (301, 0, (False, True)),
    ],
)
def test_marks(position, order, marks):
    assert mark(position, order) == marks


def test_stock_without_demand_is_overstock_and_no_stock_without_demand_is_nothing():
    assert mark(1, 0, forecast=0.0) == (False, True)
    assert mark(0, 0, forecast=0.0) == (False, False)


@pytest.mark.parametrize(
    ("quantity", "message"),
    [(13, "take 12 or 18"), (6, "minimum of 12"), (66, "most per order, 60"), (54, "room for 50")],
)
def test_a_quantity_outside_the_terms_is_refused(quantity, message):
    with pytest.raises(InfeasibleOrderError, match=message):
        check_line_quantity(quantity, TERMS)


@pytest.mark.parametrize("quantity", [0, 12, 48])
def test_what_fits_is_accepted(quantity):
    check_line_quantity(quantity, TERMS)


@given(packs=st.integers(1, 10_000), pack=st.sampled_from([0.1, 0.3, 1 / 3, 1.0, 7.0]))
def test_whole_packs_are_whole_whatever_binary_numbers_make_of_them(packs, pack):
    free = {"min_order_qty": 0.0, "order_cap_qty": 1e9, "storage_capacity_qty": 1e9, "inventory_position_qty": 0.0}
    check_line_quantity(packs * pack, LineTerms(pack_size_qty=pack, **free))
