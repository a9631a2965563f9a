"""Scores against slow loops over the definitions."""

import json
from dataclasses import replace

import numpy as np
import pytest
from forecast_panels import make_panel

from cluster.errors import DataError
from cluster.panel import DemandPanel
from forecasting.backtest import Contender, evaluate_forecasts, make_contenders, make_origins, rolling
from forecasting.baselines import seasonal_naive
from forecasting.forecast import Forecast
from forecasting.metrics import DECILES, score_forecasts


def draw_forecast(panel: DemandPanel, *, horizon: int, seed: int) -> Forecast:
    rng = np.random.default_rng(seed)
    shape = (panel.num_series, horizon, len(DECILES))
    marginal = np.sort(rng.uniform(0, 20, shape), axis=2).astype(np.float32)
    return Forecast(
        levels_Q=np.float32(DECILES),
        mean_SH=rng.uniform(0, 20, shape[:2]).astype(np.float32),
        marginal_SHQ=marginal,
        cumulative_SHQ=np.cumsum(marginal, axis=1),
    )


def slow_pinball(target: float, forecast: float, level: float) -> float:
    return max(level * (target - forecast), (level - 1) * (target - forecast))


def slow_scores(panel: DemandPanel, forecasts: list[Forecast], origins: list[int]) -> dict[str, float]:
    loss, loss_90, demand, error, absolute, inside, count = 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0
    for forecast, origin in zip(forecasts, origins, strict=True):
        for s in range(panel.num_series):
            for h in range(forecast.horizon):
                if origin + h >= panel.num_periods or not panel.in_stock_ST[s, origin + h]:
                    continue
                y = float(panel.sales_ST[s, origin + h])
                each = [
                    slow_pinball(y, float(forecast.marginal_SHQ[s, h, q]), level) for q, level in enumerate(DECILES)
                ]
                loss += float(np.mean(each))
                loss_90 += each[-1]
                demand += y
                error += float(forecast.mean_SH[s, h]) - y
                absolute += abs(float(forecast.mean_SH[s, h]) - y)
                inside += int(forecast.marginal_SHQ[s, h, 0] <= y <= forecast.marginal_SHQ[s, h, -1])
                count += 1
    return {
        "wql": 2 * loss / demand,
        "wql_90": 2 * loss_90 / demand,
        "bias": error / demand,
        "wape": absolute / demand,
        "coverage_80": inside / count,
    }


def test_pooled_scores_equal_a_loop() -> None:
    panel, origins = make_panel(), [30, 55]
    forecasts = [draw_forecast(panel, horizon=8, seed=seed) for seed in (1, 2)]
    got = score_forecasts(panel, forecasts=forecasts, origins=origins)
    for name, wanted in slow_scores(panel, forecasts, origins).items():
        assert got[name] == pytest.approx(wanted, rel=1e-5), name


def test_scores_of_sums_equal_a_loop() -> None:
    panel = make_panel()
    panel = replace(panel, in_stock_ST=np.ones_like(panel.in_stock_ST))
    forecast = draw_forecast(panel, horizon=8, seed=3)
    ratios = []
    for periods in (2, 4, 8):
        total = panel.sales_ST[:, 40 : 40 + periods].sum(axis=1)
        loss = [
            slow_pinball(float(total[s]), float(forecast.cumulative_SHQ[s, periods - 1, q]), level)
            for s in range(panel.num_series)
            for q, level in enumerate(DECILES)
        ]
        ratios.append(2 * np.mean(loss) / total.mean())
    got = score_forecasts(panel, forecasts=[forecast], origins=[40])
    assert got["wql_sum"] == pytest.approx(np.mean(ratios), rel=1e-5)


def test_rmsse_equals_a_loop() -> None:
    panel = make_panel()
    forecast = draw_forecast(panel, horizon=5, seed=4)
    each = []
    for s in range(panel.num_series):
        train = panel.sales_ST[s, panel.first_sale_S[s] : 40].astype(float)
        error = panel.sales_ST[s, 40:45] - forecast.mean_SH[s]
        each.append(np.sqrt(np.mean(error.astype(float) ** 2) / np.mean(np.diff(train) ** 2)))
    got = score_forecasts(panel, forecasts=[forecast], origins=[40])
    assert got["rmsse"] == pytest.approx(np.mean(each), rel=1e-5)


def test_the_truth_scores_zero_and_no_demand_scores_nothing() -> None:
    panel = make_panel()
    truth = panel.sales_ST[:, 50:57]
    quantiles = np.repeat(truth[:, :, None], 9, axis=2)
    perfect = Forecast(
        levels_Q=np.float32(DECILES),
        mean_SH=truth,
        marginal_SHQ=quantiles,
        cumulative_SHQ=np.cumsum(quantiles, axis=1),
    )
    score = score_forecasts(panel, forecasts=[perfect], origins=[50])
    assert score["wql"] == score["wape"] == score["bias"] == 0.0
    assert score["coverage_80"] == 1.0
    idle = replace(panel, sales_ST=np.zeros_like(panel.sales_ST))
    assert score_forecasts(idle, forecasts=[perfect], origins=[50])["wql"] is None


def test_rows_say_how_many_series_were_scored() -> None:
    panel, seen = make_panel(), []
    naive = rolling(lambda view, horizon: seasonal_naive(view, horizon=horizon))
    rows = evaluate_forecasts(
        panel,
        models={"all": Contender(rolling=naive), "some": Contender(rolling=naive, max_series=2)},
        origins=[40, 50],
        horizon=7,
        on_model=seen.append,
    )
    assert [row["num_series"] for row in rows] == [6, 2]
    assert seen == ["all", "some"]
    assert json.loads(json.dumps(rows)) == rows


def test_origins_are_a_horizon_apart_and_never_before_the_first() -> None:
    panel = make_panel(num_periods=60)
    assert make_origins(panel, num_origins=3, horizon=7, first=1) == [39, 46, 53]
    assert make_origins(panel, num_origins=9, horizon=7, first=45) == [46, 53]
    with pytest.raises(DataError, match="does not fit"):
        make_origins(panel, num_origins=1, horizon=7, first=54)


def test_the_usual_contenders() -> None:
    assert list(make_contenders(None, seed=0)) == [
        "seasonal-naive",
        "weekday-quantiles",
        "croston",
        "tsb",
        "ets",
        "arima",
    ]
