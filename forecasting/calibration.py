"""Conformal calibration: which of a forecaster's levels covers what it should, as lately seen.

Shapes: S series, H horizon, Q quantile levels, N observations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from cluster.panel import DemandPanel, FloatArray
from forecasting.forecast import Forecast
from forecasting.levels import at_levels
from forecasting.pit import step_of_counts

_LEAST_SCORES = 200
"""Fewer say too little: the forecast is then left as it is."""
_NOTHING = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The forecaster's level to read for each wanted one, for single periods and for sums.

    A forecast is right where demand lies below its q-quantile with chance q. The levels at which observed demand lay
    in a forecast's distribution say which quantile to read instead: the q-quantile of those levels (Kuleshov, Fenner &
    Ermon 2018; with the (n + 1) / n of split conformal prediction, Vovk et al. 2005). Order among quantiles is kept.
    """

    single_Q: FloatArray
    summed_Q: FloatArray

    def apply(self, forecast: Forecast) -> Forecast:
        """Read every quantile at its calibrated level; the mean stays."""
        return Forecast(
            levels_Q=forecast.levels_Q,
            mean_SH=forecast.mean_SH,
            marginal_SHQ=_read(forecast.marginal_SHQ, levels_Q=forecast.levels_Q, wanted_Q=self.single_Q),
            cumulative_SHQ=_read(forecast.cumulative_SHQ, levels_Q=forecast.levels_Q, wanted_Q=self.summed_Q),
        )


def calibrate(
    panel: DemandPanel, *, forecasts: Sequence[Forecast], origins: Sequence[int], end: int, seed: int = 0
) -> Calibration:
    """Calibrate on forecasts whose targets before period ``end`` are known; periods out of stock do not count."""
    random = np.random.default_rng(seed)
    levels_Q = forecasts[0].levels_Q
    single, summed = [], []
    for forecast, origin in zip(forecasts, origins, strict=True):
        until = min(origin + forecast.horizon, end)
        truth_SH, counts_SH = panel.sales_ST[:, origin:until], panel.in_stock_ST[:, origin:until]
        periods = truth_SH.shape[1]
        single.append(_level_of(truth_SH, forecast.marginal_SHQ[:, :periods], levels_Q, random=random)[counts_SH])
        total_SH, whole_SH = truth_SH.cumsum(axis=1), np.logical_and.accumulate(counts_SH, axis=1)
        summed.append(_level_of(total_SH, forecast.cumulative_SHQ[:, :periods], levels_Q, random=random)[whole_SH])
    return Calibration(
        single_Q=_calibrated(np.concatenate(single), levels_Q),
        summed_Q=_calibrated(np.concatenate(summed), levels_Q),
    )


def _level_of(
    truth_SH: FloatArray, quantile_SHQ: FloatArray, levels_Q: FloatArray, *, random: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Level at which each observation lies in its forecast, drawn evenly from the step that its count is."""
    return random.uniform(*step_of_counts(truth_SH, quantile_SHQ, levels_Q=levels_Q))


def _calibrated(score_N: npt.NDArray[np.float64], levels_Q: FloatArray) -> FloatArray:
    if len(score_N) < _LEAST_SCORES:
        return levels_Q
    wanted_Q = np.minimum(1.0, levels_Q.astype(np.float64) * (len(score_N) + 1) / len(score_N))
    return np.quantile(score_N, wanted_Q).astype(np.float32)


def _read(quantile_SHQ: FloatArray, *, levels_Q: FloatArray, wanted_Q: FloatArray) -> FloatArray:
    """Quantiles at other levels: linear in the normal score, the outermost segments continued; below a tenth, none."""
    score_Q = ndtri(levels_Q.astype(np.float64))
    near_N = np.clip(wanted_Q.astype(np.float64), ndtr(score_Q[0] - 1.0), ndtr(score_Q[-1] + 0.5))
    value_SHN = at_levels(quantile_SHQ, levels_Q=levels_Q, wanted=near_N)
    # What is left of an average of nothing and a little is nothing: a sale is at least a unit.
    value_SHN = np.where(value_SHN < _NOTHING, 0.0, value_SHN)
    return np.maximum.accumulate(value_SHN, axis=-1).astype(np.float32)
