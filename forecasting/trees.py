"""Gradient-boosted trees that answer quantiles directly (LightGBM): the strongest rival of the network.

One model per quantile level and kind, single periods and sums; the periods ahead are an input. Demand is learned over
the series' level and weighted by it, so what is minimised is the loss of units, as WQL counts it. A sum is learned as
its mean per period.

Shapes: S series, T history periods, H horizon, Q levels, N rows (series, origin, periods ahead), K knots of sums, Z
inputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cluster.panel import DemandPanel, FloatArray, IntArray
from forecasting.features import SeriesFeatures, make_features
from forecasting.forecast import Forecast
from forecasting.forest import Forest
from forecasting.levels import at_levels
from forecasting.tree_inputs import NAMES, Kind, TreeInputs, columns_Z
from forecasting.vocabulary import Vocabulary

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
    single: Forest
    summed: Forest

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
        for kind, forest in (("single", self.single), ("summed", self.summed)):
            for level, text in zip(self.fitted_levels, forest.texts, strict=True):
                _file_of(folder, kind, level).write_text(text)

    @classmethod
    def load(
        cls, folder: Path, *, vocabulary: Vocabulary, levels: Sequence[float], fitted_levels: Sequence[float]
    ) -> "TreeForecaster":
        """Undo :meth:`save`.

        Raises
        ------
        OSError, ValueError, LookupError
            If a file is missing or not a model.
        """
        single, summed = (
            Forest.read([_file_of(folder, kind, level).read_text() for level in fitted_levels])
            for kind in ("single", "summed")
        )
        # Now: forked processes share what is compiled, and no request waits for it.
        single.compile()
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
        forest = self.single if kind == "single" else self.summed
        num_series = len(inputs.features.first_sale_S)
        out_SHQ = np.empty((num_series, len(ahead_H), len(self.levels)), dtype=np.float32)
        # Some series at a time: the inputs of all at once would not fit for a large shop.
        for first in range(0, num_series, _GROUP_SERIES):
            rows = np.arange(first, min(first + _GROUP_SERIES, num_series))
            answer_SHQ = _answer_SHQ(forest, inputs, kind, row_S=rows, origin=origin, ahead_H=ahead_H)
            # Models of different levels know nothing of each other: sorted, their answers do not cross.
            relative_SHQ = np.sort(np.maximum(answer_SHQ, 0.0), axis=-1)
            if self.fitted_levels != self.levels:
                fitted_Q = np.asarray(self.fitted_levels, dtype=np.float32)
                relative_SHQ = np.maximum(at_levels(relative_SHQ, levels_Q=fitted_Q, wanted=self.levels), 0.0)
            out_SHQ[rows] = relative_SHQ * inputs.features.level_SU[rows, origin, None, None]
        return out_SHQ


def _answer_SHQ(
    forest: Forest, inputs: TreeInputs, kind: Kind, *, row_S: IntArray, origin: int, ahead_H: IntArray
) -> FloatArray:
    """What the boosters say of some series, demand over level."""
    row_N, ahead_N = np.repeat(row_S, len(ahead_H)), np.tile(ahead_H, len(row_S))
    origin_SY = inputs.origin_NY(row_N=row_S, origin_N=np.full_like(row_S, origin))
    ahead_NV = inputs.ahead_NV(kind, row_N=row_N, origin_N=np.full_like(row_N, origin), ahead_N=ahead_N)
    ahead_SHV = ahead_NV.reshape(len(row_S), len(ahead_H), -1)
    column_Z = columns_Z(num_origin=origin_SY.shape[1], num_ahead=ahead_SHV.shape[2])
    return forest.predict_SHQ(origin_SY, ahead_SHV, column_Z=column_Z).astype(np.float32)


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

    def fit(kind: Kind) -> Forest:
        import lightgbm  # here: not every install that forecasts fits trees

        level_N = features.level_SU[row_N, origin_N]
        data = lightgbm.Dataset(
            inputs.read_NZ(kind, row_N=row_N, origin_N=origin_N, ahead_N=ahead_N),
            inputs.demand_N(kind, row_N=row_N, origin_N=origin_N, ahead_N=ahead_N) / level_N,
            weight=level_N,
            categorical_feature=list(NAMES),
            free_raw_data=False,
            params=_PARAMETERS,
        )
        parameters = _PARAMETERS | {"seed": seed}
        boosters = [
            lightgbm.train(parameters | {"alpha": level}, data, num_boost_round=num_rounds) for level in fitted_levels
        ]
        return Forest.read([booster.model_to_string() for booster in boosters])

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
