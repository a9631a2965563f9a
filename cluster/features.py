"""What is known about users and items before a day: features for models, computed on earlier rows only.

S series, T periods before the day, M periods of a season.
"""

from datetime import datetime
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from cluster.panel import DemandPanel, FloatArray
from cluster.schema import DEFAULT_CATEGORY, Col

_LEVEL_DAYS: Final = 28
_TREND_DAYS: Final = 56
_YEAR_DAYS: Final = 364
# Units added to both sides of a ratio of means, so that slow sellers do not get wild ratios.
_PRIOR: Final = 0.05


def user_features(orders: pa.Table, *, items: pa.Table, before: datetime) -> pa.Table:
    """One row per user who ordered before an instant, sorted by user.

    Columns
    -------
    num_orders
        Orders so far.
    mean_basket_value
        Mean amount of an order, currency.
    orders_per_30_days
        Orders over the days since the first one (at least 30), times 30.
    recency_days
        Days since the last order.
    preferred_category_id, preferred_category_share
        Category of most of the user's spending, and its share of it; shares of gifts only are by lines.

    Parameters
    ----------
    before
        Instant with a time zone; rows at or after it are not used.
    """
    lines = pl.DataFrame(pl.from_arrow(orders)).filter(
        pl.col(Col.USER_ID).is_not_null() & (pl.col(Col.ORDERED_AT) < before)
    )
    baskets = lines.group_by(Col.USER_ID, Col.ORDER_ID).agg(pl.col(Col.AMOUNT).sum(), pl.col(Col.ORDERED_AT).min())
    day = pl.duration(days=1)
    span = (pl.lit(before) - pl.col(Col.ORDERED_AT).min()) / day
    users = baskets.group_by(Col.USER_ID).agg(
        pl.len().alias("num_orders"),
        pl.col(Col.AMOUNT).mean().alias("mean_basket_value"),
        (pl.len() / pl.max_horizontal(span, pl.lit(30.0)) * 30).alias("orders_per_30_days"),
        ((pl.lit(before) - pl.col(Col.ORDERED_AT).max()) / day).alias("recency_days"),
    )
    return users.join(_preferences(lines, items), on=Col.USER_ID).sort(Col.USER_ID).to_arrow()


def _preferences(lines: pl.DataFrame, items: pa.Table) -> pl.DataFrame:
    categories = pl.DataFrame(pl.from_arrow(items)).select(Col.ITEM_ID, Col.CATEGORY_ID)
    spent = (
        lines.join(categories, on=Col.ITEM_ID, how="left")
        .with_columns(pl.col(Col.CATEGORY_ID).fill_null(DEFAULT_CATEGORY))
        .group_by(Col.USER_ID, Col.CATEGORY_ID)
        .agg(pl.col(Col.AMOUNT).sum().fill_null(0.0), pl.len().alias("lines"))
    )
    total = pl.col(Col.AMOUNT).sum().over(Col.USER_ID)
    by_lines = pl.col("lines") / pl.col("lines").sum().over(Col.USER_ID)
    share = pl.when(total > 0).then(pl.col(Col.AMOUNT) / total).otherwise(by_lines)
    ranked = spent.with_columns(share.alias("share")).sort(
        [Col.USER_ID, "share", Col.CATEGORY_ID], descending=[False, True, False]
    )
    return ranked.group_by(Col.USER_ID, maintain_order=True).agg(
        pl.col(Col.CATEGORY_ID).first().alias("preferred_category_id"),
        pl.col("share").first().alias("preferred_category_share"),
    )


def item_features(panel: DemandPanel, *, period: int) -> pa.Table:
    """One row per series of the panel, from what is known at the start of ``period``.

    Columns
    -------
    level
        Mean sales per period over the last four weeks.
    trend
        Change of sales per period and period, least squares over the last eight weeks.
    weekly_season
        List of seven shares of the mean by weekday, Monday first; mean 1. All 1 on a weekly panel.
    yearly_season
        Sales around this time last year over the mean of that year; 1 where history is shorter than a year.
    price, price_change
        Last price, and its ratio to the mean price so far less 1.
    promotion, promotion_uplift
        Strongest promotion announced for this period, and mean sales in promoted over other periods so far.
    holiday, holiday_uplift
        Share of this period that is holiday, and mean sales in holiday over other periods so far.
    age
        Periods since the first sale; 0 for a series that has not sold.
    """
    view = panel.until(period)
    promotion_SX = view.promotion_SXP.max(axis=2, initial=0.0)
    known = len(view.holiday_X) > period
    holiday_ST = np.broadcast_to(view.holiday_X[:period], view.sales_ST.shape)
    price_S = view.price_ST[:, -1]
    columns = {
        Col.ITEM_ID: view.index.item_ids_S,
        Col.LOCATION_ID: view.index.location_ids_S,
        "level": view.sales_ST[:, -view.calendar.num_periods(_LEVEL_DAYS) :].mean(axis=1),
        "trend": _slope(view.sales_ST[:, -view.calendar.num_periods(_TREND_DAYS) :]),
        "weekly_season": list(_weekly_season(view)),
        "yearly_season": _yearly_season(view),
        "price": price_S,
        "price_change": price_S / view.price_ST.mean(axis=1) - 1,
        "promotion": promotion_SX[:, period] if known else np.zeros_like(price_S),
        "promotion_uplift": _uplift(view.sales_ST, promotion_SX[:, :period] > 0),
        "holiday": np.full_like(price_S, view.holiday_X[period] if known else 0.0),
        "holiday_uplift": _uplift(view.sales_ST, holiday_ST > 0),
        "age": period - view.first_sale_S,
    }
    return pa.table({name: pa.array(values) for name, values in columns.items()})


def _slope(sales_ST: FloatArray) -> FloatArray:
    time_T = np.arange(sales_ST.shape[1]) - (sales_ST.shape[1] - 1) / 2
    return sales_ST @ time_T / max(float(time_T @ time_T), 1.0)


def _weekly_season(view: DemandPanel) -> FloatArray:
    if view.calendar.period_days == 7:
        return np.ones((view.num_series, 7), dtype=np.float32)
    weekday_T = (view.calendar.start_on.weekday() + np.arange(view.num_periods)) % 7
    mean_S = view.sales_ST.mean(axis=1)
    season_SM = np.ones((view.num_series, 7), dtype=np.float32)
    for weekday in set(weekday_T.tolist()):
        on_day_S = view.sales_ST[:, weekday_T == weekday].mean(axis=1)
        season_SM[:, weekday] = (on_day_S + _PRIOR) / (mean_S + _PRIOR)
    return season_SM / season_SM.mean(axis=1, keepdims=True)


def _yearly_season(view: DemandPanel) -> FloatArray:
    """Four weeks around the same time last year over that whole year."""
    year, half = view.calendar.num_periods(_YEAR_DAYS), view.calendar.num_periods(_LEVEL_DAYS // 2)
    same = view.num_periods - year
    if same < 0:
        return np.ones(view.num_series, dtype=np.float32)
    around_S = view.sales_ST[:, max(same - half, 0) : same + half].mean(axis=1)
    year_S = view.sales_ST[:, max(same - year // 2, 0) : same + year // 2].mean(axis=1)
    return (around_S + _PRIOR) / (year_S + _PRIOR)


def _uplift(sales_ST: FloatArray, marked_ST: np.ndarray) -> FloatArray:
    """Mean sales where marked over mean sales elsewhere; 1 where one of the two does not occur."""
    num_S = marked_ST.sum(axis=1)
    inside_S = (sales_ST * marked_ST).sum(axis=1) / np.maximum(num_S, 1)
    outside_S = (sales_ST * ~marked_ST).sum(axis=1) / np.maximum(sales_ST.shape[1] - num_S, 1)
    both_S = (num_S > 0) & (num_S < sales_ST.shape[1])
    return np.where(both_S, (inside_S + _PRIOR) / (outside_S + _PRIOR), 1.0)
