"""Gradient-boosted trees that answer quantiles directly (LightGBM): the strongest rival of the network.

One model per quantile level and kind, single periods and sums; the periods ahead are an input. Demand is learned over
the series' level and weighted by it, so what is minimised is the loss of units, as WQL counts it. A sum is learned as
its mean per period.

Shapes: S series, T history periods, X = T + periods known ahead, H horizon, Q levels, N rows (series, origin, periods
ahead), P promotion channels, M periods per season, Z inputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from cluster.panel import DemandPanel, FloatArray, IntArray
from forecasting.features import SeriesFeatures, make_features
from forecasting.forecast import Forecast
from forecasting.levels import at_levels
from forecasting.vocabulary import Vocabulary

if TYPE_CHECKING:
    from lightgbm import Booster

Kind = Literal["single", "summed"]

_LAGS = (1, 2, 3, 4, 5, 6, 7, 14, 21, 28)
_WINDOWS = (7, 28)
_NAMES = (0, 1)
"""Columns that hold the numbers of series and category: their values have no order."""
_LEAST_ORIGIN = 28
_GROUP_SERIES = 2_048
_PARAMETERS: dict[str, Any] = {
    "objective": "quantile",
    "num_leaves": 31,
    "learning_rate": 0.07,
    "min_data_in_leaf": 60,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "max_bin": 127,
    "num_threads": 1,
    "verbosity": -1,
    "deterministic": True,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeForecaster:
    """Fitted trees, one booster per level and kind.

    Parameters
    ----------
    levels
        Levels of every forecast.
    fitted_levels
        Levels that have boosters; the others are read between them.
    """

    vocabulary: Vocabulary
    levels: tuple[float, ...]
    fitted_levels: tuple[float, ...]
    single: tuple["Booster", ...]
    summed: tuple["Booster", ...]

    def predict_rolling(self, panel: DemandPanel, *, origins: Sequence[int], horizon: int) -> list[Forecast]:
        """Forecast from many origins; item k reads only what is known at ``origins[k]``."""
        known = self.vocabulary.rows(panel.index, price_S=panel.price_ST[:, 0])
        features = make_features(self.vocabulary.aligned(panel), known=known, yearly=self.vocabulary.yearly)
        return self.predict_features(features, origins=origins, horizon=horizon)

    def predict_features(self, features: SeriesFeatures, *, origins: Sequence[int], horizon: int) -> list[Forecast]:
        """As :meth:`predict_rolling`, from inputs that have been computed already."""
        inputs = TreeInputs(features, horizon=horizon)
        return [self._forecast(inputs, origin=int(origin), horizon=horizon) for origin in origins]

    def mean_SH(self, features: SeriesFeatures, *, origin: int, horizon: int) -> FloatArray:
        """Expected demand alone, from the inputs of some series."""
        inputs = TreeInputs(features, horizon=horizon)
        single_SHQ = self._quantile_SHQ(inputs, "single", origin=origin, ahead_H=np.arange(horizon))
        return mean_of_quantiles(single_SHQ, levels=self.levels)

    def save(self, folder: Path) -> None:
        """Write every booster as LightGBM's own text into an existing folder."""
        for kind, models in (("single", self.single), ("summed", self.summed)):
            for level, model in zip(self.fitted_levels, models, strict=True):
                _file_of(folder, kind, level).write_text(model.model_to_string())

    @classmethod
    def load(
        cls, folder: Path, *, vocabulary: Vocabulary, levels: Sequence[float], fitted_levels: Sequence[float]
    ) -> "TreeForecaster":
        """Undo :meth:`save`.

        Raises
        ------
        OSError, ValueError
            If a file is missing or not a model.
        """
        from lightgbm import Booster  # here: not every install that forecasts has trees
        from lightgbm.basic import LightGBMError

        try:
            single, summed = (
                tuple(Booster(model_str=_file_of(folder, kind, level).read_text()) for level in fitted_levels)
                for kind in ("single", "summed")
            )
        except LightGBMError as error:
            raise ValueError(f"not a model of LightGBM: {error}") from error
        return cls(
            vocabulary=vocabulary,
            levels=tuple(levels),
            fitted_levels=tuple(fitted_levels),
            single=single,
            summed=summed,
        )

    def _forecast(self, inputs: "TreeInputs", *, origin: int, horizon: int) -> Forecast:
        single_SHQ = self._quantile_SHQ(inputs, "single", origin=origin, ahead_H=np.arange(horizon))
        knot_K = sum_knots(horizon)
        per_period_SHQ = _between_knots(
            self._quantile_SHQ(inputs, "summed", origin=origin, ahead_H=knot_K), knot_K=knot_K, horizon=horizon
        )
        cumulative_SHQ = np.maximum.accumulate(per_period_SHQ * np.arange(1, horizon + 1)[:, None], axis=1)
        return Forecast(
            levels_Q=np.asarray(self.levels, dtype=np.float32),
            mean_SH=mean_of_quantiles(single_SHQ, levels=self.levels),
            marginal_SHQ=single_SHQ,
            cumulative_SHQ=cumulative_SHQ.astype(np.float32),
        )

    def _quantile_SHQ(self, inputs: "TreeInputs", kind: Kind, *, origin: int, ahead_H: IntArray) -> FloatArray:
        models = self.single if kind == "single" else self.summed
        num_series = len(inputs.features.first_sale_S)
        out_SHQ = np.empty((num_series, len(ahead_H), len(self.levels)), dtype=np.float32)
        # Some series at a time: the inputs of all at once would not fit for a large shop.
        for first in range(0, num_series, _GROUP_SERIES):
            rows = np.arange(first, min(first + _GROUP_SERIES, num_series))
            row_N, ahead_N = np.repeat(rows, len(ahead_H)), np.tile(ahead_H, len(rows))
            read_NZ = inputs.read_NZ(kind, row_N=row_N, origin_N=np.full_like(row_N, origin), ahead_N=ahead_N)
            relative_NQ = np.stack([np.asarray(model.predict(read_NZ, num_threads=1)) for model in models], axis=-1)
            # Models of different levels know nothing of each other: sorted, their answers do not cross.
            relative_SHQ = np.sort(np.maximum(relative_NQ, 0.0), axis=-1).reshape(len(rows), len(ahead_H), -1)
            if self.fitted_levels != self.levels:
                fitted_Q = np.asarray(self.fitted_levels, dtype=np.float32)
                relative_SHQ = np.maximum(at_levels(relative_SHQ, levels_Q=fitted_Q, wanted=self.levels), 0.0)
            out_SHQ[rows] = relative_SHQ * inputs.features.level_SU[rows, origin, None, None]
        return out_SHQ


def sum_knots(horizon: int) -> IntArray:
    """Periods ahead at which sums are predicted: close together at first; demand per period is linear between them.

    >>> (sum_knots(28) + 1).tolist()
    [1, 2, 3, 5, 7, 8, 12, 14, 18, 28]
    """
    growing = np.round(horizon ** (np.arange(9) / 8)).astype(np.int64)
    return np.unique([*growing, max(1, horizon // 4), max(1, horizon // 2)]) - 1


def _between_knots(value_SKQ: FloatArray, *, knot_K: IntArray, horizon: int) -> FloatArray:
    ahead_H = np.arange(horizon)
    right_H = np.clip(np.searchsorted(knot_K, ahead_H), min(1, len(knot_K) - 1), len(knot_K) - 1)
    left_H = np.maximum(right_H - 1, 0)
    weight_H1 = ((ahead_H - knot_K[left_H]) / np.maximum(knot_K[right_H] - knot_K[left_H], 1))[:, None]
    return np.asarray(value_SKQ[:, left_H] * (1 - weight_H1) + value_SKQ[:, right_H] * weight_H1, dtype=np.float32)


def _file_of(folder: Path, kind: str, level: float) -> Path:
    return folder / f"trees-{kind}-{level}.txt"


def mean_of_quantiles(quantile_SHQ: FloatArray, *, levels: Sequence[float]) -> FloatArray:
    """Mean of a distribution of which only quantiles are known: each stands for the levels closest to it.

    >>> mean_of_quantiles(np.array([[[1.0, 2.0, 6.0]]], dtype=np.float32), levels=(0.25, 0.5, 0.75)).tolist()
    [[3.125]]
    """
    level_Q = np.asarray(levels)
    edges = np.concatenate([[0.0], (level_Q[1:] + level_Q[:-1]) / 2, [1.0]])
    return (quantile_SHQ * np.diff(edges)).sum(axis=-1).astype(np.float32)


def fit_trees(
    panel: DemandPanel,
    *,
    vocabulary: Vocabulary,
    horizon: int,
    levels: Sequence[float],
    seed: int,
    num_rows: int = 100_000,
    num_rounds: int = 120,
    fitted_levels: Sequence[float] | None = None,
) -> TreeForecaster:
    """Fit to a panel, all of it: cut it with ``until`` first.

    Parameters
    ----------
    num_rows
        Pairs of origin and target drawn from history, per kind.
    num_rounds
        Trees of each model.
    fitted_levels
        Levels that get boosters, all by default; the others are read between them.
    """
    fitted_levels = tuple(levels if fitted_levels is None else fitted_levels)
    known = vocabulary.rows(panel.index, price_S=panel.price_ST[:, 0])
    features = make_features(panel, known=known, yearly=vocabulary.yearly)
    inputs = TreeInputs(features, horizon=horizon)
    row_N, origin_N, ahead_N = _draw_rows(features, horizon=horizon, num_rows=num_rows, seed=seed)

    def fit(kind: Kind) -> tuple["Booster", ...]:
        import lightgbm  # here: not every install that forecasts fits trees

        level_N = features.level_SU[row_N, origin_N]
        data = lightgbm.Dataset(
            inputs.read_NZ(kind, row_N=row_N, origin_N=origin_N, ahead_N=ahead_N),
            inputs.demand_N(kind, row_N=row_N, origin_N=origin_N, ahead_N=ahead_N) / level_N,
            weight=level_N,
            categorical_feature=list(_NAMES),
            free_raw_data=False,
            params=_PARAMETERS,
        )
        parameters = _PARAMETERS | {"seed": seed}
        return tuple(
            lightgbm.train(parameters | {"alpha": level}, data, num_boost_round=num_rounds) for level in fitted_levels
        )

    return TreeForecaster(
        vocabulary=vocabulary,
        levels=tuple(levels),
        fitted_levels=fitted_levels,
        single=fit("single"),
        summed=fit("summed"),
    )


def _draw_rows(
    features: SeriesFeatures, *, horizon: int, num_rows: int, seed: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Series, origin and periods ahead whose target is known, was in stock, and lies after the first sale."""
    random = np.random.default_rng(seed)
    S, T = features.demand_ST.shape
    least = min(_LEAST_ORIGIN, max(1, T // 4))
    row_N = random.integers(S, size=num_rows)
    ahead_N = random.integers(min(horizon, max(1, T - least)), size=num_rows)
    origin_N = random.integers(least, np.maximum(T - ahead_N, least + 1))
    censored_SU = np.pad(features.censored_ST.cumsum(axis=1), ((0, 0), (1, 0)))
    until_N = np.minimum(origin_N + ahead_N + 1, T)
    is_whole_N = censored_SU[row_N, until_N] == censored_SU[row_N, origin_N]
    kept_N = (origin_N + ahead_N < T) & (origin_N > features.first_sale_S[row_N]) & is_whole_N
    if not kept_N.any():  # nothing has sold before any origin: learn that it does not
        kept_N = origin_N + ahead_N < T
    return row_N[kept_N], origin_N[kept_N], ahead_N[kept_N]


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
        """All inputs, (N, Z): names, periods ahead, state at the origin, lags, and what is known of the target."""
        features = self.features
        columns: list[npt.NDArray[Any]] = [
            features.series_row_S[row_N][:, None],
            features.category_row_S[row_N][:, None],
            ahead_N[:, None],
            features.origin_SUO[row_N, origin_N],
            *self._past(row_N, origin_N),
            *(self._target if kind == "single" else self._interval)(row_N, origin_N, ahead_N),
        ]
        return np.concatenate(columns, axis=1).astype(np.float32)

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
