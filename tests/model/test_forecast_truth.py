"""The network finds what is there to be found, on panels whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from forecast_panels import make_panel

from cluster.config import Settings, load_settings
from cluster.panel import DemandPanel
from forecasting.explain import CALENDAR, GROUPS, PROMOTIONS, explain_forecast
from forecasting.predict import Forecaster
from forecasting.preparation import fit_in_process

NUM_PERIODS, HORIZON = 154, 7


def truth_settings(*, epochs: int = 4) -> Settings:
    return load_settings(
        overrides=[
            "forecast.hidden=32",
            "forecast.context=28",
            f"forecast.horizon={HORIZON}",
            f"forecast.epochs={epochs}",
            "forecast.windows_per_series=32",
            "forecast.batch_size=128",
            "forecast.learning_rate=0.005",
            "forecast.levels=[0.1,0.5,0.9]",
        ]
    )


@pytest.fixture(scope="module")
def panel() -> DemandPanel:
    """30 series of 2..12 units a day, 1.6 times as much at weekends, twice as much on promotion; some days censored."""
    panel = make_panel(num_series=30, num_periods=NUM_PERIODS, seed=11)
    return replace(panel, in_stock_ST=np.ones_like(panel.in_stock_ST))


@pytest.fixture(scope="module")
def forecaster(panel: DemandPanel) -> Forecaster:
    return fit_in_process(panel.until(NUM_PERIODS - HORIZON), settings=truth_settings())


def with_promotion(panel: DemandPanel, *, since: int, intensity: float) -> DemandPanel:
    promotion_SXP = panel.promotion_SXP.copy()
    promotion_SXP[:, since:] = intensity
    return replace(panel, promotion_SXP=promotion_SXP)


def test_the_weekend_and_the_level_are_found(panel: DemandPanel, forecaster: Forecaster) -> None:
    view = with_promotion(panel, since=NUM_PERIODS, intensity=0.0)
    mean_SH = forecaster.predict(view).mean_SH
    weekend_H = (NUM_PERIODS + np.arange(HORIZON)) % 7 >= 5
    ratio = mean_SH[:, weekend_H].mean() / mean_SH[:, ~weekend_H].mean()
    assert ratio == pytest.approx(1.6, rel=0.12)
    # The last series starts on day 84.
    plain_ST = (panel.promotion_SXP[:, :NUM_PERIODS, 0] == 0) & (np.arange(NUM_PERIODS) >= 84)
    usual_S = np.array([sales[plain].mean() for sales, plain in zip(panel.sales_ST, plain_ST, strict=True)])
    assert mean_SH.mean(axis=1) == pytest.approx(usual_S, rel=0.3)


def test_a_promotion_doubles_demand_and_never_lowers_it(panel: DemandPanel, forecaster: Forecaster) -> None:
    without, half, full = (
        forecaster.predict(with_promotion(panel, since=NUM_PERIODS, intensity=intensity))
        for intensity in (0.0, 0.5, 1.0)
    )
    assert full.mean_SH.mean() / without.mean_SH.mean() == pytest.approx(2.0, rel=0.15)
    assert (full.cumulative_SHQ >= half.cumulative_SHQ).all()
    assert (half.cumulative_SHQ >= without.cumulative_SHQ).all()


def test_half_of_a_promoted_forecast_is_explained_by_the_promotion(panel: DemandPanel, forecaster: Forecaster) -> None:
    promotions = GROUPS.index(PROMOTIONS)
    full = explain_forecast(forecaster, with_promotion(panel, since=NUM_PERIODS, intensity=1.0), periods=HORIZON)
    share_S = full.units_SG[:, promotions] / full.forecast_S
    assert share_S.mean() == pytest.approx(0.5, abs=0.04)
    assert share_S == pytest.approx(0.5, abs=0.15)
    without = explain_forecast(forecaster, with_promotion(panel, since=NUM_PERIODS, intensity=0.0), periods=HORIZON)
    assert np.abs(without.units_SG[:, promotions] / without.forecast_S).max() < 0.01
    # Usual demand is that of days without promotion.
    assert without.forecast_S.sum() / without.base_S.sum() == pytest.approx(1.0, abs=0.07)
    assert full.base_S.sum() == pytest.approx(without.base_S.sum())


def test_weekends_are_explained_by_the_calendar(panel: DemandPanel, forecaster: Forecaster) -> None:
    usual_week = (5 * 1.0 + 2 * 1.6) / 7
    plain = with_promotion(panel, since=NUM_PERIODS - HORIZON, intensity=0.0)
    for period, truth in ((NUM_PERIODS - 7, 1.0 / usual_week), (NUM_PERIODS - 2, 1.6 / usual_week)):
        day = explain_forecast(forecaster, plain.until(period), periods=1)
        calendar = day.units_SG[:, GROUPS.index(CALENDAR)].sum()
        assert 1 + calendar / (day.forecast_S.sum() - calendar) == pytest.approx(truth, rel=0.08)
    week = explain_forecast(forecaster, with_promotion(panel, since=NUM_PERIODS, intensity=0.0), periods=7)
    assert abs(week.units_SG[:, GROUPS.index(CALENDAR)].sum() / week.forecast_S.sum()) < 0.04


def test_quantiles_of_days_and_sums_hold_what_they_promise(panel: DemandPanel, forecaster: Forecaster) -> None:
    origins = list(range(60, NUM_PERIODS - HORIZON, 7))
    forecasts = forecaster.predict_rolling(panel, origins=origins, horizon=HORIZON)
    below, below_sum = [], []
    for origin, forecast in zip(origins, forecasts, strict=True):
        truth_SH = panel.sales_ST[:, origin : origin + HORIZON]
        below.append(truth_SH[:, :, None] <= forecast.marginal_SHQ)
        below_sum.append(truth_SH.sum(axis=1)[:, None] <= forecast.cumulative_SHQ[:, -1])
    # A count is "at most its median" a little more often than half of the time.
    np.testing.assert_allclose(np.mean(below, axis=(0, 1, 2)), [0.1, 0.5, 0.9], atol=0.08)
    np.testing.assert_allclose(np.mean(below_sum, axis=(0, 1)), [0.1, 0.5, 0.9], atol=0.1)


def test_the_in_stock_flag_recovers_demand_that_the_shelf_cut_off() -> None:
    panel = make_panel(num_series=30, num_periods=NUM_PERIODS, seed=12)
    in_stock_ST = np.random.default_rng(1).random(panel.sales_ST.shape) > 0.4
    seen = replace(
        panel, sales_ST=np.where(in_stock_ST, panel.sales_ST, np.floor(0.3 * panel.sales_ST)).astype(np.float32)
    )
    told = replace(seen, in_stock_ST=in_stock_ST)
    untold = replace(seen, in_stock_ST=np.ones_like(in_stock_ST))
    cut = NUM_PERIODS - HORIZON
    truth = panel.sales_ST[:, cut:].mean()
    error = []
    for view in (told, untold):
        fitted = fit_in_process(view.until(cut), settings=truth_settings(epochs=2))
        error.append(abs(fitted.predict(view.until(cut)).mean_SH.mean() / truth - 1))
    assert error[0] < 0.12
    assert error[1] > 2 * error[0]
