"""Supply terms: what the shop says, what is assumed, and the sentence for it."""

from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from inventory_cases import make_panel

from cluster.config import Settings
from cluster.errors import DataError
from cluster.settings.models import AssumptionSettings
from rl.assumptions import make_supply_terms
from rl.constraints import is_review_period_S

RULES = AssumptionSettings(
    unit_cost_share=0.5,
    holding_share_per_day=0.02,
    lost_sale_share=0.8,
    fixed_order_cost=1.5,
    lead_time_days=(2, 5),
    pack_sizes=(6, 1, 12),
    pack_cover_days=3.0,
    capacity_days=30.0,
)
SETTINGS = Settings(assumptions=RULES)


def terms_of(panel, table=None):
    return make_supply_terms(None if table is None else pa.table(table), panel=panel, settings=SETTINGS)


def test_everything_is_assumed_by_the_stated_rule():
    panel = make_panel(np.repeat([[0.5], [2], [10]], 20, axis=1), categories=["b", "a", "b"])
    terms, notes = terms_of(panel)
    assert terms.lead_time_S.tolist() == [5, 2, 5]
    assert terms.review_period_S.tolist() == [1, 1, 1]
    assert terms.pack_size_S.tolist() == [1, 6, 12]
    assert terms.mean_demand_S.tolist() == [0.5, 2, 10]
    assert terms.storage_capacity_S.tolist() == [15, 60, 300]
    assert np.isinf(terms.order_cap_S).all()
    assert terms.costs.unit_cost_S.tolist() == [5, 5, 5]
    np.testing.assert_allclose(terms.costs.holding_S, 0.1)
    np.testing.assert_allclose(terms.costs.lost_sale_S, 4)
    np.testing.assert_allclose(terms.costs.fixed_order_S, 1.5)
    assert "Assumed for 3 of 3 series: lead time: 2, 5 days, dealt out to the categories in id order." in notes
    assert "Assumed for 3 of 3 series: unit cost: 0.5 of the median price." in notes
    assert len(notes) == 10


def test_given_values_are_taken_and_only_gaps_are_assumed():
    panel = make_panel(np.full((3, 20), 2.0))
    table = {
        "item_id": ["002", "unheard", "000"],
        "lead_time_days": [4.0, 1.0, None],
        "unit_cost": [2.0, 1.0, 3.0],
        "lost_sale_cost": [None, 1.0, 7.0],
    }
    terms, notes = terms_of(panel, table)
    assert terms.lead_time_S.tolist() == [2, 2, 4]
    assert terms.costs.unit_cost_S.tolist() == [3, 5, 2]
    np.testing.assert_allclose(terms.costs.lost_sale_S, [7, 4, 6.4])
    np.testing.assert_allclose(terms.costs.holding_S, [0.06, 0.1, 0.04])
    assert "1 rows of supply_terms name series without history: not used." in notes
    assert any(note.startswith("Assumed for 2 of 3 series: lead time") for note in notes)
    assert any(note.startswith("Assumed for 1 of 3 series: unit cost") for note in notes)


def test_complete_terms_need_no_assumption():
    table = {
        "item_id": ["000"],
        "location_id": ["main"],
        "lead_time_days": [2.0],
        "review_period_days": [3.0],
        "next_review_on": [date(2024, 1, 12)],
        "min_order_qty": [4.0],
        "pack_size_qty": [2.0],
        "order_cap_qty": [50.0],
        "storage_capacity_qty": [80.0],
        "unit_cost": [2.0],
        "holding_cost": [0.5],
        "lost_sale_cost": [3.0],
        "fixed_order_cost": [0.0],
    }
    terms, notes = terms_of(make_panel(np.ones((1, 20))), table)
    assert notes == ()
    assert [period for period in range(9) if is_review_period_S(terms, period=period)[0]] == [2, 5, 8]
    assert terms.costs.holding_S[0] == np.float32(0.5)


def test_days_become_weeks_on_a_weekly_panel():
    panel = make_panel(np.full((2, 20), 14.0), period_days=7)
    table = {"item_id": ["000"], "lead_time_days": [8.0], "review_period_days": [7.0], "holding_cost": [0.5]}
    terms, _ = terms_of(panel, table)
    assert terms.lead_time_S.tolist() == [2, 1]
    assert terms.review_period_S.tolist() == [1, 1]
    assert terms.pack_size_S.tolist() == [6, 6]
    assert terms.storage_capacity_S.tolist() == [60, 60]
    np.testing.assert_allclose(terms.costs.holding_S, [3.5, 0.7])


def test_the_first_period_after_the_history_is_an_order_day_unless_one_is_given():
    terms, notes = terms_of(make_panel(np.ones((1, 20))), {"item_id": ["000"], "review_period_days": [7.0]})
    assert is_review_period_S(terms, period=20).all()
    assert "Assumed for 1 of 1 series: order day: the first period after the history is one." in notes


def test_only_the_given_history_is_read():
    sales_ST = np.ones((2, 30))
    sales_ST[:, 20:] = 50
    price_ST = np.where(np.arange(30) < 20, 10, 99) * np.ones((2, 1))
    late, early = make_panel(sales_ST, price=price_ST), make_panel(sales_ST[:, :20], price=price_ST[:, :20])
    a, b = terms_of(late.until(20))[0], terms_of(early)[0]
    np.testing.assert_array_equal(a.mean_demand_S, b.mean_demand_S)
    np.testing.assert_array_equal(a.costs.unit_cost_S, b.costs.unit_cost_S)


def test_mean_demand_counts_from_the_first_sale_in_periods_in_stock():
    sales_ST = np.array([[0, 0, 3, 0, 3, 0, 6, 4], [0] * 8])
    in_stock_ST = np.ones((2, 8), dtype=bool)
    in_stock_ST[0, 3] = False
    terms, _ = terms_of(make_panel(sales_ST, in_stock_ST=in_stock_ST))
    np.testing.assert_allclose(terms.mean_demand_S, [16 / 5, 0])
    assert terms.storage_capacity_S[1] == 2


def test_series_without_a_price_take_the_usual_one():
    price = np.array([[8.0], [0.0], [12.0], [np.nan]])
    terms, notes = terms_of(make_panel(np.ones((4, 5)), price=price))
    assert terms.costs.unit_cost_S.tolist() == [4, 5, 6, 5]
    assert "Assumed for 2 of 4 series: price: 10.00, the median over series, where no sale shows a price." in notes


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("pack_size_qty", 0.0, r"supply_terms row 2: pack_size_qty must be > 0 \(got 0\); correct the 1 such rows"),
        ("lead_time_days", -1.0, r"supply_terms row 2: lead_time_days must be >= 0 \(got -1\)"),
        ("unit_cost", -2.5, r"supply_terms row 2: unit_cost must be >= 0 \(got -2.5\)"),
        ("lead_time_days", 40.0, r"supply_terms row 2: .* must last 41 periods .* raise forecast.horizon to 41"),
    ],
)
def test_a_bad_row_is_named(column, value, message):
    with pytest.raises(DataError, match=message):
        terms_of(make_panel(np.ones((2, 5))), {"item_id": ["000", "001"], column: [1.0, value]})


def test_two_rows_of_one_series_are_refused():
    with pytest.raises(DataError, match="row 3: item 001 at main is already in row 1"):
        terms_of(make_panel(np.ones((2, 5))), {"item_id": ["001", "000", "001"], "location_id": [None, None, "main"]})
