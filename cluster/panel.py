"""Demand as dense arrays: one row per series, one column per period.

Shapes: S series (item x location), T history periods, X = T + periods known ahead, P promotion channels.
A period is a day on a daily panel and a week on a weekly one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
StrArray = npt.NDArray[np.str_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """Maps period numbers to dates: period 0 starts on ``start_on`` and each lasts ``period_days`` (1 or 7)."""

    start_on: date
    period_days: int

    def __post_init__(self) -> None:
        if self.period_days not in (1, 7):
            raise ValueError(f"period_days must be 1 or 7, got {self.period_days}")

    def date_on(self, period: int) -> date:
        """First day of a period.

        >>> Calendar(start_on=date(2017, 1, 1), period_days=7).date_on(2)
        datetime.date(2017, 1, 15)
        """
        return self.start_on + timedelta(days=period * self.period_days)

    def period_of(self, day: date) -> int:
        """Number of the period that contains a day; negative before the start."""
        return (day - self.start_on).days // self.period_days

    def num_periods(self, days: float) -> int:
        """Periods that cover a duration given in days, rounded up."""
        return int(-(-days // self.period_days))


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesIndex:
    """External ids of the series, in row order: item, location and category of each."""

    item_ids_S: StrArray
    location_ids_S: StrArray
    category_ids_S: StrArray

    def __post_init__(self) -> None:
        if not len(self.item_ids_S) == len(self.location_ids_S) == len(self.category_ids_S):
            raise ValueError("item, location and category ids must have one entry per series")

    def __len__(self) -> int:
        return len(self.item_ids_S)

    def positions(self, item_ids: Sequence[str], location_ids: Sequence[str]) -> IntArray:
        """Row of each (item, location) pair, -1 where the panel has no such series."""
        row_of = {pair: row for row, pair in enumerate(zip(self.item_ids_S, self.location_ids_S, strict=True))}
        pairs = zip(item_ids, location_ids, strict=True)
        return np.array([row_of.get(pair, -1) for pair in pairs], dtype=np.int64)

    def take(self, rows: npt.NDArray[np.integer] | BoolArray) -> "SeriesIndex":
        """Keep the given series, in the given order."""
        return SeriesIndex(
            item_ids_S=self.item_ids_S[rows],
            location_ids_S=self.location_ids_S[rows],
            category_ids_S=self.category_ids_S[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandPanel:
    """History of all series on one calendar, with the covariates that are known ahead.

    Parameters
    ----------
    sales_ST
        Units sold per period, >= 0. Zero before the first sale. Equals demand only where ``in_stock_ST``.
    in_stock_ST
        False where the shelf was empty for a part of the period: sales there are "at least" (censored demand).
    price_ST
        Unit price in account currency, not known ahead; the last known price is carried on, the first one back.
    promotion_SXP
        Intensity in [0, 1] per channel of ``promotion_names``, also for periods after T that are already announced.
    holiday_X
        Share of the period's days that are public holidays, in [0, 1]; known ahead.
    notice_periods
        How many periods ahead promotions and holidays are known.
    """

    index: SeriesIndex
    calendar: Calendar
    sales_ST: FloatArray
    in_stock_ST: BoolArray
    price_ST: FloatArray
    promotion_SXP: FloatArray
    promotion_names: tuple[str, ...]
    holiday_X: FloatArray
    notice_periods: int

    def __post_init__(self) -> None:
        S, T = self.sales_ST.shape
        if len(self.index) != S:
            raise ValueError(f"index has {len(self.index)} series, sales_ST has {S}")
        if self.in_stock_ST.shape != (S, T) or self.price_ST.shape != (S, T):
            raise ValueError("in_stock_ST and price_ST must have the shape of sales_ST")
        X = len(self.holiday_X)
        if self.promotion_SXP.shape != (S, X, len(self.promotion_names)) or X < T:
            raise ValueError("promotion_SXP must be (S, X, P) and holiday_X (X,) with X >= T")

    @property
    def num_series(self) -> int:
        """Number of series S."""
        return int(self.sales_ST.shape[0])

    @property
    def num_periods(self) -> int:
        """Number of history periods T."""
        return int(self.sales_ST.shape[1])

    @property
    def first_sale_S(self) -> IntArray:
        """Period of each series' first sale; T where it never sold."""
        sold_ST = self.sales_ST > 0
        return np.where(sold_ST.any(axis=1), sold_ST.argmax(axis=1), self.num_periods).astype(np.int64)

    def until(self, period: int) -> "DemandPanel":
        """What a decision at the start of ``period`` may see: history before it, covariates up to the notice.

        Raises
        ------
        ValueError
            If ``period`` is not in 1..T.
        """
        if not 1 <= period <= self.num_periods:
            raise ValueError(f"period must be in 1..{self.num_periods}, got {period}")
        known = min(period + self.notice_periods, len(self.holiday_X))
        return replace(
            self,
            sales_ST=self.sales_ST[:, :period],
            in_stock_ST=self.in_stock_ST[:, :period],
            price_ST=self.price_ST[:, :period],
            promotion_SXP=self.promotion_SXP[:, :known],
            holiday_X=self.holiday_X[:known],
        )

    def take(self, rows: npt.NDArray[np.integer] | BoolArray) -> "DemandPanel":
        """Keep the given series, in the given order."""
        return replace(
            self,
            index=self.index.take(rows),
            sales_ST=self.sales_ST[rows],
            in_stock_ST=self.in_stock_ST[rows],
            price_ST=self.price_ST[rows],
            promotion_SXP=self.promotion_SXP[rows],
        )
