"""The forecast that flows from the forecaster to policies, plans and explanations.

Shapes: S series, H horizon periods, Q quantile levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forecasting.levels import at_levels, place_levels, within

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Demand of the next H periods. Column 0 is the period in which the decision is taken.

    Parameters
    ----------
    levels_Q
        Quantile levels, strictly increasing in (0, 1).
    mean_SH
        Expected demand of each period, units, >= 0.
    marginal_SHQ
        Quantiles of the demand of each single period, units.
    cumulative_SHQ
        Quantiles of demand **summed** over the first h + 1 periods, units; monotone in h and q. An order protects an
        interval, and quantiles of single periods do not add up.
    """

    levels_Q: FloatArray
    mean_SH: FloatArray
    marginal_SHQ: FloatArray
    cumulative_SHQ: FloatArray

    def __post_init__(self) -> None:
        S, H = self.mean_SH.shape
        shape = (S, H, len(self.levels_Q))
        if self.marginal_SHQ.shape != shape or self.cumulative_SHQ.shape != shape:
            raise ValueError(f"quantile arrays must have shape {shape}")
        if not (np.diff(self.levels_Q) > 0).all() or self.levels_Q[0] <= 0 or self.levels_Q[-1] >= 1:
            raise ValueError("levels_Q must increase strictly within (0, 1)")

    @property
    def horizon(self) -> int:
        """Number of periods H."""
        return int(self.mean_SH.shape[1])

    def take(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> "Forecast":
        """Keep the given series, in the given order."""
        return Forecast(
            levels_Q=self.levels_Q,
            mean_SH=self.mean_SH[rows],
            marginal_SHQ=self.marginal_SHQ[rows],
            cumulative_SHQ=self.cumulative_SHQ[rows],
        )

    def until(self, horizon: int) -> "Forecast":
        """The first ``horizon`` periods."""
        return Forecast(
            levels_Q=self.levels_Q,
            mean_SH=self.mean_SH[:, :horizon],
            marginal_SHQ=self.marginal_SHQ[:, :horizon],
            cumulative_SHQ=self.cumulative_SHQ[:, :horizon],
        )

    def at_levels(self, levels: Sequence[float]) -> "Forecast":
        """The same demand at other quantile levels, linear between the forecast's own in the normal score of the level.

        Raises
        ------
        ValueError
            If a level lies outside the forecast's own: its tail is not known.
        """
        # float32 levels lie a hair beside the numbers that users write.
        if not levels or min(levels) < self.levels_Q[0] - 1e-6 or max(levels) > self.levels_Q[-1] + 1e-6:
            raise ValueError(f"levels must be within {self.levels_Q[0]:.4g} and {self.levels_Q[-1]:.4g}, got {levels}")
        wanted_N = within(levels, levels_Q=self.levels_Q)
        return Forecast(
            levels_Q=np.asarray(levels, dtype=np.float32),
            mean_SH=self.mean_SH,
            marginal_SHQ=at_levels(self.marginal_SHQ, levels_Q=self.levels_Q, wanted=wanted_N),
            cumulative_SHQ=at_levels(self.cumulative_SHQ, levels_Q=self.levels_Q, wanted=wanted_N),
        )

    def mean_over_S(self, interval_S: npt.NDArray[np.integer]) -> FloatArray:
        """Expected demand summed over each series' first ``interval_S`` periods (0 gives 0)."""
        self._check_interval(interval_S)
        cumulative_SH = np.cumsum(self.mean_SH, axis=1, dtype=np.float64)
        rows = np.arange(len(interval_S))
        total_S = np.where(interval_S > 0, cumulative_SH[rows, np.maximum(interval_S, 1) - 1], 0.0)
        return total_S.astype(np.float32)

    def quantile_over_S(
        self, interval_S: npt.NDArray[np.integer], *, level_S: npt.NDArray[np.floating] | float
    ) -> FloatArray:
        """Quantile of demand summed over each series' first ``interval_S`` periods.

        Linear between the forecast's levels, in the standard normal score of the level, and flat-sloped beyond the
        outermost two: a level of 0.99 from levels up to 0.95 continues the last segment.
        """
        self._check_interval(interval_S)
        rows = np.arange(len(interval_S))
        quantile_SQ = self.cumulative_SHQ[rows, np.maximum(interval_S, 1) - 1].astype(np.float64)
        left_S, weight_S = place_levels(np.broadcast_to(level_S, rows.shape), levels_Q=self.levels_Q)
        value_S = quantile_SQ[rows, left_S] * (1 - weight_S) + quantile_SQ[rows, left_S + 1] * weight_S
        return np.where(interval_S > 0, np.maximum(value_S, 0.0), 0.0).astype(np.float32)

    def _check_interval(self, interval_S: npt.NDArray[np.integer]) -> None:
        if len(interval_S) and int(interval_S.max()) > self.horizon:
            raise ValueError(
                f"interval of {int(interval_S.max())} periods is longer than the forecast's horizon of {self.horizon}"
            )


def join_series(parts: Sequence[Forecast]) -> Forecast:
    """One forecast of the series of several, in their order."""
    if len(parts) == 1:
        return parts[0]
    return Forecast(
        levels_Q=parts[0].levels_Q,
        mean_SH=np.concatenate([part.mean_SH for part in parts]),
        marginal_SHQ=np.concatenate([part.marginal_SHQ for part in parts]),
        cumulative_SHQ=np.concatenate([part.cumulative_SHQ for part in parts]),
    )
