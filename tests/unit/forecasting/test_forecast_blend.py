"""Segments, calibration, weights and the trees, on demand whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from forecast_panels import make_panel
from scipy.stats import poisson

from cluster.panel import DemandPanel
from forecasting.blend import Blend, equal_blend, fit_blend
from forecasting.calibration import calibrate
from forecasting.forecast import Forecast
from forecasting.metrics import loss_by_series, score_forecasts
from forecasting.pit import share_between, step_of_counts
from forecasting.preparation import make_vocabulary
from forecasting.segments import SEGMENTS, segment_of_S
from forecasting.trees import TreeForecaster, fit_trees

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
HORIZON = 7


def poisson_panel(rate: float, *, num_series: int = 60, num_periods: int = 60, seed: int = 0) -> DemandPanel:
    panel = make_panel(num_series=num_series, num_periods=num_periods)
    sales_ST = np.random.default_rng(seed).poisson(rate, panel.sales_ST.shape).astype(np.float32)
    return replace(panel, sales_ST=sales_ST, in_stock_ST=np.ones_like(panel.in_stock_ST))


def poisson_forecast(rate: float, *, num_series: int = 60, levels: tuple[float, ...] = LEVELS) -> Forecast:
    shape = (num_series, HORIZON, 1)
    count_H1 = np.arange(1, HORIZON + 1)[:, None]
    return Forecast(
        levels_Q=np.array(levels, dtype=np.float32),
        mean_SH=np.full(shape[:2], rate, dtype=np.float32),
        marginal_SHQ=np.tile(poisson.ppf(levels, rate), shape).astype(np.float32),
        cumulative_SHQ=np.tile(poisson.ppf(levels, rate * count_H1), (num_series, 1, 1)).astype(np.float32),
    )


def test_each_kind_of_demand_has_its_segment() -> None:
    sales_ST = np.zeros((5, 60), dtype=np.float32)
    sales_ST[0] = 5
    sales_ST[1] = np.where(np.arange(60) % 6 == 0, 40, 2)
    sales_ST[2, ::4] = 3
    sales_ST[3, ::4] = np.where(np.arange(15) % 5 == 0, 40, 2)
    sales_ST[4, 50:] = 4
    panel = make_panel(num_series=5)
    view = replace(panel, sales_ST=sales_ST, in_stock_ST=np.ones_like(panel.in_stock_ST))
    assert [SEGMENTS[g] for g in segment_of_S(view)] == ["smooth", "erratic", "intermittent", "lumpy", "new"]


def test_days_out_of_stock_make_no_series_intermittent() -> None:
    panel = make_panel(num_series=1)
    in_stock_ST = np.arange(60)[None] % 2 == 0
    sold_ST = np.where(in_stock_ST, 5, 0).astype(np.float32)
    assert SEGMENTS[segment_of_S(replace(panel, sales_ST=sold_ST, in_stock_ST=in_stock_ST))[0]] == "smooth"
    assert SEGMENTS[segment_of_S(replace(panel, sales_ST=sold_ST))[0]] == "intermittent"


@pytest.mark.parametrize("believed", [4.0, 7.0])
def test_calibrated_bands_cover_what_they_promise_whatever_was_believed(believed: float) -> None:
    def coverage(forecast: Forecast) -> float:
        truth_SH = later.sales_ST[:, 40 : 40 + HORIZON]
        steps = step_of_counts(truth_SH, forecast.marginal_SHQ, levels_Q=forecast.levels_Q)
        return float(share_between(*steps, least=0.1, most=0.9).mean())

    known, later = poisson_panel(4.0, seed=1), poisson_panel(4.0, seed=2)
    forecast = poisson_forecast(believed)
    calibration = calibrate(known, forecasts=[forecast] * 3, origins=[10, 20, 30], end=60)
    assert coverage(calibration.apply(forecast)) == pytest.approx(0.8, abs=0.06)


def test_a_forecast_that_is_right_is_left_nearly_as_it_is() -> None:
    panel, forecast = poisson_panel(60.0, seed=3), poisson_forecast(60.0)
    calibration = calibrate(panel, forecasts=[forecast] * 4, origins=[10, 20, 30, 40], end=60)
    np.testing.assert_allclose(calibration.single_Q, LEVELS, atol=0.04)
    np.testing.assert_allclose(calibration.summed_Q, LEVELS, atol=0.1)
    calibrated = calibration.apply(forecast)
    assert (np.diff(calibrated.cumulative_SHQ, axis=2) >= 0).all()


def test_few_observations_calibrate_nothing() -> None:
    panel, forecast = poisson_panel(4.0, num_series=2), poisson_forecast(9.0, num_series=2)
    calibration = calibrate(panel, forecasts=[forecast], origins=[20], end=60)
    np.testing.assert_array_equal(calibration.single_Q, forecast.levels_Q)


def test_the_member_that_is_right_gets_the_weight() -> None:
    panel = poisson_panel(4.0)
    made = {"right": [poisson_forecast(4.0)] * 2, "wrong": [poisson_forecast(9.0)] * 2}
    blend = fit_blend(panel, forecasts=made, origins=[20, 40], end=60, is_calibrated=False)
    assert (blend.single_GW[:, 0] > 0.9).all()
    np.testing.assert_allclose(blend.summed_GW.sum(axis=1), 1.0)


def test_two_members_that_err_to_both_sides_beat_each() -> None:
    panel = poisson_panel(6.0)
    made = {"low": [poisson_forecast(4.0)] * 2, "high": [poisson_forecast(8.0)] * 2}
    blend = fit_blend(panel, forecasts=made, origins=[20, 40], end=60, is_calibrated=False)
    np.testing.assert_allclose(blend.single_GW, 0.5, atol=0.15)
    both = blend.combine({name: parts[0] for name, parts in made.items()}, segment_S=segment_of_S(panel))
    loss, low, high = (
        loss_by_series(panel, forecasts=[forecast], origins=[50], summed=True).sum()
        for forecast in (both, made["low"][0], made["high"][0])
    )
    assert loss < min(low, high)


def test_equal_weights_average_quantiles() -> None:
    made = {"low": poisson_forecast(4.0), "high": poisson_forecast(8.0)}
    both = equal_blend(["low", "high"], in_whole_units=False).combine(made, segment_S=np.zeros(60, dtype=np.int64))
    expected = (made["low"].marginal_SHQ + made["high"].marginal_SHQ) / 2
    np.testing.assert_allclose(both.marginal_SHQ, expected, rtol=1e-6)


def test_where_whole_units_are_sold_every_quantile_of_a_period_is_one() -> None:
    panel, made = poisson_panel(4.0), {"one": [poisson_forecast(4.3)] * 2, "other": [poisson_forecast(5.6)] * 2}
    blend = fit_blend(panel, forecasts=made, origins=[20, 40], end=60)
    assert blend.in_whole_units
    parts = {name: forecasts[0] for name, forecasts in made.items()}
    both, smooth = (
        each.combine(parts, segment_S=segment_of_S(panel)) for each in (blend, replace(blend, in_whole_units=False))
    )
    np.testing.assert_array_equal(both.marginal_SHQ, np.round(smooth.marginal_SHQ))
    assert not np.array_equal(both.marginal_SHQ, smooth.marginal_SHQ)
    np.testing.assert_array_equal(both.cumulative_SHQ, smooth.cumulative_SHQ)
    assert Blend.restore(blend.document()).in_whole_units
    by_weight = fit_blend(replace(panel, sales_ST=panel.sales_ST / 3), forecasts=made, origins=[20, 40], end=60)
    assert not by_weight.in_whole_units


def test_loss_by_series_adds_up_to_wql() -> None:
    panel = make_panel(num_series=8)
    forecast = poisson_forecast(7.0, num_series=8, levels=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9))
    whole = replace(panel, in_stock_ST=np.ones_like(panel.in_stock_ST))
    loss_S = loss_by_series(whole, forecasts=[forecast], origins=[40], summed=False)
    demand = whole.sales_ST[:, 40 : 40 + HORIZON].sum()
    expected = score_forecasts(whole, forecasts=[forecast], origins=[40])["wql"]
    assert loss_S.sum() / demand == pytest.approx(expected, rel=1e-5)


def few_trees(panel: DemandPanel, *, seed: int = 0) -> TreeForecaster:
    vocabulary = make_vocabulary(panel)
    return fit_trees(
        panel, vocabulary=vocabulary, horizon=HORIZON, levels=LEVELS, seed=seed, num_rows=6_000, num_rounds=40
    )


@pytest.fixture(scope="module")
def trees() -> tuple[TreeForecaster, DemandPanel]:
    panel = make_panel(num_series=30, num_periods=120)
    return few_trees(panel.until(110)), panel


def test_trees_find_weekends_and_promotions(trees: tuple[TreeForecaster, DemandPanel]) -> None:
    fitted, panel = trees

    def mean_SH(intensity: float) -> np.ndarray:
        promotion_SXP = panel.promotion_SXP.copy()
        promotion_SXP[:, 110:] = intensity
        view = replace(panel, promotion_SXP=promotion_SXP).until(110)
        return fitted.predict_rolling(view, origins=[110], horizon=HORIZON)[0].mean_SH

    plain_SH, promoted_SH = mean_SH(0.0), mean_SH(1.0)
    assert promoted_SH.sum() / plain_SH.sum() == pytest.approx(2.0, rel=0.2)
    weekend_H = (110 + np.arange(HORIZON)) % 7 >= 5
    assert plain_SH[:, weekend_H].mean() / plain_SH[:, ~weekend_H].mean() == pytest.approx(1.6, rel=0.2)


def test_trees_read_nothing_from_after_the_origin(trees: tuple[TreeForecaster, DemandPanel]) -> None:
    fitted, panel = trees
    rolled = fitted.predict_rolling(panel, origins=[100], horizon=HORIZON)[0]
    alone = fitted.predict_rolling(panel.until(100), origins=[100], horizon=HORIZON)[0]
    np.testing.assert_allclose(rolled.cumulative_SHQ, alone.cumulative_SHQ, rtol=1e-4, atol=1e-3)
    assert (np.diff(rolled.marginal_SHQ, axis=2) >= 0).all()
    assert (np.diff(rolled.cumulative_SHQ, axis=1) >= 0).all()


@pytest.mark.parametrize("num_periods", [6, 40])
def test_trees_take_short_histories_and_series_without_sales(num_periods: int) -> None:
    panel = make_panel(num_series=3, num_periods=60).until(num_periods)
    nothing = replace(panel, sales_ST=np.zeros_like(panel.sales_ST))
    for view in (panel, nothing):
        forecast = few_trees(view).predict_rolling(view, origins=[num_periods], horizon=HORIZON)[0]
        assert np.isfinite(forecast.cumulative_SHQ).all()
