"""Demand by parametric laws: what textbooks and exact solutions assume, in the form that forecasts have.

Shapes: D demands (0, 1, 2, ...), T periods, N rows, H horizon periods, Q quantile levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from forecasting.forecast import Forecast
from rl.inventory import FloatArray

LawName = Literal["poisson", "geometric", "negative_binomial"]
WideArray = npt.NDArray[np.float64]

# Demands less likely than this together are left out; the rest is scaled to one.
_TAIL = 1e-13


@dataclass(frozen=True, kw_only=True)
class DemandLaw:
    """Independent demand of every period.

    Parameters
    ----------
    name
        ``poisson``; ``geometric`` on 0, 1, 2, ...; or ``negative_binomial``.
    mean
        Units per period, > 0.
    variance
        Of the negative binomial, above its mean; the other laws' follows from the mean.

    >>> round(DemandLaw(name="geometric", mean=5).variance_per_period, 6)
    30.0
    """

    name: LawName
    mean: float
    variance: float | None = None

    def __post_init__(self) -> None:
        if not self.mean > 0:
            raise ValueError(f"mean must be > 0, got {self.mean}")
        if self.name != "negative_binomial" and self.variance is not None:
            raise ValueError(f"the variance of a {self.name} law follows from its mean; leave it out")
        if self.name == "negative_binomial" and not (self.variance is not None and self.variance > self.mean):
            raise ValueError(f"a negative binomial needs a variance above its mean, got {self.variance}")

    @property
    def variance_per_period(self) -> float:
        """Units squared."""
        if self.name == "poisson":
            return self.mean
        return self.mean * (1 + self.mean) if self.variance is None else self.variance

    @cached_property
    def probability_D(self) -> WideArray:
        """Chance of each demand, from 0 to one that is practically never exceeded."""
        return self.probability_of_sum_D(1)

    def probability_of_sum_D(self, num_periods: int) -> WideArray:
        """Chance of each demand summed over a number of periods."""
        law = self._sum(num_periods)
        largest = int(law.isf(_TAIL))
        probability_D = np.asarray(law.pmf(np.arange(largest + 1)), dtype=np.float64)
        return probability_D / probability_D.sum()

    def quantile_of_sum(self, num_periods: int, level: npt.NDArray[np.floating]) -> WideArray:
        """Quantiles of demand summed over a number of periods, interpolated between whole units.

        The value x at which the distribution of demand + uniform(-1/2, 1/2) reaches the level: whole-unit quantiles
        jump, and a policy that reads them would jump with them.
        """
        cumulative_D = np.concatenate([[0.0], np.cumsum(self.probability_of_sum_D(num_periods))])
        edges_D = np.arange(len(cumulative_D)) - 0.5
        return np.maximum(np.interp(level, cumulative_D, edges_D), 0.0)

    def draw(self, random: np.random.Generator, *, size: tuple[int, ...]) -> FloatArray:
        """Demands, units."""
        index = np.searchsorted(np.cumsum(self.probability_D), random.random(size), side="right")
        return np.minimum(index, len(self.probability_D) - 1).astype(np.float32)

    def _sum(self, num_periods: int) -> Any:
        if self.name == "poisson":
            return stats.poisson(num_periods * self.mean)
        # A sum of negative binomials of one success chance is one; the geometric law is the case of one success.
        share = self.mean / self.variance_per_period
        return stats.nbinom(num_periods * self.mean * share / (1 - share), share)


def forecast_of_laws(laws: Sequence[DemandLaw], *, horizon: int, levels_Q: FloatArray) -> Forecast:
    """The forecast of series whose laws are known: (S, H), (S, H, Q)."""
    # Series often share a law.
    of_law = {law: _cumulative_HQ(law, horizon=horizon, levels_Q=levels_Q) for law in dict.fromkeys(laws)}
    cumulative_SHQ = np.stack([of_law[law] for law in laws])
    mean_S = np.array([law.mean for law in laws], dtype=np.float32)
    return Forecast(
        levels_Q=levels_Q,
        mean_SH=np.repeat(mean_S[:, None], horizon, axis=1),
        marginal_SHQ=np.repeat(cumulative_SHQ[:, :1], horizon, axis=1),
        cumulative_SHQ=cumulative_SHQ,
    )


def _cumulative_HQ(law: DemandLaw, *, horizon: int, levels_Q: FloatArray) -> FloatArray:
    return np.stack([law.quantile_of_sum(h, levels_Q) for h in range(1, horizon + 1)]).astype(np.float32)
