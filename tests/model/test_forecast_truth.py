"""The network finds what is there to be found, on panels whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from forecast_panels import make_panel

from cluster.config import Settings, load_settings
from cluster.panel import DemandPanel
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
