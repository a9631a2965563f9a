"""What holds for any weights: order of quantiles, no leak, one forecast whichever way it is asked."""

from dataclasses import replace

import numpy as np
import pytest
from forecast_panels import NOTICE, make_panel, untrained_forecaster
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import ArtifactError, DataError
from cluster.panel import DemandPanel
from forecasting.forecast import Forecast
from forecasting.predict import Forecaster


def assert_same(one: Forecast, other: Forecast, *, rtol: float = 1e-4) -> None:
    np.testing.assert_allclose(one.mean_SH, other.mean_SH, rtol=rtol, atol=1e-5)
    np.testing.assert_allclose(one.marginal_SHQ, other.marginal_SHQ, rtol=rtol, atol=1e-4)
    np.testing.assert_allclose(one.cumulative_SHQ, other.cumulative_SHQ, rtol=rtol, atol=1e-4)


def spoil_after(panel: DemandPanel, origin: int) -> DemandPanel:
    """Change everything that is not known at the origin."""
    rng = np.random.default_rng(9)
    known = origin + panel.notice_periods
    sales, price, stock = panel.sales_ST.copy(), panel.price_ST.copy(), panel.in_stock_ST.copy()
    sales[:, origin:] = rng.integers(100, 900, sales[:, origin:].shape)
    price[:, origin:] *= 7
    stock[:, origin:] = ~stock[:, origin:]
    promotion, holiday = panel.promotion_SXP.copy(), panel.holiday_X.copy()
    promotion[:, known:] = 1 - promotion[:, known:]
    holiday[known:] = 1 - holiday[known:]
    return replace(panel, sales_ST=sales, price_ST=price, in_stock_ST=stock, promotion_SXP=promotion, holiday_X=holiday)


ENCODERS = ("lags", "lstm", "lstm-attention")


@given(seed=st.integers(0, 1_000))
@settings(max_examples=15, deadline=None)
def test_quantiles_rise_in_level_and_sums_in_periods_for_any_weights(seed: int) -> None:
    panel = make_panel()
    forecast = untrained_forecaster(panel, seed=seed).predict(panel)
    assert (forecast.marginal_SHQ >= 0).all()
    assert (forecast.mean_SH >= 0).all()
    assert (np.diff(forecast.marginal_SHQ, axis=2) >= 0).all()
    assert (np.diff(forecast.cumulative_SHQ, axis=2) >= 0).all()
    assert (np.diff(forecast.cumulative_SHQ, axis=1) >= 0).all()
    assert np.isfinite(forecast.cumulative_SHQ).all()


@pytest.mark.parametrize("period_days", [1, 7])
@pytest.mark.parametrize("origin", [1, 13, 30, 41])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_nothing_after_the_origin_changes_a_forecast(encoder: str, origin: int, period_days: int) -> None:
    panel = make_panel(period_days=period_days)
    forecaster = untrained_forecaster(panel, "forecast.horizon=14", f"forecast.encoder={encoder}")
    clean = forecaster.predict_rolling(panel, origins=[origin], horizon=14)[0]
    spoilt = forecaster.predict_rolling(spoil_after(panel, origin), origins=[origin], horizon=14)[0]
    np.testing.assert_array_equal(clean.cumulative_SHQ, spoilt.cumulative_SHQ)
    np.testing.assert_array_equal(clean.mean_SH, spoilt.mean_SH)


def test_an_announced_promotion_does_change_it() -> None:
    panel = make_panel()
    forecaster = untrained_forecaster(panel)
    before = forecaster.predict_rolling(panel, origins=[40], horizon=7)[0]
    panel.promotion_SXP[:, 40 + 3] = 1 - panel.promotion_SXP[:, 40 + 3]
    after = forecaster.predict_rolling(panel, origins=[40], horizon=7)[0]
    assert NOTICE > 3
    assert (np.abs(after.mean_SH - before.mean_SH)[:, 3] > 1e-6).all()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_rolling_equals_one_view_at_a_time(encoder: str) -> None:
    panel = make_panel()
    forecaster = untrained_forecaster(panel, f"forecast.encoder={encoder}")
    origins = [59, 1, 14, 15, 28, 60, 28]
    for origin, rolled in zip(origins, forecaster.predict_rolling(panel, origins=origins, horizon=6), strict=True):
        assert_same(rolled, forecaster.predict(panel.until(origin), horizon=6))


def test_a_series_does_not_depend_on_its_neighbours() -> None:
    panel = make_panel()
    forecaster = untrained_forecaster(panel)
    rows = np.array([4, 1])
    assert_same(forecaster.predict(panel.take(rows)), forecaster.predict(panel).take(rows))


def test_an_unseen_series_is_read_by_its_history() -> None:
    panel = make_panel()
    forecaster = untrained_forecaster(panel)
    renamed = replace(
        panel, index=replace(panel.index, item_ids_S=np.char.add("new-", panel.index.item_ids_S.astype(str)))
    )
    forecast = forecaster.predict(renamed)
    assert np.isfinite(forecast.cumulative_SHQ).all()
    assert not np.allclose(forecast.mean_SH, forecaster.predict(panel).mean_SH)


@pytest.mark.parametrize("num_series", [0, 1])
def test_any_number_of_series(num_series: int) -> None:
    panel = make_panel()
    forecaster = untrained_forecaster(panel)
    forecast = forecaster.predict(panel.take(np.arange(num_series)))
    assert forecast.mean_SH.shape == (num_series, 7)


def test_odd_histories_give_finite_forecasts() -> None:
    panel = make_panel()
    forecaster = untrained_forecaster(panel)
    sales = panel.sales_ST.copy()
    sales[0] = 0
    sales[1] = 4
    sales[2, :-1] = 0
    sales[3] = 1e6
    panel = replace(panel, sales_ST=sales, in_stock_ST=np.ones_like(panel.in_stock_ST))
    panel.in_stock_ST[4] = False
    forecast = forecaster.predict(panel)
    assert np.isfinite(forecast.cumulative_SHQ).all()
    assert forecast.mean_SH[0].max() < 0.5 * forecast.mean_SH[1].max()


def test_unknown_promotion_channels_are_not_read_and_missing_ones_are_zero() -> None:
    panel = make_panel(num_promotions=2)
    forecaster = untrained_forecaster(panel)
    swapped = replace(panel, promotion_SXP=panel.promotion_SXP[:, :, ::-1], promotion_names=panel.promotion_names[::-1])
    assert_same(forecaster.predict(swapped), forecaster.predict(panel))
    fewer = replace(panel, promotion_SXP=panel.promotion_SXP[:, :, :1], promotion_names=panel.promotion_names[:1])
    silent = replace(panel, promotion_SXP=panel.promotion_SXP * np.float32([1, 0]))
    assert_same(forecaster.predict(fewer), forecaster.predict(silent))


def test_what_cannot_be_predicted_is_refused() -> None:
    panel = make_panel()
    forecaster = untrained_forecaster(panel)
    with pytest.raises(ValueError, match="horizon must be in 1..7"):
        forecaster.predict(panel, horizon=8)
    with pytest.raises(ValueError, match="origins must be in 1..60"):
        forecaster.predict_rolling(panel, origins=[61], horizon=2)
    with pytest.raises(DataError, match="periods of 7 days"):
        forecaster.predict(make_panel(period_days=7))
    panel.sales_ST[0, 0] = np.nan
    with pytest.raises(DataError, match="not a finite number"):
        forecaster.predict(panel)


def test_a_saved_forecaster_predicts_the_same(tmp_path) -> None:
    panel = make_panel()
    forecaster = untrained_forecaster(panel)
    forecaster.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "forecaster.json",
        "series.parquet",
        "weights.safetensors",
    ]
    loaded = Forecaster.load(tmp_path)
    assert loaded.vocabulary == forecaster.vocabulary
    np.testing.assert_array_equal(loaded.predict(panel).cumulative_SHQ, forecaster.predict(panel).cumulative_SHQ)


@pytest.mark.parametrize("name", ["forecaster.json", "series.parquet", "weights.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"\x00garbage"])
def test_a_damaged_artifact_is_named(tmp_path, name: str, content: bytes | None) -> None:
    untrained_forecaster(make_panel()).save(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match="cannot be read"):
        Forecaster.load(tmp_path)


def test_another_format_is_refused(tmp_path) -> None:
    untrained_forecaster(make_panel()).save(tmp_path)
    path = tmp_path / "forecaster.json"
    path.write_text(path.read_text().replace('"format": 3', '"format": 99'))
    with pytest.raises(ArtifactError, match="format 99"):
        Forecaster.load(tmp_path)
