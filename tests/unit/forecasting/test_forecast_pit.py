"""Coverage of counts: a forecast that is right covers what it promises, however much of demand is zero."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import poisson

from forecasting.pit import share_between, step_of_counts

LEVELS_Q = np.array([0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99])


def smooth_quantiles(rate: float) -> np.ndarray:
    """Quantiles that, rounded, say a Poisson distribution: linear between the half units at which its steps end."""
    counts = np.arange(poisson.ppf(1 - 1e-9, rate) + 2)
    return np.interp(LEVELS_Q, np.append(0.0, poisson.cdf(counts, rate)), np.append(0.0, counts + 0.5))


@pytest.mark.parametrize("rate", [0.2, 0.7, 2.0, 9.0])
def test_a_forecast_that_is_right_covers_what_it_promises(rate: float) -> None:
    count_N = np.random.default_rng(0).poisson(rate, 40_000).astype(np.float64)
    quantile_NQ = np.tile(smooth_quantiles(rate), (len(count_N), 1))
    low_N, high_N = step_of_counts(count_N, quantile_NQ, levels_Q=LEVELS_Q)
    assert share_between(low_N, high_N, least=0.1, most=0.9).mean() == pytest.approx(0.8, abs=0.02)
    plain = (count_N >= np.round(quantile_NQ[:, 2])) & (count_N <= np.round(quantile_NQ[:, 10]))
    assert plain.mean() > 0.81


@pytest.mark.parametrize(("believed", "least", "most"), [(1.2, 0.0, 0.72), (30.0, 0.0, 0.2)])
def test_a_forecast_that_is_wrong_covers_less(believed: float, least: float, most: float) -> None:
    count_N = np.random.default_rng(1).poisson(4.0, 5_000).astype(np.float64)
    low_N, high_N = step_of_counts(count_N, np.tile(smooth_quantiles(believed), (len(count_N), 1)), levels_Q=LEVELS_Q)
    assert least <= share_between(low_N, high_N, least=0.1, most=0.9).mean() <= most


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 40, width=32), min_size=2, max_size=9),
    st.integers(0, 60),
)
def test_the_steps_of_all_counts_are_disjoint_and_fill_the_distribution(steps: list[float], most: int) -> None:
    quantile_Q = np.cumsum(steps)
    levels_Q = np.arange(1, len(steps) + 1) / (len(steps) + 1)
    count_N = np.arange(most + 1, dtype=np.float64)
    low_N, high_N = step_of_counts(count_N, np.tile(quantile_Q, (len(count_N), 1)), levels_Q=levels_Q)
    assert low_N[0] == 0.0
    assert ((low_N >= 0) & (high_N <= 1) & (low_N <= high_N)).all()
    np.testing.assert_allclose(high_N[:-1], low_N[1:])
    deciles = [share_between(low_N, high_N, least=d / 10, most=(d + 1) / 10) for d in range(10)]
    np.testing.assert_allclose(np.sum(deciles, axis=0), 1.0, atol=1e-3)
