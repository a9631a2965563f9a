"""Features know nothing of what comes after them."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from forecast_panels import make_panel

from cluster.errors import DataError
from cluster.panel import Calendar, DemandPanel
from forecasting.features import (
    PRIOR_PERIODS,
    KnownRows,
    SeriesFeatures,
    calendar_features,
    make_features,
    plain_level_S,
)
from forecasting.rows import SharedInputs, features_of_columns, features_of_table, make_columns, series_table


def known_rows(panel: DemandPanel, level: float = 1.0) -> KnownRows:
    rows = np.arange(panel.num_series)
    return KnownRows(
        series_row_S=rows, category_row_S=rows, prior_level_S=np.full(panel.num_series, level, dtype=np.float32)
    )


def features_of(panel: DemandPanel, *, level: float = 1.0) -> SeriesFeatures:
    return make_features(panel, known=known_rows(panel, level), yearly=False)


@pytest.mark.parametrize("period_days", [1, 7])
@pytest.mark.parametrize("cut", [1, 5, 23, 59])
def test_features_of_a_view_are_the_first_columns_of_those_of_the_whole(cut: int, period_days: int) -> None:
    panel = make_panel(period_days=period_days)
    whole, view = features_of(panel), features_of(panel.until(cut))
    for name in ("own_STC", "demand_ST", "censored_ST"):
        np.testing.assert_array_equal(getattr(whole, name)[:, :cut], getattr(view, name), err_msg=name)
    np.testing.assert_array_equal(whole.level_SU[:, : cut + 1], view.level_SU)
    np.testing.assert_array_equal(whole.origin_SUO[:, : cut + 1], view.origin_SUO)
    reach = cut + view.season_periods
    assert view.season_SXW.shape[1] == reach
    np.testing.assert_array_equal(whole.season_SXW[:, :reach], view.season_SXW)


def test_level_is_a_decayed_mean_since_the_first_sale() -> None:
    panel = make_panel(num_series=1, num_periods=6)
    sales = np.array([[0, 0, 4, 2, 0, 6]], dtype=np.float32)
    panel = replace(panel, sales_ST=sales, in_stock_ST=np.array([[True, True, True, False, True, True]]))
    got = features_of(panel, level=5.0).level_SU[0]
    decay = 0.5 ** (1 / 28)
    wanted = []
    for u in range(7):
        since = 2 if u > 2 else 0
        used = [t for t in range(since, u) if panel.in_stock_ST[0, t]]
        weight = [decay ** (u - 1 - t) for t in used]
        total = sum(w * sales[0, t] for w, t in zip(weight, used, strict=True))
        wanted.append((total + PRIOR_PERIODS * 5.0) / (sum(weight) + PRIOR_PERIODS))
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_season_averages_the_same_weekday() -> None:
    panel = make_panel(num_series=1, num_periods=35)
    weekday = np.tile(np.arange(7), 5).astype(np.float32)[None] + 1
    panel = replace(panel, sales_ST=weekday, in_stock_ST=np.ones((1, 35), dtype=bool))
    sums, weights = features_of(panel).season_SXW[0, 35:].T
    np.testing.assert_allclose(sums / weights, np.arange(7) + 1, rtol=1e-5)


def test_weekdays_are_those_of_the_calendar() -> None:
    calendar = Calendar(start_on=date(2024, 2, 28), period_days=1)
    features = calendar_features(calendar, num_periods=5, yearly=False)
    assert features[:, :7].argmax(axis=1).tolist() == [2, 3, 4, 5, 6]
    assert (features[:, 9:] == 0).all()
    weekly = calendar_features(Calendar(start_on=date(2024, 2, 28), period_days=7), num_periods=5, yearly=True)
    assert (weekly[:, :7] == 0).all()
    assert (weekly[:, 9:] != 0).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_unusable_sales_are_refused_by_name(value: float) -> None:
    panel = make_panel()
    panel.sales_ST[2, 7] = value
    with pytest.raises(DataError, match="item i2 at location shop on 2023-01-09"):
        features_of(panel)


def test_unusable_covariates_are_refused_and_missing_prices_are_not() -> None:
    panel = make_panel()
    panel.price_ST[:] = np.nan
    assert np.isfinite(features_of(panel).own_STC).all()
    panel.promotion_SXP[0, 0] = np.nan
    with pytest.raises(DataError, match="promotions"):
        features_of(panel)


@pytest.mark.parametrize("num_promotions", [0, 2])
def test_the_way_through_a_table_keeps_every_feature(num_promotions: int) -> None:
    panel = make_panel(num_promotions=num_promotions)
    table = series_table(panel, known=known_rows(panel), seed=1)
    shared = SharedInputs(
        calendar=panel.calendar,
        holiday_X=panel.holiday_X,
        promotion_names=panel.promotion_names,
        notice_periods=panel.notice_periods,
        yearly=False,
    )
    direct = features_of(panel)
    part = features_of_table(table.slice(2, 3), shared=shared)
    back = features_of_columns(make_columns(table.slice(2, 3), shared=shared), template=part)
    rows = table["series_row"].to_numpy()[2:5]
    assert sorted(table["series_row"].to_pylist()) == list(range(panel.num_series))
    for name in ("own_STC", "origin_SUO", "demand_ST", "promotion_SXP", "first_sale_S", "censored_ST"):
        np.testing.assert_array_equal(getattr(part, name), getattr(direct, name)[rows], err_msg=name)
        np.testing.assert_array_equal(getattr(back, name), getattr(part, name), err_msg=name)


@pytest.mark.parametrize("period_days", [1, 7])
def test_the_plain_level_leaves_out_what_was_promoted_a_holiday_or_out_of_stock(period_days: int) -> None:
    panel = make_panel(num_series=3, num_periods=40, num_promotions=2, period_days=period_days)
    promotion_SXP = panel.promotion_SXP.copy()
    promotion_SXP[1] = 1.0
    promotion_SXP[2, 30, 0] = 0.5
    panel = replace(panel, promotion_SXP=promotion_SXP)
    features = features_of(panel)
    decay = 0.5 ** (1 / {1: 28, 7: 9}[period_days])
    wanted = []
    for s in range(3):
        total, weights = PRIOR_PERIODS * features.level_SU[s, 40], PRIOR_PERIODS
        for t in range(panel.first_sale_S[s], 40):
            plain = (1 - promotion_SXP[s, t].max()) * (1 - panel.holiday_X[t]) * panel.in_stock_ST[s, t]
            total += decay ** (39 - t) * plain * panel.sales_ST[s, t]
            weights += decay ** (39 - t) * plain
        wanted.append(total / weights)
    np.testing.assert_allclose(plain_level_S(features), wanted, rtol=1e-5)
    assert wanted[1] == pytest.approx(features.level_SU[1, 40])
