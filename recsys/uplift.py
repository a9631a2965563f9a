"""What promotions did in the past: a multiplicative lift per channel and category, with its uncertainty. Pure NumPy.

Units of an item in a week are taken for Poisson-like counts with mean ``exp(item + week + promotion x effect)``. Every
category is fitted by itself, so that its weeks are each other's controls: an item on display is compared with itself in
other weeks and with its category in the same week. The effects of a category are then drawn towards those of all by
how far categories differ beyond their standard errors (DerSimonian & Laird 1986).

Shapes: S series, W weeks, P channels, C categories, D draws.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cluster.panel import DemandPanel, StrArray

Matrix = npt.NDArray[np.float64]
_ROUNDS: Final = 30
_MIN_PROMOTED: Final = 8
_RIDGE: Final = 1e-3
_LARGEST_EFFECT: Final = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WeeklySales:
    """Units per whole week, and the share of the audience that each channel reached, mean over the week."""

    category_ids_S: StrArray
    promotion_names: tuple[str, ...]
    sales_SW: Matrix
    reach_SWP: Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionEffects:
    """Log lift at full reach, per category and channel.

    Parameters
    ----------
    effect_CP, variance_CP
        Mean and variance of each category's effect; the last row is what to expect of a category that is not listed.
    item_spread
        Standard deviation of items' own log lift about their category's.
    dispersion
        Variance over mean of a week's sales about the fit.
    """

    category_ids_C: tuple[str, ...]
    promotion_names: tuple[str, ...]
    effect_CP: Matrix
    variance_CP: Matrix
    item_spread: float
    dispersion: float

    def rows_of(self, category_ids_S: StrArray) -> npt.NDArray[np.int64]:
        """Row of each category, the last one where it is not listed."""
        row_of = {category: row for row, category in enumerate(self.category_ids_C)}
        return np.array([row_of.get(category, len(self.category_ids_C)) for category in category_ids_S.tolist()])

    def log_lift_S(self, category_ids_S: StrArray, *, reach_SP: Matrix) -> tuple[Matrix, Matrix]:
        """Mean and standard deviation of the log lift of a promotion of items, those between items included."""
        row_S = self.rows_of(category_ids_S)
        mean_S = (self.effect_CP[row_S] * reach_SP).sum(axis=1)
        variance_S = (self.variance_CP[row_S] * reach_SP**2).sum(axis=1)
        return mean_S, np.sqrt(variance_S + self.item_spread**2 * reach_SP.max(axis=1, initial=0.0) ** 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraUnits:
    """Units that a promotion adds to what would be sold anyway: expected, and an interval for what will happen."""

    mean_S: Matrix
    low_S: Matrix
    high_S: Matrix


def weekly_sales(panel: DemandPanel) -> WeeklySales:
    """Sum a panel over whole weeks, Monday to Sunday; a weekly panel is taken as it is."""
    days = 1 if panel.calendar.period_days == 7 else 7
    start = 0 if days == 1 else -panel.calendar.start_on.weekday() % 7
    num_weeks = (panel.num_periods - start) // days
    inside = slice(start, start + num_weeks * days)
    reach_SXP = panel.promotion_SXP[:, inside].astype(np.float64)
    return WeeklySales(
        category_ids_S=panel.index.category_ids_S,
        promotion_names=panel.promotion_names,
        sales_SW=panel.sales_ST[:, inside].astype(np.float64).reshape(panel.num_series, num_weeks, days).sum(axis=2),
        reach_SWP=reach_SXP.reshape(panel.num_series, num_weeks, days, -1).mean(axis=2),
    )


def fit_effects(weekly: WeeklySales) -> PromotionEffects:
    """Learn what each channel adds, category by category, and draw the categories towards each other."""
    names, fits = [], []
    excess = _Excess()
    for category in np.unique(weekly.category_ids_S).tolist():
        rows = np.flatnonzero(weekly.category_ids_S == category)
        sales_SW, reach_SWP = weekly.sales_SW[rows], weekly.reach_SWP[rows]
        sold_S = sales_SW.sum(axis=1) > 0
        if (reach_SWP[sold_S].max(axis=2, initial=0.0) > 0).sum() < _MIN_PROMOTED or sold_S.sum() < 2:
            continue
        effect_P, variance_P, mean_SW = _fit_category(sales_SW[sold_S], reach_SWP[sold_S])
        excess.add(sales_SW[sold_S], mean_SW, reach_SWP[sold_S].max(axis=2))
        names.append(category)
        fits.append((effect_P, variance_P))
    num_channels = len(weekly.promotion_names)
    effect_CP = np.array([fit[0] for fit in fits]).reshape(len(fits), num_channels)
    variance_CP = np.array([fit[1] for fit in fits]).reshape(len(fits), num_channels)
    effect_CP, variance_CP = _shrunk(effect_CP, variance_CP)
    return PromotionEffects(
        category_ids_C=tuple(names),
        promotion_names=weekly.promotion_names,
        effect_CP=effect_CP,
        variance_CP=variance_CP,
        item_spread=excess.spread,
        dispersion=excess.dispersion,
    )


def extra_units(
    effects: PromotionEffects,
    *,
    category_ids_S: StrArray,
    base_S: Matrix,
    reach_SP: Matrix,
    seed: int,
    level: float = 0.8,
    num_draws: int = 2_000,
) -> ExtraUnits:
    """Units that a promotion adds to the base, with the interval that holds the outcome with chance ``level``.

    Parameters
    ----------
    base_S
        Units that would be sold in the same time without it.
    """
    mean_S, deviation_S = effects.log_lift_S(category_ids_S, reach_SP=reach_SP)
    rng = np.random.default_rng(seed)
    # The fit is of the mean over items, so that the spread between them must not raise it.
    middle_S1 = (mean_S - deviation_S**2 / 2)[:, None]
    lift_SD = np.exp(middle_S1 + deviation_S[:, None] * rng.standard_normal((len(mean_S), num_draws)))
    total_SD = base_S[:, None] * lift_SD
    noise_SD = rng.standard_normal(total_SD.shape) * np.sqrt(effects.dispersion * total_SD)
    extra_SD = np.maximum(total_SD + noise_SD, 0.0) - base_S[:, None]
    low_S, high_S = np.quantile(extra_SD, [(1 - level) / 2, (1 + level) / 2], axis=1)
    return ExtraUnits(mean_S=base_S * (np.exp(mean_S) - 1), low_S=low_S, high_S=high_S)


def base_units_S(weekly: WeeklySales, effects: PromotionEffects, *, weeks: int = 8) -> Matrix:
    """Units per week without promotion: sales of the last weeks over the lift that they had."""
    sales_SW, reach_SWP = weekly.sales_SW[:, -weeks:], weekly.reach_SWP[:, -weeks:]
    effect_SP = effects.effect_CP[effects.rows_of(weekly.category_ids_S)]
    lift_SW = np.exp(np.einsum("swp,sp->sw", reach_SWP, effect_SP))
    return np.asarray(sales_SW.sum(axis=1) / lift_SW.sum(axis=1))


def _fit_category(sales_SW: Matrix, reach_SWP: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Effects and their variances (clustered by item), and the fitted means; items and weeks are profiled out."""
    num_channels = reach_SWP.shape[2]
    effect_P = np.zeros(num_channels)
    week_W = np.ones(sales_SW.shape[1])
    mean_SW = np.ones_like(sales_SW)
    curvature_PP = np.eye(num_channels)
    for _ in range(_ROUNDS):
        lift_SW = np.exp(reach_SWP @ effect_P)
        item_S = sales_SW.sum(axis=1) / np.maximum((lift_SW * week_W).sum(axis=1), 1e-9)
        week_W = (sales_SW.sum(axis=0) + 1e-3) / np.maximum((lift_SW * item_S[:, None]).sum(axis=0), 1e-9)
        mean_SW = item_S[:, None] * week_W * lift_SW
        centred_SWP = _centred(reach_SWP, mean_SW)
        curvature_PP = np.einsum("swp,sw,swq->pq", centred_SWP, mean_SW, centred_SWP) + _RIDGE * np.eye(num_channels)
        step_P = np.linalg.solve(curvature_PP, np.einsum("swp,sw->p", centred_SWP, sales_SW - mean_SW))
        effect_P = np.clip(effect_P + np.clip(step_P, -1.0, 1.0), -_LARGEST_EFFECT, _LARGEST_EFFECT)
        if np.abs(step_P).max(initial=0.0) < 1e-4:
            break
    score_SP = np.einsum("swp,sw->sp", _centred(reach_SWP, mean_SW), sales_SW - mean_SW)
    inverse_PP = np.linalg.inv(curvature_PP)
    correction = len(sales_SW) / max(len(sales_SW) - 1, 1)
    variance_P = np.diag(inverse_PP @ (score_SP.T @ score_SP * correction) @ inverse_PP)
    # A channel that was never used has no scatter either: it says nothing, so its variance is the ridge's.
    return effect_P, np.maximum(variance_P, np.diag(inverse_PP)), mean_SW


def _centred(reach_SWP: Matrix, mean_SW: Matrix) -> Matrix:
    """Reach less its mean over item and week, weighted by expected sales: what those do not explain."""
    centred_SWP = reach_SWP
    for _ in range(2):
        for axis in (1, 0):
            total = np.maximum(mean_SW.sum(axis=axis, keepdims=True), 1e-9)[..., None]
            centred_SWP = centred_SWP - (centred_SWP * mean_SW[..., None]).sum(axis=axis, keepdims=True) / total
    return centred_SWP


def _shrunk(effect_CP: Matrix, variance_CP: Matrix) -> tuple[Matrix, Matrix]:
    """Draw each effect towards the mean of all categories; the last row is that mean, with the spread between them."""
    if not len(effect_CP):
        return np.zeros((1, effect_CP.shape[1])), np.ones((1, effect_CP.shape[1]))
    weight_CP = 1.0 / variance_CP
    total_P = weight_CP.sum(axis=0)
    plain_P = (weight_CP * effect_CP).sum(axis=0) / total_P
    scatter_P = (weight_CP * (effect_CP - plain_P) ** 2).sum(axis=0)
    excess_P = total_P - (weight_CP**2).sum(axis=0) / total_P
    between_P = np.maximum(scatter_P - (len(effect_CP) - 1), 0.0) / np.maximum(excess_P, 1e-9)
    pooled_CP = 1.0 / (variance_CP + between_P)
    mean_P = (pooled_CP * effect_CP).sum(axis=0) / pooled_CP.sum(axis=0)
    own_CP = between_P / (between_P + variance_CP)
    shrunk_CP = own_CP * effect_CP + (1 - own_CP) * mean_P
    mean_variance_P = 1.0 / pooled_CP.sum(axis=0)
    shrunk_variance_CP = own_CP * variance_CP + (1 - own_CP) ** 2 * mean_variance_P
    return np.vstack([shrunk_CP, mean_P]), np.vstack([shrunk_variance_CP, between_P + mean_variance_P])


class _Excess:
    """Sums, over categories, what items sold when promoted against the fit, and how far weeks scatter about it."""

    def __init__(self) -> None:
        self._log, self._noise, self._weight = [0.0], [0.0], [0.0]
        self._squares, self._means = 0.0, 0.0

    def add(self, sales_SW: Matrix, mean_SW: Matrix, reach_SW: Matrix) -> None:
        """Take in one category's fit."""
        promoted_SW = reach_SW > 0
        fitted_S = (mean_SW * promoted_SW).sum(axis=1)
        sold_S = (sales_SW * promoted_SW).sum(axis=1)
        tells_S = fitted_S >= 5
        mean_reach_S = (reach_SW * promoted_SW).sum(axis=1) / np.maximum(promoted_SW.sum(axis=1), 1)
        self._log.append(float((((sold_S - fitted_S) / np.maximum(fitted_S, 1e-9)) ** 2)[tells_S].sum()))
        self._noise.append(float((1 / np.maximum(fitted_S, 1e-9))[tells_S].sum()))
        self._weight.append(float((mean_reach_S**2)[tells_S].sum()))
        self._squares += float((((sales_SW - mean_SW) ** 2) * ~promoted_SW).sum())
        self._means += float((mean_SW * ~promoted_SW).sum())

    @property
    def dispersion(self) -> float:
        """Variance over mean of weeks without promotion, at least 1."""
        return max(self._squares / self._means, 1.0) if self._means > 0 else 1.0

    @property
    def spread(self) -> float:
        """Standard deviation of items' log lift at full reach, beyond the noise of their counts."""
        beyond = sum(self._log) - self.dispersion * sum(self._noise)
        return float(np.sqrt(max(beyond, 0.0) / sum(self._weight))) if sum(self._weight) > 0 else 0.0
