"""Baselines on histories whose answer is known."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from forecast_panels import make_panel
from scipy.special import ndtri
from scipy.stats import nbinom
from statsforecast.models import TSB, CrostonSBA

from cluster.panel import DemandPanel
from forecasting.baselines import arima, croston, deviation_of_sums, ets, seasonal_naive, tsb, weekday_quantiles
from forecasting.counts import negative_binomial_quantiles
from forecasting.forecast import Forecast

Baseline = Callable[[DemandPanel], Forecast]
BASELINES: dict[str, Baseline] = {
    "seasonal-naive": lambda view: seasonal_naive(view, horizon=9),
    "weekday-quantiles": lambda view: weekday_quantiles(view, horizon=9, seed=0),
    "ets": lambda view: ets(view, horizon=9),
    "arima": lambda view: arima(view, horizon=9),
}


def with_sales(panel: DemandPanel, sales_ST: np.ndarray) -> DemandPanel:
    return replace(panel, sales_ST=sales_ST.astype(np.float32))


@pytest.mark.parametrize("name", BASELINES)
def test_a_constant_series_is_forecast_as_constant(name: str) -> None:
    panel = make_panel(num_series=2)
    forecast = BASELINES[name](with_sales(panel, np.full(panel.sales_ST.shape, 3.0)))
    np.testing.assert_allclose(forecast.mean_SH, 3.0, rtol=1e-5)
    np.testing.assert_allclose(forecast.marginal_SHQ, 3.0, rtol=1e-5)
    np.testing.assert_allclose(forecast.cumulative_SHQ[0, :, 0], 3.0 * np.arange(1, 10), rtol=1e-5)


COUNTED: dict[str, Baseline] = {
    "croston": lambda view: croston(view, horizon=9),
    "tsb": lambda view: tsb(view, horizon=9),
}


@pytest.mark.parametrize("name", COUNTED)
def test_rare_sales_are_forecast_at_their_rate(name: str) -> None:
    panel = make_panel(num_series=1, num_periods=200)
    sales_ST = np.where(np.arange(200) % 4 == 3, 6.0, 0.0)[None]
    forecast = COUNTED[name](with_sales(panel, sales_ST))
    assert forecast.mean_SH[0] == pytest.approx(np.full(9, 1.5), rel=0.35)
    # Most days are empty, hardly any week is.
    assert forecast.marginal_SHQ[0, 0, 1] == 0
    assert forecast.cumulative_SHQ[0, 6, 1] > 0


@pytest.mark.parametrize("name", {**BASELINES, **COUNTED})
@pytest.mark.parametrize("num_periods", [1, 6, 12, 60])
@pytest.mark.parametrize("period_days", [1, 7])
def test_quantiles_are_in_order_whatever_the_history(name: str, num_periods: int, period_days: int) -> None:
    panel = make_panel(num_series=2, num_periods=60, period_days=period_days).until(num_periods)
    forecast = {**BASELINES, **COUNTED}[name](panel)
    assert np.isfinite(forecast.marginal_SHQ).all()
    assert (forecast.marginal_SHQ >= 0).all()
    assert (np.diff(forecast.marginal_SHQ, axis=2) >= -1e-5).all()
    assert (np.diff(forecast.cumulative_SHQ, axis=2) >= -1e-4).all()
    assert (np.diff(forecast.cumulative_SHQ, axis=1) >= -1e-4).all()


def test_seasonal_naive_repeats_the_last_week() -> None:
    panel = make_panel(num_series=3)
    forecast = seasonal_naive(panel, horizon=9)
    last = panel.sales_ST[:, -7:]
    np.testing.assert_array_equal(forecast.mean_SH, np.concatenate([last, last[:, :2]], axis=1))


def test_seasonal_naive_quantiles_are_those_of_its_past_errors() -> None:
    panel = make_panel(num_series=1, num_periods=40)
    forecast = seasonal_naive(panel, horizon=2, levels=(0.25, 0.5))
    sales = panel.sales_ST[0].astype(float)
    point = sales[[33, 34]]
    paths = []
    for origin in range(7, 39):
        error = sales[origin : origin + 2] - sales[origin - 7 : origin - 5]
        paths.append(np.maximum(point + error, 0))
    wanted = np.quantile(np.cumsum(paths, axis=1), [0.25, 0.5], axis=0).T
    np.testing.assert_allclose(forecast.cumulative_SHQ[0], wanted, rtol=1e-5)


def test_weekday_quantiles_are_those_of_the_last_eight_weeks() -> None:
    panel = make_panel(num_series=1, num_periods=63)
    forecast = weekday_quantiles(panel, horizon=9, seed=0)
    eighth = panel.sales_ST[0, 63 - 56 :].reshape(8, 7)
    np.testing.assert_allclose(forecast.marginal_SHQ[0, 8], np.quantile(eighth[:, 1], forecast.levels_Q), rtol=1e-5)
    np.testing.assert_allclose(forecast.mean_SH[0, :7], eighth.mean(axis=0), rtol=1e-5)


def test_ets_finds_the_week_and_the_spread() -> None:
    panel = make_panel(num_series=1, num_periods=60)
    weekday = 20 + 5 * np.sin(2 * np.pi * np.arange(60) / 7)
    noise = np.random.default_rng(0).normal(0, 1, 60)
    forecast = ets(with_sales(panel, (weekday + noise)[None]), horizon=7)
    np.testing.assert_allclose(forecast.mean_SH[0], 20 + 5 * np.sin(2 * np.pi * np.arange(60, 67) / 7), atol=1.5)
    spread = forecast.marginal_SHQ[0, 0, -3] - forecast.mean_SH[0, 0]
    assert spread == pytest.approx(ndtri(0.9), rel=0.4)


def test_sums_of_a_random_walk() -> None:
    """Var of the sum of h steps of a walk with unit shocks is the sum of squares up to h."""
    single = np.sqrt(np.arange(1, 6))[None]
    np.testing.assert_allclose(deviation_of_sums(single)[0], np.sqrt([1, 5, 14, 30, 55]))


@pytest.mark.parametrize(("rule", "model"), [(croston, CrostonSBA()), (tsb, TSB(alpha_d=0.1, alpha_p=0.1))])
def test_counts_are_smoothed_as_statsforecast_does(rule: Callable[..., Forecast], model: Any) -> None:
    panel = make_panel(num_series=8, num_periods=120)
    rare = np.random.default_rng(1).random(panel.sales_ST.shape) < 0.2
    rare[:, :3] = True
    sales_ST = (panel.sales_ST + 1) * rare
    mean_S = rule(with_sales(panel, sales_ST), horizon=2).mean_SH[:, 0]
    wanted_S = [model.forecast(y=sales_T.astype(np.float64), h=1)["mean"][0] for sales_T in sales_ST]
    np.testing.assert_allclose(mean_S, wanted_S, rtol=1e-5)


@pytest.mark.parametrize("dispersion", [1.0, 1.5, 4.0, 40.0])
def test_quantiles_of_counts_are_within_a_unit_of_exact_ones(dispersion: float) -> None:
    levels = (0.1, 0.5, 0.9, 0.99)
    mean_SH = np.geomspace(0.05, 500.0, 60)[None]
    got = negative_binomial_quantiles(mean_SH, dispersion * mean_SH, levels=levels)
    excess = max(dispersion - 1.0, 1e-6)
    exact = nbinom.ppf(levels, (mean_SH / excess)[..., None], 1.0 / (1.0 + excess))
    np.testing.assert_allclose(got, exact, atol=1.01, rtol=0.02)
