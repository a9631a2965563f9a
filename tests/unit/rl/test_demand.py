"""Demand laws against scipy, and the forecasts that know them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rl.demand import DemandLaw, forecast_of_laws

LAWS = [
    DemandLaw(name="poisson", mean=5),
    DemandLaw(name="geometric", mean=5),
    DemandLaw(name="negative_binomial", mean=3, variance=4.5),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_chances_have_the_laws_mean_and_variance(law):
    demand_D = np.arange(len(law.probability_D))
    assert law.probability_D.sum() == pytest.approx(1)
    assert law.probability_D @ demand_D == pytest.approx(law.mean)
    assert law.probability_D @ (demand_D - law.mean) ** 2 == pytest.approx(law.variance_per_period)


def test_the_geometric_law_starts_at_nothing():
    expected = stats.geom(1 / 6).pmf(np.arange(1, 20))
    assert DemandLaw(name="geometric", mean=5).probability_D[:19] == pytest.approx(expected)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_sums_are_convolutions(law):
    twice_D = np.convolve(law.probability_D, law.probability_D)
    sum_D = law.probability_of_sum_D(2)
    assert sum_D == pytest.approx(twice_D[: len(sum_D)], abs=1e-9)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_draws_follow_the_law(law):
    drawn = law.draw(np.random.default_rng(0), size=(400, 500)).ravel()
    frequent = np.flatnonzero(law.probability_D > 1e-3)
    share = np.array([(drawn == demand).mean() for demand in frequent])
    assert share == pytest.approx(law.probability_D[frequent], abs=0.004)


@given(
    mean=st.floats(0.1, 50), periods=st.integers(1, 12), levels=st.lists(st.floats(0.01, 0.99), min_size=2, max_size=6)
)
@settings(deadline=None, max_examples=50)
def test_quantiles_increase_and_lie_within_a_unit_of_the_whole_ones(mean, periods, levels):
    law = DemandLaw(name="poisson", mean=mean)
    ordered = np.sort(levels)
    smooth, whole = law.quantile_of_sum(periods, ordered), stats.poisson(mean * periods).ppf(ordered)
    assert (np.diff(smooth) >= 0).all()
    assert np.abs(smooth - whole).max() <= 0.5 + 1e-6


def test_a_forecast_knows_each_laws_mean_and_quantiles():
    levels_Q = np.array([0.1, 0.5, 0.9], dtype=np.float32)
    forecast = forecast_of_laws([*LAWS, LAWS[0]], horizon=4, levels_Q=levels_Q)
    assert forecast.mean_SH[:, 2].tolist() == [5, 5, 3, 5]
    assert forecast.cumulative_SHQ[1, 2] == pytest.approx(LAWS[1].quantile_of_sum(3, levels_Q), rel=1e-5)
    assert forecast.marginal_SHQ[2, 3] == pytest.approx(LAWS[2].quantile_of_sum(1, levels_Q), rel=1e-5)
    assert (forecast.cumulative_SHQ[0] == forecast.cumulative_SHQ[3]).all()


@pytest.mark.parametrize(
    ("law", "says"),
    [
        ({"name": "poisson", "mean": 0}, "mean must be > 0"),
        ({"name": "poisson", "mean": 5, "variance": 5}, "follows from its mean"),
        ({"name": "negative_binomial", "mean": 5}, "needs a variance above its mean"),
        ({"name": "negative_binomial", "mean": 5, "variance": 4}, "needs a variance above its mean"),
    ],
)
def test_impossible_laws_are_refused(law, says):
    with pytest.raises(ValueError, match=says):
        DemandLaw(**law)
