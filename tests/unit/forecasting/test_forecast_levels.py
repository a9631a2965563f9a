"""Reading quantiles at other levels."""

import numpy as np
from scipy.stats import norm

from forecasting.levels import at_levels, within

GIVEN = np.float32([0.1, 0.5, 0.9])


def test_a_normal_demand_is_exact_between_and_beyond_its_levels() -> None:
    quantile_Q = norm.ppf(GIVEN, loc=20.0, scale=3.0).astype(np.float32)
    wanted = (0.02, 0.1, 0.3, 0.8, 0.97)
    got = at_levels(quantile_Q, levels_Q=GIVEN, wanted=wanted)
    np.testing.assert_allclose(got, norm.ppf(wanted, loc=20.0, scale=3.0), rtol=1e-5)


def test_levels_within_keep_the_outermost_quantiles() -> None:
    quantiles = np.float32([[[1.0, 3.0, 7.0]]])
    got = at_levels(quantiles, levels_Q=GIVEN, wanted=within((0.05, 0.5, 0.95), levels_Q=GIVEN))
    np.testing.assert_allclose(got[0, 0], [1.0, 3.0, 7.0], rtol=1e-6)
