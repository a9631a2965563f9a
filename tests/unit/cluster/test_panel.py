from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.panel import Calendar, DemandPanel, SeriesIndex


def make_panel(num_series=3, num_periods=20, ahead=10, notice=4):
    generator = np.random.default_rng(0)
    ids = np.array([f"i{s}" for s in range(num_series)])
    return DemandPanel(
        index=SeriesIndex(item_ids_S=ids, location_ids_S=np.full(num_series, "main"), category_ids_S=ids),
        calendar=Calendar(start_on=date(2017, 1, 1), period_days=1),
        sales_ST=generator.poisson(2, (num_series, num_periods)).astype(np.float32),
        in_stock_ST=np.ones((num_series, num_periods), dtype=bool),
        price_ST=np.ones((num_series, num_periods), dtype=np.float32),
        promotion_SXP=generator.random((num_series, num_periods + ahead, 2)).astype(np.float32),
        promotion_names=("display", "mailer"),
        holiday_X=np.zeros(num_periods + ahead, dtype=np.float32),
        notice_periods=notice,
    )


@given(period=st.integers(1, 20))
def test_a_decision_sees_history_before_it_and_covariates_up_to_the_notice(period):
    view = make_panel().until(period)
    assert view.num_periods == period
    assert view.promotion_SXP.shape[1] == len(view.holiday_X) == min(period + 4, 30)


@pytest.mark.parametrize("period", [0, -1, 21])
def test_a_view_outside_history_is_refused(period):
    with pytest.raises(ValueError, match=r"period must be in 1\.\.20"):
        make_panel().until(period)


def test_positions_find_series_and_mark_strangers():
    index = make_panel().index
    assert index.positions(["i2", "nobody", "i0"], ["main", "main", "elsewhere"]).tolist() == [2, -1, -1]


def test_first_sale_is_the_end_where_nothing_sold():
    panel = make_panel()
    panel.sales_ST[0] = 0
    panel.sales_ST[1, :7] = 0
    panel.sales_ST[1, 7] = 1
    assert panel.first_sale_S.tolist()[:2] == [20, 7]


@given(days=st.integers(-30, 400), weekly=st.booleans())
def test_dates_and_periods_are_inverse(days, weekly):
    calendar = Calendar(start_on=date(2017, 1, 1), period_days=7 if weekly else 1)
    period = calendar.period_of(calendar.date_on(days))
    assert period == days


def test_take_keeps_rows_in_the_order_given():
    panel = make_panel()
    taken = panel.take(np.array([2, 0]))
    assert taken.index.item_ids_S.tolist() == ["i2", "i0"]
    assert (taken.sales_ST == panel.sales_ST[[2, 0]]).all()
