"""What the network reads, computed from a panel without looking ahead.

Everything at column ``u`` of an origin array is known at the **start** of period u; everything at column ``t`` of a
history array is known at its end. Promotions and holidays are known ahead, up to the panel's notice; prices are not.

Shapes: S series, T history periods, U = T + 1 origins, X = T + periods known ahead, P promotion channels, C own-history
channels, O origin channels, K calendar channels, M periods per season (7 or 1), W sum and weight.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.errors import DataError
from cluster.panel import BoolArray, Calendar, DemandPanel, FloatArray, IntArray
from forecasting.censoring import fill_censored

NUM_OWN = 4
PRICE_CHANNEL = 3
"""Column of ``own_STC`` that holds the price."""
NUM_ORIGIN = 11
NUM_WEEKDAY = 7
NUM_CALENDAR = NUM_WEEKDAY + 2 + 4
NUM_HOLIDAY = 2
PRIOR_PERIODS = 1.0
"""Weight of the prior level, in periods of history: it decides for a series without any and is soon outvoted."""

_HALF_LIVES = {1: (3.0, 9.0, 28.0, 112.0), 7: (1.5, 4.0, 9.0, 26.0)}
_LEVEL = 2
"""Which half-life gives the level that everything is scaled by."""
_SEASON_HALF_LIFE = 5.0
_PRICE_HALF_LIFE = 56.0
_PROMOTED_HALF_LIFE = {1: 112.0, 7: 26.0}
_PROMOTED_PRIOR = 3.0
"""Weight of the level in the averages of plain and of promoted periods, in periods."""
_LEAST_LEVEL = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFeatures:
    """Inputs of a group of series. ``promotion_SXP`` is also read as far ahead as ``notice_periods`` from an origin.

    Parameters
    ----------
    own_STC
        Sold at all yet, in stock, log sales over level, log price over its level.
    origin_SUO
        Log level, log ratios of faster and slower averages and of the mean of all history to the level, share of
        periods with a sale, spread, age, and ``log_lift_SUW``.
    log_lift_SUW
        Log of average demand in periods without and with promotion, each over the level.
    season_SXW
        Sum and weight of sales at the same place in the season: column j holds what is known M periods before j, units.
    demand_ST
        Sales, with censored periods filled by the level, units.
    """

    own_STC: FloatArray
    origin_SUO: FloatArray
    level_SU: FloatArray
    log_lift_SUW: FloatArray
    season_SXW: FloatArray
    demand_ST: FloatArray
    censored_ST: BoolArray
    promotion_SXP: FloatArray
    holiday_X: FloatArray
    calendar_XK: FloatArray
    first_sale_S: IntArray
    series_row_S: IntArray
    category_row_S: IntArray
    notice_periods: int
    season_periods: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRows:
    """What a fitted vocabulary says of each series: embedding rows (0: unknown) and the level to assume at first."""

    series_row_S: IntArray
    category_row_S: IntArray
    prior_level_S: FloatArray

    def take(self, rows: npt.NDArray[np.integer]) -> "KnownRows":
        """Keep the given series, in the given order."""
        return KnownRows(
            series_row_S=self.series_row_S[rows],
            category_row_S=self.category_row_S[rows],
            prior_level_S=self.prior_level_S[rows],
        )


def season_periods(period_days: int) -> int:
    """Periods per season: 7 on daily panels (weekdays), 1 (none) on weekly ones."""
    return 7 if period_days == 1 else 1


def check_finite(panel: DemandPanel) -> None:
    """Refuse a panel that holds NaN, infinite or negative sales, or NaN in its promotions or holidays.

    Prices may be missing (NaN): they are then not read.

    Raises
    ------
    DataError
        Naming the first offending series and period.
    """
    wrong_ST = ~np.isfinite(panel.sales_ST) | (panel.sales_ST < 0)
    if wrong_ST.any():
        s, t = np.argwhere(wrong_ST)[0]
        raise DataError(
            f"sales of item {panel.index.item_ids_S[s]} at location {panel.index.location_ids_S[s]} on "
            f"{panel.calendar.date_on(int(t))} are {panel.sales_ST[s, t]}, not a finite number >= 0; "
            "mend the input or load it with 'restock data load', which quarantines such rows"
        )
    if not np.isfinite(panel.promotion_SXP).all() or not np.isfinite(panel.holiday_X).all():
        raise DataError("promotions or holidays hold NaN or infinite values; give 0 where there is none")


def make_features(panel: DemandPanel, *, known: KnownRows, yearly: bool) -> SeriesFeatures:
    """Compute the inputs of every series of a panel, for every origin at once.

    Parameters
    ----------
    yearly
        Whether the place in the year is shown. Only a history of two years or more can teach what it means.

    Raises
    ------
    DataError
        If the panel holds NaN or infinite values, or negative sales.
    """
    check_finite(panel)
    T, M = panel.num_periods, season_periods(panel.calendar.period_days)
    first_sale_S = panel.first_sale_S
    averages = _Averages(panel, first_sale_S=first_sale_S, prior_level_S=known.prior_level_S)
    level_SU = averages.level_SU
    censored_ST = ~panel.in_stock_ST
    demand_ST = fill_censored(panel.sales_ST, expected_ST=level_SU[:, :-1], censored_ST=censored_ST)
    sold_ST = np.arange(T) >= first_sale_S[:, None]
    own_STC = np.stack(
        [
            sold_ST,
            panel.in_stock_ST,
            np.log1p(demand_ST / level_SU[:, 1:]),
            _log_relative_price_ST(panel.price_ST),
        ],
        axis=2,
        dtype=np.float32,
        casting="unsafe",
    )
    log_lift_SUW = _log_lift_SUW(panel, demand_ST, level_SU=level_SU, counts_ST=sold_ST & panel.in_stock_ST)
    return SeriesFeatures(
        own_STC=own_STC * sold_ST[:, :, None],
        origin_SUO=np.concatenate([averages.origin_SUO(), log_lift_SUW], axis=2),
        level_SU=level_SU,
        log_lift_SUW=log_lift_SUW,
        season_SXW=_season_SXW(demand_ST, sold_ST & panel.in_stock_ST, season=M),
        demand_ST=demand_ST,
        censored_ST=censored_ST,
        promotion_SXP=panel.promotion_SXP,
        holiday_X=panel.holiday_X,
        calendar_XK=calendar_features(panel.calendar, num_periods=len(panel.holiday_X), yearly=yearly),
        first_sale_S=first_sale_S,
        series_row_S=known.series_row_S,
        category_row_S=known.category_row_S,
        notice_periods=panel.notice_periods,
        season_periods=M,
    )


def calendar_features(calendar: Calendar, *, num_periods: int, yearly: bool) -> FloatArray:
    """Weekday (one-hot, zeros on weekly panels), place in the month and, if ``yearly``, in the year, shape (X, K)."""
    start = np.datetime64(calendar.start_on, "D")
    day_X = start + np.arange(num_periods) * calendar.period_days
    out_XK = np.zeros((num_periods, NUM_CALENDAR), dtype=np.float32)
    if calendar.period_days == 1:
        weekday_X = (day_X.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday: 0 is Monday
        out_XK[np.arange(num_periods), weekday_X] = 1.0
    month_X = (day_X - day_X.astype("datetime64[M]")).astype(np.int64) / 30.4
    out_XK[:, 7:9] = _circle(month_X, harmonics=1)
    if yearly:
        year_X = (day_X - day_X.astype("datetime64[Y]")).astype(np.int64) / 365.25
        out_XK[:, 9:13] = _circle(year_X, harmonics=2)
    return out_XK


def plain_level_S(features: SeriesFeatures) -> FloatArray:
    """Usual demand of a plain period: the level at the end of history without promoted periods and holidays, units.

    Decayed as the level is. One period at the level is mixed in: it decides where no period was plain.
    """
    T = features.demand_ST.shape[1]
    half_life = _HALF_LIVES[1 if features.season_periods > 1 else 7][_LEVEL]
    recent_T = 0.5 ** ((T - 1 - np.arange(T)) / half_life)
    plain_ST = 1.0 - features.promotion_SXP[:, :T].max(axis=2, initial=0.0)
    plain_ST = plain_ST * (1.0 - features.holiday_X[:T]) * ~features.censored_ST
    weight_ST = recent_T * plain_ST * (np.arange(T) >= features.first_sale_S[:, None])
    sums_S = (weight_ST * features.demand_ST).sum(axis=1) + PRIOR_PERIODS * features.level_SU[:, T]
    return np.asarray(sums_S / (weight_ST.sum(axis=1) + PRIOR_PERIODS), dtype=np.float32)


def _circle(turn_X: npt.NDArray[np.float64], *, harmonics: int) -> npt.NDArray[np.float64]:
    angle_XK = 2 * np.pi * turn_X[:, None] * np.arange(1, harmonics + 1)
    return np.concatenate([np.sin(angle_XK), np.cos(angle_XK)], axis=1)


def _log_relative_price_ST(price_ST: FloatArray) -> FloatArray:
    """Log of price over its own running average so far; 0 where there is no price."""
    known_ST = np.isfinite(price_ST) & (price_ST > 0)
    log_ST = np.log(np.where(known_ST, price_ST, 1.0))
    sums_SU, weights_SU = _decayed_sums([log_ST * known_ST, known_ST], half_lives=[_PRICE_HALF_LIFE] * 2)
    usual_ST = sums_SU[:, 1:] / np.maximum(weights_SU[:, 1:], 1e-6)
    return np.where(known_ST, np.clip(log_ST - usual_ST, -1.0, 1.0), 0.0).astype(np.float32)


def _decayed_sums(
    values: Sequence[npt.NDArray[np.floating[Any] | np.bool_]], *, half_lives: Sequence[float]
) -> list[FloatArray]:
    """Exponentially decayed sums before each origin, (S, U) each: one half-life for each (S, T) array of values.

    All in one pass with periods first, so that every step reads and writes one stretch of memory.
    """
    S, T = values[0].shape
    decay_C1 = (0.5 ** (1.0 / np.asarray(half_lives)))[:, None].astype(np.float32)
    value_TCS = np.stack([value_ST.T for value_ST in values], axis=1, dtype=np.float32, casting="unsafe")
    sum_UCS = np.zeros((T + 1, len(values), S), dtype=np.float32)
    for t in range(T):
        np.multiply(sum_UCS[t], decay_C1, out=sum_UCS[t + 1])
        sum_UCS[t + 1] += value_TCS[t]
    return list(np.ascontiguousarray(sum_UCS.transpose(1, 2, 0)))


def _season_SXW(demand_ST: FloatArray, counts_ST: BoolArray, *, season: int) -> FloatArray:
    """Decayed sum and weight of demand at the same place in the season, one to many seasons before each period."""
    S, T = demand_ST.shape
    decay = 0.5 ** (1.0 / _SEASON_HALF_LIFE)
    out_SXW = np.zeros((S, T + season, 2), dtype=np.float32)
    counted_STW = np.stack([demand_ST * counts_ST, counts_ST], axis=2, dtype=np.float32, casting="unsafe")
    for t in range(T):
        out_SXW[:, t + season] = decay * out_SXW[:, t] + counted_STW[:, t]
    return out_SXW


def _log_lift_SUW(
    panel: DemandPanel, demand_ST: FloatArray, *, level_SU: FloatArray, counts_ST: BoolArray
) -> FloatArray:
    """Log of decayed average demand before each origin, without and with promotion, over the level."""
    half_life = _PROMOTED_HALF_LIFE[panel.calendar.period_days]
    promoted_ST = panel.promotion_SXP[:, : panel.num_periods].max(axis=2, initial=0.0)
    plain_ST, promoted_ST = (1.0 - promoted_ST) * counts_ST, promoted_ST * counts_ST
    values = [demand_ST * plain_ST, plain_ST, demand_ST * promoted_ST, promoted_ST]
    scans = _decayed_sums(values, half_lives=[half_life] * len(values))
    columns = [
        np.log((sums_SU / level_SU + _PROMOTED_PRIOR) / (weights_SU + _PROMOTED_PRIOR))
        for sums_SU, weights_SU in (scans[:2], scans[2:])
    ]
    return np.stack(columns, axis=2).astype(np.float32)


class _Averages:
    """Running averages of one panel. Periods before the first sale count only as long as there was none."""

    def __init__(self, panel: DemandPanel, *, first_sale_S: IntArray, prior_level_S: FloatArray) -> None:
        self.sales_ST = panel.sales_ST
        self.half_lives = _HALF_LIVES[panel.calendar.period_days]
        self.prior_S1 = PRIOR_PERIODS * np.maximum(prior_level_S, _LEAST_LEVEL).astype(np.float32)[:, None]
        in_stock_ST = panel.in_stock_ST.astype(np.float32)
        self.since_ST = (np.arange(panel.num_periods) >= first_sale_S[:, None]) * in_stock_ST
        self.unsold_SU = np.arange(panel.num_periods + 1) <= first_sale_S[:, None]
        self.age_SU = np.maximum(np.arange(panel.num_periods + 1) - first_sale_S[:, None], 0).astype(np.float32)
        counted_ST = self.sales_ST * self.since_ST
        times = (*self.half_lives, np.inf)
        scans = _decayed_sums(
            [value_ST for _ in times for value_ST in (counted_ST, self.since_ST, in_stock_ST)] + [counted_ST > 0],
            half_lives=[half_life for half_life in times for _ in range(3)] + [self.half_lives[_LEVEL]],
        )
        self._sums, self._since, self._waited = scans[:-1:3], scans[1:-1:3], scans[2:-1:3]
        self._often_SU = scans[-1]
        self.level_SU = self._average_SU(_LEVEL)

    def _average_SU(self, position: int) -> FloatArray:
        """Decayed mean with one period at the prior level; ``position`` among the half-lives."""
        weights_SU = np.where(self.unsold_SU, self._waited[position], self._since[position])
        return np.maximum((self._sums[position] + self.prior_S1) / (weights_SU + PRIOR_PERIODS), _LEAST_LEVEL)

    def origin_SUO(self) -> FloatArray:
        """Inputs at every origin, but for the lift."""
        level_SU = self.level_SU
        ratios = [
            np.log((self._average_SU(position) + 0.1 * level_SU) / (1.1 * level_SU))
            for position in range(len(self.half_lives))
            if position != _LEVEL
        ]
        weights_SU = self._since[_LEVEL] + PRIOR_PERIODS
        relative_ST = np.abs(self.sales_ST / level_SU[:, 1:] - 1.0)
        (spread_SU,) = _decayed_sums([relative_ST * self.since_ST], half_lives=[self.half_lives[_LEVEL]])
        ever_SU = (self._sums[-1] + level_SU) / (self._since[-1] + 1.0)
        channels = [
            np.log(level_SU) / 3.0,
            *ratios,
            np.log((ever_SU + 0.1 * level_SU) / (1.1 * level_SU)),
            self._often_SU / weights_SU,
            np.log1p(spread_SU / weights_SU),
            np.log1p(self.age_SU) / 5.0,
            (~self.unsold_SU).astype(np.float32),
        ]
        return np.stack(channels, axis=2).astype(np.float32)
