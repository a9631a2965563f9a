import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from forecasting.forecast import Forecast

LEVELS = np.array([0.1, 0.3, 0.5, 0.7, 0.9], dtype=np.float32)


def make_forecast(means=(2.0, 5.0), horizon=6, spread=1.0):
    """Sums of normal demand: the quantiles are known in closed form."""
    mean_SH = np.repeat(np.array(means, dtype=np.float32)[:, None], horizon, axis=1)
    steps_H = np.arange(1, horizon + 1)
    score_Q = norm.ppf(LEVELS)
    cumulative_SHQ = np.cumsum(mean_SH, axis=1)[..., None] + spread * np.sqrt(steps_H)[None, :, None] * score_Q
    marginal_SHQ = mean_SH[..., None] + spread * score_Q
    return Forecast(
        levels_Q=LEVELS,
        mean_SH=mean_SH,
        marginal_SHQ=marginal_SHQ.astype(np.float32),
        cumulative_SHQ=cumulative_SHQ.astype(np.float32),
    )


@settings(deadline=None)
@given(interval=st.integers(1, 6), level=st.floats(0.02, 0.98))
def test_quantiles_of_normal_sums_are_exact_between_and_beyond_the_levels(interval, level):
    value_S = make_forecast(means=(20.0, 50.0)).quantile_over_S(np.array([interval, interval]), level_S=level)
    expected = np.array([20.0, 50.0]) * interval + np.sqrt(interval) * norm.ppf(level)
    np.testing.assert_allclose(value_S, expected, rtol=1e-3)


def test_an_interval_of_nothing_expects_nothing():
    forecast = make_forecast()
    none_S = np.array([0, 0])
    assert forecast.mean_over_S(none_S).tolist() == [0, 0]
    assert forecast.quantile_over_S(none_S, level_S=0.9).tolist() == [0, 0]


def test_mean_is_summed_per_series():
    assert make_forecast().mean_over_S(np.array([1, 3])).tolist() == [2.0, 15.0]


def test_quantiles_are_never_negative():
    assert (make_forecast(means=(0.1, 0.2)).quantile_over_S(np.array([1, 1]), level_S=0.01) >= 0).all()


def test_an_interval_beyond_the_horizon_is_refused():
    with pytest.raises(ValueError, match="interval of 7 periods is longer than the forecast's horizon of 6"):
        make_forecast().mean_over_S(np.array([1, 7]))


def test_levels_must_increase():
    forecast = make_forecast()
    with pytest.raises(ValueError, match="increase strictly"):
        Forecast(
            levels_Q=LEVELS[::-1],
            mean_SH=forecast.mean_SH,
            marginal_SHQ=forecast.marginal_SHQ,
            cumulative_SHQ=forecast.cumulative_SHQ,
        )


@settings(deadline=None)
@given(levels=st.lists(st.floats(0.1, 0.9), min_size=1, max_size=5, unique=True).map(sorted))
def test_other_levels_of_normal_demand_are_exact(levels):
    levels = [level for level, after in zip(levels, [*levels[1:], 1.0], strict=True) if after - level > 1e-3]
    forecast = make_forecast(means=(20.0, 50.0)).at_levels(levels)
    np.testing.assert_allclose(forecast.marginal_SHQ[0, 0], 20.0 + norm.ppf(levels), rtol=1e-4)
    np.testing.assert_allclose(forecast.cumulative_SHQ[1, 3], 200.0 + 2 * norm.ppf(levels), rtol=1e-4)


@pytest.mark.parametrize("levels", [[0.05, 0.5], [0.5, 0.95], []])
def test_levels_beyond_the_forecast_are_refused(levels):
    with pytest.raises(ValueError, match=r"within 0\.1 and 0\.9"):
        make_forecast().at_levels(levels)


def test_its_own_levels_change_nothing():
    forecast = make_forecast()
    same = forecast.at_levels([0.1, 0.3, 0.5, 0.7, 0.9])
    np.testing.assert_allclose(same.cumulative_SHQ, forecast.cumulative_SHQ, rtol=1e-6)
