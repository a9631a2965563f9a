"""From order lines to dense series: one row per item and location, one value per period.

Pure functions over complete series. S series, T history periods, X = T + notice periods, P promotion channels, N days.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from cluster.panel import Calendar, FloatArray, IntArray
from cluster.schema import DEFAULT_CATEGORY, Col

PROMOTION_PREFIX: Final = "promotion."
SERIES_KEYS: Final = [Col.ITEM_ID, Col.LOCATION_ID]


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelSpec:
    """What all shards of a panel share."""

    calendar: Calendar
    num_periods: int
    notice_periods: int
    promotion_names: tuple[str, ...]
    timezone: str

    @property
    def num_known(self) -> int:
        """Periods X that covariates cover."""
        return self.num_periods + self.notice_periods


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesInput:
    """Everything about the series of one shard.

    ``lines`` are sales before returns, ``returns`` as :class:`cluster.cleaning.Netted` gives them; ``series`` lists
    further item and location pairs that exist without sales. ``stock`` is a history of snapshots, or None.
    """

    lines: pl.DataFrame
    returns: pl.DataFrame
    categories: pl.DataFrame
    series: pl.DataFrame
    promotions: pl.DataFrame | None = None
    stock: pl.DataFrame | None = None


def make_series(given: SeriesInput, *, spec: PanelSpec) -> pa.Table:
    """Dense series as a table with list columns, sorted by item and location.

    Columns: the ids; ``first_period`` of any sale or 0 for a series without; ``sales`` net of the returns that came
    back within history; ``in_stock``; ``price`` (0 where none is known); ``promotion.<channel>`` (X values); and the
    returns themselves (``returned_sale_period``, ``returned_period``, ``returned_qty``), by which history can be shown
    as it was known on any day.
    """
    lines = _with_period(given.lines, Col.ORDERED_AT, "period", spec).filter(pl.col("period") < spec.num_periods)
    index = _make_index(lines, given)
    lines = lines.join(index, on=SERIES_KEYS)
    returns = _with_period(_with_period(given.returns, "sold_at", "sale_period", spec), "returned_at", "period", spec)
    returns = returns.filter(pl.col("period") < spec.num_periods).join(index, on=SERIES_KEYS, maintain_order="left")
    S, T = index.height, spec.num_periods
    sold_ST = _grid(lines, Col.SOLD_QTY, "period", (S, T))
    returned_ST = _grid(returns, "returned_qty", "sale_period", (S, T))
    sales_ST = np.maximum(sold_ST - returned_ST, 0.0)
    columns = {
        Col.ITEM_ID: index[Col.ITEM_ID].to_arrow().cast(pa.string()),
        Col.LOCATION_ID: index[Col.LOCATION_ID].to_arrow().cast(pa.string()),
        Col.CATEGORY_ID: _categories(index, given.categories),
        "first_period": pa.array(_first_periods(lines, S)),
        "sales": _list_column(sales_ST),
        "in_stock": _list_column(_in_stock(given.stock, index, sold_ST, spec)),
        "price": _list_column(_price(lines, (S, T))),
    }
    for name, values_SX in zip(spec.promotion_names, _promotions(given.promotions, index, spec), strict=True):
        columns[PROMOTION_PREFIX + name] = _list_column(values_SX)
    return pa.table({**columns, **_sparse_returns(returns, S)})


def _with_period(frame: pl.DataFrame, instant: str, name: str, spec: PanelSpec) -> pl.DataFrame:
    day = pl.col(instant).dt.convert_time_zone(spec.timezone).dt.date() - spec.calendar.start_on
    return frame.with_columns((day.dt.total_days() // spec.calendar.period_days).alias(name))


def _make_index(lines: pl.DataFrame, given: SeriesInput) -> pl.DataFrame:
    pairs = pl.concat([lines.select(SERIES_KEYS), given.series.select(SERIES_KEYS)]).unique()
    return pairs.sort(SERIES_KEYS).with_row_index("row")


def _categories(index: pl.DataFrame, categories: pl.DataFrame) -> pa.Array:
    joined = index.join(categories, on=Col.ITEM_ID, how="left", maintain_order="left")
    return joined[Col.CATEGORY_ID].fill_null(DEFAULT_CATEGORY).to_arrow().cast(pa.string())


def _first_periods(lines: pl.DataFrame, num_series: int) -> IntArray:
    first_S = np.zeros(num_series, dtype=np.int64)
    firsts = lines.group_by("row").agg(pl.col("period").min())
    first_S[firsts["row"].to_numpy()] = firsts["period"].to_numpy()
    return first_S


def _grid(frame: pl.DataFrame, value: str, period: str, shape: tuple[int, int]) -> FloatArray:
    """Sum of a column per series and period."""
    S, T = shape
    cell_N = frame["row"].to_numpy().astype(np.int64) * T + frame[period].to_numpy()
    sums = np.bincount(cell_N, weights=frame[value].to_numpy(), minlength=S * T)
    return sums.astype(np.float32).reshape(S, T)


def _list_column(values: np.ndarray) -> pa.ListArray:
    S, T = values.shape
    flat = values.reshape(-1)
    flat = pa.array(flat if flat.dtype == np.bool_ else flat.astype(np.float32))
    return pa.ListArray.from_arrays(pa.array(np.arange(S + 1, dtype=np.int32) * T), flat)


def _price(lines: pl.DataFrame, shape: tuple[int, int]) -> FloatArray:
    """Mean unit price per period; carried on, and back before the first sale. Lines given away say nothing of it."""
    paid = lines.filter(pl.col(Col.AMOUNT) > 0)
    qty_ST = _grid(paid, Col.SOLD_QTY, "period", shape)
    amount_ST = _grid(paid, Col.AMOUNT, "period", shape)
    known_ST = qty_ST > 0
    price_ST = np.divide(amount_ST, qty_ST, out=np.zeros_like(amount_ST), where=known_ST)
    first_S1 = known_ST.argmax(axis=1)[:, None]
    latest_ST = np.maximum.accumulate(np.where(known_ST, np.arange(shape[1]), first_S1), axis=1)
    return np.take_along_axis(price_ST, latest_ST, axis=1)


def _in_stock(stock: pl.DataFrame | None, index: pl.DataFrame, sold_ST: FloatArray, spec: PanelSpec) -> np.ndarray:
    """False where a snapshot of the period shows an empty shelf, or the day sold all that it began with."""
    in_stock_ST = np.ones(sold_ST.shape, dtype=np.bool_)
    if stock is None:
        return in_stock_ST
    day = (pl.col(Col.SNAPSHOT_ON) - spec.calendar.start_on).dt.total_days()
    counted = (
        stock.join(index, on=SERIES_KEYS)
        .with_columns(
            (day // spec.calendar.period_days).alias("period"),
            (pl.col(Col.ON_HAND_QTY) - pl.col(Col.RESERVED_QTY).fill_null(0.0)).alias("free"),
        )
        .filter((pl.col("period") >= 0) & (pl.col("period") < spec.num_periods))
    )
    rows, periods = counted["row"].to_numpy(), counted["period"].to_numpy()
    free_N = counted["free"].to_numpy()
    empty_N = free_N <= 0
    if spec.calendar.period_days == 1:
        empty_N = empty_N | (sold_ST[rows, periods] >= free_N)
    in_stock_ST[rows[empty_N], periods[empty_N]] = False
    return in_stock_ST


def _promotions(promotions: pl.DataFrame | None, index: pl.DataFrame, spec: PanelSpec) -> list[FloatArray]:
    """Intensity per channel, each (S, X): the strongest promotion of a day, averaged over the days of a period."""
    days = spec.calendar.period_days
    S, N = index.height, spec.num_known * days
    channels = []
    for name in spec.promotion_names:
        intensity_SN = np.zeros((S, N), dtype=np.float32)
        if promotions is not None:
            _spread(_place(promotions.filter(pl.col(Col.PROMOTION_TYPE) == name), index, spec), intensity_SN)
        channels.append(intensity_SN.reshape(S, spec.num_known, days).mean(axis=2))
    return channels


def _place(promotions: pl.DataFrame, index: pl.DataFrame, spec: PanelSpec) -> pl.DataFrame:
    """Row of the series, first and last day of each promotion; one without a location runs at every location.

    A promotion that is announced later than the notice is shown only from the day on that every decision could know
    it: period x is first seen by the decision at x - notice + 1.
    """
    days = spec.calendar.period_days
    somewhere = promotions.filter(pl.col(Col.LOCATION_ID).is_not_null()).join(index, on=SERIES_KEYS)
    everywhere = promotions.filter(pl.col(Col.LOCATION_ID).is_null()).join(index.drop(Col.LOCATION_ID), on=Col.ITEM_ID)
    names = ["row", Col.START_ON, Col.END_ON, Col.ANNOUNCED_ON, Col.INTENSITY]
    placed = pl.concat([somewhere.select(names), everywhere.select(names)])
    announced = (pl.col(Col.ANNOUNCED_ON) - spec.calendar.start_on).dt.total_days()
    seen_from = -(-announced // days) + spec.notice_periods - 1
    first = pl.max_horizontal((pl.col(Col.START_ON) - spec.calendar.start_on).dt.total_days(), seen_from * days, 0)
    last = pl.min_horizontal(
        (pl.col(Col.END_ON) - spec.calendar.start_on).dt.total_days(), pl.lit(spec.num_known * days - 1)
    )
    return placed.select("row", Col.INTENSITY, first=first, last=last).filter(pl.col("first") <= pl.col("last"))


def _spread(placed: pl.DataFrame, intensity_SN: FloatArray) -> None:
    length_M = (placed["last"] - placed["first"] + 1).to_numpy()
    ends_M = np.cumsum(length_M)
    day_N = np.arange(ends_M[-1] if len(ends_M) else 0) - np.repeat(ends_M - length_M, length_M)
    day_N += np.repeat(placed["first"].to_numpy(), length_M)
    row_N = np.repeat(placed["row"].to_numpy(), length_M)
    values_N = np.repeat(placed[Col.INTENSITY].to_numpy().astype(np.float32), length_M)
    np.maximum.at(intensity_SN, (row_N, day_N), values_N)


def _sparse_returns(returns: pl.DataFrame, num_series: int) -> dict[str, pa.Array]:
    returns = returns.sort("row", maintain_order=True)
    counts_S = np.bincount(returns["row"].to_numpy(), minlength=num_series)
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts_S)]).astype(np.int32))

    def column(name: str, kind: pa.DataType) -> pa.ListArray:
        return pa.ListArray.from_arrays(offsets, returns[name].to_arrow().cast(kind))

    return {
        "returned_sale_period": column("sale_period", pa.int32()),
        "returned_period": column("period", pa.int32()),
        "returned_qty": column("returned_qty", pa.float32()),
    }
