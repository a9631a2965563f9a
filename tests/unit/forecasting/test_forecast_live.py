"""Forecasts that are kept up to date say what predicting everything anew says."""

from dataclasses import replace

import numpy as np
import pytest
from forecast_panels import make_panel, small_settings, untrained_forecaster

from cluster.errors import DataError
from cluster.panel import DemandPanel
from forecasting.live import LiveForecasts
from forecasting.team import ServedForecaster
from forecasting.team_fit import fit_team

NUM_PERIODS = 60
ROWS = np.array([4, 1])


@pytest.fixture(scope="module")
def whole() -> DemandPanel:
    return make_panel(num_series=8, num_periods=NUM_PERIODS + 1)


@pytest.fixture(scope="module", params=["network", "blend"])
def forecaster(request: pytest.FixtureRequest, whole: DemandPanel) -> ServedForecaster:
    view = whole.until(NUM_PERIODS)
    return untrained_forecaster(view) if request.param == "network" else fit_team(view, settings=small_settings())


@pytest.fixture
def live(forecaster: ServedForecaster, whole: DemandPanel) -> LiveForecasts:
    return LiveForecasts(forecaster, whole.until(NUM_PERIODS))


def assert_as_predicted(live: LiveForecasts, forecaster: ServedForecaster, panel: DemandPanel) -> None:
    every = np.arange(panel.num_series)
    wanted = forecaster.predict(panel)
    for name in ("mean_SH", "marginal_SHQ", "cumulative_SHQ"):
        np.testing.assert_allclose(getattr(live.forecast(every), name), getattr(wanted, name), rtol=1e-5, atol=1e-5)


def test_late_orders_change_the_series_that_they_are_of(
    live: LiveForecasts, forecaster: ServedForecaster, whole: DemandPanel
) -> None:
    view = whole.until(NUM_PERIODS)
    before = live.forecast(np.arange(8))
    sold_R = view.sales_ST[ROWS, NUM_PERIODS - 1] + np.float32([30.0, 0.0])
    live.correct_sales(ROWS, period=NUM_PERIODS - 1, sold_R=sold_R, in_stock_R=np.array([True, False]))
    sales_ST, in_stock_ST = view.sales_ST.copy(), view.in_stock_ST.copy()
    sales_ST[ROWS, -1], in_stock_ST[ROWS, -1] = sold_R, [True, False]
    assert_as_predicted(live, forecaster, replace(view, sales_ST=sales_ST, in_stock_ST=in_stock_ST))
    after = live.forecast(np.arange(8))
    changed_S = (after.mean_SH != before.mean_SH).any(axis=1)
    assert changed_S[4]
    assert not changed_S[[0, 2, 3, 5, 6, 7]].any()


def test_announced_promotions_replace_what_was_known_ahead(
    live: LiveForecasts, forecaster: ServedForecaster, whole: DemandPanel
) -> None:
    view = whole.until(NUM_PERIODS)
    live.announce_promotions(ROWS, promotion_RAP=np.ones((2, 3, 1), dtype=np.float32))
    promotion_SXP = view.promotion_SXP.copy()
    promotion_SXP[ROWS, NUM_PERIODS : NUM_PERIODS + 3] = 1.0
    assert_as_predicted(live, forecaster, replace(view, promotion_SXP=promotion_SXP))


def test_a_closed_period_moves_every_forecast_on(
    live: LiveForecasts, forecaster: ServedForecaster, whole: DemandPanel
) -> None:
    live.close_period(
        sold_S=whole.sales_ST[:, NUM_PERIODS],
        in_stock_S=whole.in_stock_ST[:, NUM_PERIODS],
        price_S=whole.price_ST[:, NUM_PERIODS],
    )
    view = whole.until(NUM_PERIODS)
    longer = replace(
        view,
        sales_ST=whole.sales_ST[:, : NUM_PERIODS + 1],
        in_stock_ST=whole.in_stock_ST[:, : NUM_PERIODS + 1],
        price_ST=whole.price_ST[:, : NUM_PERIODS + 1],
    )
    assert_as_predicted(live, forecaster, longer)


def test_the_panel_given_is_left_as_it_was(forecaster: ServedForecaster, whole: DemandPanel) -> None:
    view = whole.until(NUM_PERIODS)
    kept = view.sales_ST.copy()
    live = LiveForecasts(forecaster, view)
    live.correct_sales(ROWS, period=3, sold_R=np.float32([7, 8]))
    np.testing.assert_array_equal(view.sales_ST, kept)
    assert live.panel.sales_ST[4, 3] == 7


def test_what_cannot_be_is_refused_and_changes_nothing(live: LiveForecasts) -> None:
    with pytest.raises(DataError, match="not a finite number"):
        live.correct_sales(ROWS, period=5, sold_R=np.float32([np.nan, 1]))
    with pytest.raises(DataError, match="promotions"):
        live.announce_promotions(ROWS, promotion_RAP=np.full((2, 1, 1), np.inf, dtype=np.float32))
    with pytest.raises(ValueError, match=r"0\.\.59"):
        live.correct_sales(ROWS, period=60, sold_R=np.float32([1, 1]))
    with pytest.raises(ValueError, match="at most 10"):
        live.announce_promotions(ROWS, promotion_RAP=np.ones((2, 11, 1), dtype=np.float32))
    assert np.isfinite(live.panel.sales_ST).all()
    assert np.isfinite(live.panel.promotion_SXP).all()
