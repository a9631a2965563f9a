"""Losses against slow loops, and what censoring does to them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.censoring import fill_censored
from forecasting.losses import cumulative_censored, pinball, poisson_deviance, weighted_mean

LEVELS = (0.1, 0.5, 0.9)
numbers = st.floats(0, 50, width=32)


def slow_pinball(forecast: float, target: float, level: float, censored: bool) -> float:
    if target > forecast:
        return level * (target - forecast)
    return 0.0 if censored else (1 - level) * (forecast - target)


@settings(deadline=None)
@given(forecast=st.lists(numbers, min_size=3, max_size=3), target=numbers, censored=st.booleans())
def test_pinball_equals_a_loop(forecast: list[float], target: float, censored: bool) -> None:
    got = pinball(
        torch.tensor([forecast]),
        torch.tensor([target]),
        levels_Q=torch.tensor(LEVELS),
        censored=torch.tensor([censored]),
    )
    wanted = [slow_pinball(f, target, q, censored) for f, q in zip(forecast, LEVELS, strict=True)]
    assert got[0].tolist() == pytest.approx(wanted, rel=1e-5, abs=1e-5)


def test_pinball_is_least_at_the_quantile() -> None:
    sample = torch.from_numpy(np.random.default_rng(0).exponential(3.0, 4_001).astype(np.float32))
    candidates = torch.linspace(0, 12, 241)
    for level in LEVELS:
        loss = pinball(
            candidates[:, None, None].expand(-1, len(sample), 1),
            sample.expand(len(candidates), -1),
            levels_Q=torch.tensor([level]),
            censored=torch.zeros(len(candidates), len(sample), dtype=torch.bool),
        ).mean(dim=(1, 2))
        assert float(candidates[loss.argmin()]) == pytest.approx(float(sample.quantile(level)), abs=0.06)


def test_poisson_deviance_is_least_at_the_mean() -> None:
    sample = torch.tensor([0.0, 0.0, 1.0, 7.0])
    candidates = torch.linspace(0.1, 6, 591)[:, None]
    loss = poisson_deviance(candidates, sample.expand(len(candidates), -1), censored=torch.zeros(4, dtype=torch.bool))
    assert float(candidates[loss.mean(dim=1).argmin(), 0]) == pytest.approx(2.0, abs=0.011)


@settings(deadline=None)
@given(mean=st.floats(0.125, 50, width=32), target=numbers)
def test_a_forecast_above_a_censored_target_costs_what_reaching_it_costs(mean: float, target: float) -> None:
    def loss(value: float, *, censored: bool) -> float:
        return float(poisson_deviance(torch.tensor(value), torch.tensor(target), censored=torch.tensor(censored)))

    reached = max(target, 1e-6)
    assert loss(mean, censored=True) == pytest.approx(loss(min(mean, reached), censored=False), rel=1e-4, abs=1e-4)


def test_a_sum_is_censored_from_its_first_censored_period_on() -> None:
    censored = torch.tensor([[False, True, False], [False, False, False]])
    assert cumulative_censored(censored).tolist() == [[False, True, True], [False, False, False]]


def test_weighted_mean_ignores_weightless_elements() -> None:
    value = torch.tensor([1.0, 2.0, 600.0])
    assert float(weighted_mean(value, torch.tensor([1.0, 3.0, 0.0]))) == pytest.approx(1.75)
    assert float(weighted_mean(value, torch.zeros(3))) == 0.0


def test_censored_sales_are_filled_but_never_lowered() -> None:
    sales = np.array([[2.0, 0.0, 9.0]], dtype=np.float32)
    filled = fill_censored(
        sales, expected_ST=np.full((1, 3), 3.0, dtype=np.float32), censored_ST=np.array([[False, True, True]])
    )
    assert filled.tolist() == [[2.0, 3.0, 9.0]]
