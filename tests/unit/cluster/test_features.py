from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from cluster.features import item_features, user_features
from cluster.panel import Calendar, DemandPanel, SeriesIndex

BEFORE = datetime(2024, 3, 1, tzinfo=UTC)
ITEMS = pa.table({"item_id": ["a", "b"], "category_id": ["food", "toys"]})


def orders(*rows):
    """Rows are (order, user, item, days before, amount)."""
    return pa.table(
        {
            "order_id": [row[0] for row in rows],
            "user_id": pa.array([row[1] for row in rows], pa.string()),
            "item_id": [row[2] for row in rows],
            "ordered_at": pa.array([BEFORE - timedelta(days=row[3]) for row in rows], pa.timestamp("us", tz="UTC")),
            "amount": [float(row[4]) for row in rows],
        }
    )


def test_a_users_baskets_frequency_recency_and_taste():
    table = user_features(
        orders(("1", "u", "a", 60, 10), ("1", "u", "b", 60, 20), ("2", "u", "a", 3, 6), ("3", "v", "b", 1, 5)),
        items=ITEMS,
        before=BEFORE,
    )
    first, second = table.to_pylist()
    assert first["user_id"] == "u"
    assert first["num_orders"] == 2
    assert first["mean_basket_value"] == 18
    assert first["orders_per_30_days"] == pytest.approx(1)
    assert first["recency_days"] == pytest.approx(3)
    assert first["preferred_category_id"] == "toys"
    assert first["preferred_category_share"] == pytest.approx(20 / 36)
    assert second["orders_per_30_days"] == pytest.approx(1)  # one day of history is not a month of daily orders


def test_guests_later_rows_and_unknown_items():
    rows = [("1", "u", "a", 5, 10), ("2", None, "a", 5, 10), ("3", "u", "zzz", 4, 90)]
    later = [("4", "u", "b", 0, 99), ("5", "w", "b", -1, 99)]
    table = user_features(orders(*rows, *later), items=ITEMS, before=BEFORE)
    assert table.equals(user_features(orders(*rows), items=ITEMS, before=BEFORE))
    assert table["user_id"].to_pylist() == ["u"]
    assert table["preferred_category_id"].to_pylist() == ["uncategorised"]


def panel(sales_ST, *, period_days=1, **changes):
    sales_ST = np.asarray(sales_ST, dtype=np.float32)
    S, T = sales_ST.shape
    ids = np.array([f"i{row}" for row in range(S)])
    made = DemandPanel(
        index=SeriesIndex(item_ids_S=ids, location_ids_S=np.full(S, "main"), category_ids_S=np.full(S, "c")),
        calendar=Calendar(start_on=date(2024, 1, 1), period_days=period_days),
        sales_ST=sales_ST,
        in_stock_ST=np.ones((S, T), dtype=np.bool_),
        price_ST=np.full((S, T), 2.0, dtype=np.float32),
        promotion_SXP=np.zeros((S, T + 7, 1), dtype=np.float32),
        promotion_names=("display",),
        holiday_X=np.zeros(T + 7, dtype=np.float32),
        notice_periods=7,
    )
    return replace(made, **changes)


def first(made, period):
    return item_features(made, period=period).to_pylist()[0]


def test_level_and_trend_of_a_line():
    row = first(panel([np.arange(200) * 0.5]), 200)
    assert row["level"] == pytest.approx(np.mean(np.arange(172, 200) * 0.5))
    assert row["trend"] == pytest.approx(0.5)


def test_the_weekly_season_starts_on_monday():
    row = first(panel([np.tile([7, 1, 1, 1, 1, 1, 2], 20)]), 140)
    assert np.argmax(row["weekly_season"]) == 0
    assert np.mean(row["weekly_season"]) == pytest.approx(1)
    assert row["weekly_season"][0] / row["weekly_season"][1] == pytest.approx(7, rel=0.2)
    assert first(panel([np.arange(20)], period_days=7), 20)["weekly_season"] == [1] * 7


def test_the_yearly_season_looks_at_the_same_time_last_year():
    summer = np.full(700, 10.0)
    summer[330:400] = 40  # around day 364 of 728
    row = first(panel([summer]), 700)
    assert row["yearly_season"] == pytest.approx(40 / np.mean(summer[154:518]), rel=0.3)
    assert first(panel([summer[:300]]), 300)["yearly_season"] == 1


def test_price_promotion_holiday_and_age():
    sales = np.ones((1, 60))
    sales[0, :10] = 0
    sales[0, 20:30] = 3
    sales[0, 40:42] = 5
    made = panel(sales)
    made.promotion_SXP[0, 20:30] = 0.5
    made.promotion_SXP[0, 60] = 0.8
    made.holiday_X[40:42] = 1
    made.price_ST[0, 30:] = 3.0
    row = first(made, 60)
    assert row["age"] == 50
    assert row["price"] == 3
    assert row["price_change"] == pytest.approx(3 / 2.5 - 1)
    assert row["promotion"] == pytest.approx(0.8)
    assert row["promotion_uplift"] == pytest.approx(3.05 / ((10 + 28 + 2 * 5 - 0) / 50 + 0.05), rel=0.1)
    assert row["holiday"] == 0
    assert row["holiday_uplift"] > 3


def test_only_earlier_periods_count():
    rng = np.random.default_rng(0)
    made = panel(rng.poisson(3, (4, 100)))
    changed = replace(made, sales_ST=made.sales_ST.copy(), price_ST=made.price_ST.copy())
    changed.sales_ST[:, 70:] = 99
    changed.price_ST[:, 70:] = 99
    assert item_features(made, period=70).equals(item_features(changed, period=70))


def test_a_series_that_never_sold():
    row = first(panel(np.zeros((1, 30))), 30)
    assert (row["level"], row["trend"], row["age"]) == (0, 0, 0)
    assert row["weekly_season"] == pytest.approx([1] * 7)
