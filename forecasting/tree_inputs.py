"""What trees read of (series, origin, periods ahead): nothing from after the origin but what is announced.

Shapes: S series, T history periods, X = T + periods known ahead, N rows (series, origin, periods ahead), L lags, P
promotion channels, M periods per season, Z inputs, Y inputs that do not depend on the periods ahead, V inputs that do.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cluster.panel import FloatArray, IntArray
from forecasting.features import SeriesFeatures

Kind = Literal["single", "summed"]

NAMES = (0, 1)
"""Inputs that hold the numbers of series and category: their values have no order."""
_LAGS = (1, 2, 3, 4, 5, 6, 7, 14, 21, 28)
_WINDOWS = (7, 28)


def columns_Z(*, num_origin: int, num_ahead: int) -> IntArray:
    """Where each input lies: among those that depend on the periods ahead, or among the others, as a complement.

    Names come first, then the periods ahead.

    >>> columns_Z(num_origin=4, num_ahead=3).tolist()
    [-1, -2, 0, -3, -4, 1, 2]
    """
    names = len(NAMES)
    return np.array([*~np.arange(names), 0, *~np.arange(names, num_origin), *range(1, num_ahead)], dtype=np.int64)


class TreeInputs:
    """Reads the inputs of (series, origin, periods ahead) out of a panel's features, nothing from after the origin."""

    def __init__(self, features: SeriesFeatures, *, horizon: int) -> None:
        self.features = features
        T, known = features.demand_ST.shape[1], len(features.holiday_X)
        beyond = max(0, T + horizon - known) + 2
        self._promotion_SXP = np.pad(features.promotion_SXP, ((0, 0), (1, beyond), (0, 0)))
        self._holiday_X = np.pad(features.holiday_X, (1, beyond))
        self._calendar_XK = np.pad(features.calendar_XK, ((0, beyond), (0, 0)))
        self._promotion_sum_SXP = np.pad(features.promotion_SXP.cumsum(axis=1), ((0, 0), (1, beyond), (0, 0)), "edge")
        self._promotion_sum_SXP[:, 0] = 0.0
        self._demand_sum_SU = np.pad(features.demand_ST.cumsum(axis=1, dtype=np.float64), ((0, 0), (1, 0)))

    def demand_N(self, kind: Kind, *, row_N: IntArray, origin_N: IntArray, ahead_N: IntArray) -> FloatArray:
        """Demand of the target period, or mean demand per period up to it, units."""
        if kind == "single":
            return self.features.demand_ST[row_N, origin_N + ahead_N]
        total_N = self._demand_sum_SU[row_N, origin_N + ahead_N + 1] - self._demand_sum_SU[row_N, origin_N]
        return (total_N / (ahead_N + 1)).astype(np.float32)

    def read_NZ(self, kind: Kind, *, row_N: IntArray, origin_N: IntArray, ahead_N: IntArray) -> FloatArray:
        """All inputs, (N, Z), in the order of :meth:`columns_Z`."""
        origin_NY = self.origin_NY(row_N=row_N, origin_N=origin_N)
        ahead_NV = self.ahead_NV(kind, row_N=row_N, origin_N=origin_N, ahead_N=ahead_N)
        column_Z = columns_Z(num_origin=origin_NY.shape[1], num_ahead=ahead_NV.shape[1])
        out_NZ = np.empty((len(row_N), len(column_Z)), dtype=np.float32)
        out_NZ[:, column_Z < 0], out_NZ[:, column_Z >= 0] = origin_NY, ahead_NV
        return out_NZ

    def origin_NY(self, *, row_N: IntArray, origin_N: IntArray) -> FloatArray:
        """What does not depend on the periods ahead, (N, Y): names, state at the origin, lags."""
        features = self.features
        columns: list[npt.NDArray[Any]] = [
            features.series_row_S[row_N][:, None],
            features.category_row_S[row_N][:, None],
            features.origin_SUO[row_N, origin_N],
            *self._past(row_N, origin_N),
        ]
        return np.concatenate(columns, axis=1, dtype=np.float32, casting="unsafe")

    def ahead_NV(self, kind: Kind, *, row_N: IntArray, origin_N: IntArray, ahead_N: IntArray) -> FloatArray:
        """Periods ahead and what is known of the target, (N, V)."""
        known = (self._target if kind == "single" else self._interval)(row_N, origin_N, ahead_N)
        return np.concatenate([ahead_N[:, None], *known], axis=1, dtype=np.float32, casting="unsafe")

    def _past(self, row_N: IntArray, origin_N: IntArray) -> list[FloatArray]:
        """Recent demand over the level, one by one and as means; promotions and price lately."""
        features = self.features
        level_N1 = features.level_SU[row_N, origin_N][:, None]
        lag_NL = origin_N[:, None] - np.asarray(_LAGS)
        lags_NL = features.demand_ST[row_N[:, None], np.maximum(lag_NL, 0)] / level_N1
        lags_NL[lag_NL < 0] = np.nan
        means = []
        for window in _WINDOWS:
            from_N = np.maximum(origin_N - window, 0)
            total_N = self._demand_sum_SU[row_N, origin_N] - self._demand_sum_SU[row_N, from_N]
            means.append((total_N / (origin_N - from_N))[:, None] / level_N1)
        from_N = np.maximum(origin_N - _WINDOWS[-1], 0)
        promoted_NP = self._promotion_sum_SXP[row_N, origin_N] - self._promotion_sum_SXP[row_N, from_N]
        return [lags_NL, *means, promoted_NP / _WINDOWS[-1], features.own_STC[row_N, origin_N - 1][:, 3:4]]

    def _target(self, row_N: IntArray, origin_N: IntArray, ahead_N: IntArray) -> list[FloatArray]:
        """Weekday average, promotions and holidays around the target period, and its place in the calendar."""
        features = self.features
        target_N = origin_N + ahead_N
        season_N2 = features.season_SXW[row_N, origin_N + ahead_N % features.season_periods]
        level_N = features.level_SU[row_N, origin_N]
        around_N3 = target_N[:, None] + np.array([-1, 0, 1])
        is_known_N3 = around_N3 < origin_N[:, None] + features.notice_periods
        promotion_N3P = self._promotion_SXP[row_N[:, None], around_N3 + 1] * is_known_N3[..., None]
        return [
            ((season_N2[:, 0] / level_N + 1) / (season_N2[:, 1] + 1))[:, None],
            promotion_N3P.reshape(len(row_N), -1),
            self._holiday_X[around_N3 + 1] * is_known_N3,
            self._calendar(target_N),
        ]

    def _interval(self, row_N: IntArray, origin_N: IntArray, ahead_N: IntArray) -> list[FloatArray]:
        """The same of all periods up to the target, on average."""
        features = self.features
        count_N1 = (ahead_N + 1)[:, None]
        until_N = np.minimum(origin_N + ahead_N + 1, origin_N + features.notice_periods)
        start_NP = self._promotion_sum_SXP[row_N, origin_N]
        promoted_NP = (self._promotion_sum_SXP[row_N, until_N] - start_NP) / count_N1
        holiday_sum_X = self._holiday_X[1:].cumsum()
        holidays_N = holiday_sum_X[np.maximum(until_N - 1, 0)] - np.where(
            origin_N > 0, holiday_sum_X[np.maximum(origin_N - 1, 0)], 0.0
        )
        return [
            self._season_mean_N1(row_N, origin_N, ahead_N),
            promoted_NP,
            holidays_N[:, None] / count_N1,
            self._calendar(origin_N),
            self._calendar(origin_N + ahead_N)[:, 1:],
        ]

    def _season_mean_N1(self, row_N: IntArray, origin_N: IntArray, ahead_N: IntArray) -> FloatArray:
        """Mean of the weekday averages over the interval, over the level."""
        M = self.features.season_periods
        season_NM2 = self.features.season_SXW[row_N[:, None], origin_N[:, None] + np.arange(M)]
        level_N1 = self.features.level_SU[row_N, origin_N][:, None]
        relative_NM = (season_NM2[..., 0] / level_N1 + 1) / (season_NM2[..., 1] + 1)
        running_NM = np.pad(relative_NM.cumsum(axis=1), ((0, 0), (1, 0)))
        count_N = ahead_N + 1
        total_N = count_N // M * running_NM[:, -1] + running_NM[np.arange(len(row_N)), count_N % M]
        return (total_N / count_N)[:, None]

    def _calendar(self, period_N: IntArray) -> FloatArray:
        """Weekday as one number, then the places in month and year."""
        calendar_NK = self._calendar_XK[period_N]
        return np.concatenate([calendar_NK[:, :7] @ np.arange(7.0)[:, None], calendar_NK[:, 7:]], axis=1)
