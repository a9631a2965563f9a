"""Long-format tables as demand panels for the forecast benchmark: the two shared ones, or any CSV or Parquet file.

Shapes: S series, T periods, N table rows, P known-ahead columns.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.panels import read_days, read_table
from cluster.errors import DataError
from cluster.panel import Calendar, DemandPanel, FloatArray, SeriesIndex
from cluster.schema import DEFAULT_LOCATION

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableColumns:
    """Which column is what. ``known`` columns are known ahead; each is scaled to [0, 1] by its largest value."""

    id: str
    time: str
    target: str
    category: str | None = None
    price: str | None = None
    known: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """All columns that the table must have."""
        optional = [name for name in (self.category, self.price) if name]
        return [self.id, self.time, self.target, *optional, *self.known]


DATASETS = {
    "cj": (
        "cj_daily.parquet",
        TableColumns(
            id="unique_id", time="ds", target="y", price="price", known=("disp", "mail"), category="product_type"
        ),
    ),
    "or": ("or_daily.parquet", TableColumns(id="unique_id", time="ds", target="y", price="price", known=("open",))),
}
"""Name -> file of the shared data, and its columns. Prices are read up to the origin only."""


def load_table(path: Path, columns: TableColumns, *, weekly: bool) -> tuple[DemandPanel, list[str]]:
    """Dense panel of a long-format table, and what had to be mended.

    A period without a row sold nothing; rows of the same period add up; units below zero (returns) count as none.

    Raises
    ------
    DataError
        If the file, a column or a date cannot be used; the message names it.
    """
    table = _read(path, columns)
    day = read_days(table[columns.time], path=path, column=columns.time)
    first = day.min()
    period_N = (day - first).dt.total_days().to_numpy() // (7 if weekly else 1)
    ids, series_N = np.unique(table[columns.id].cast(pl.String).to_numpy().astype(str), return_inverse=True)
    shape = (len(ids), int(period_N.max()) + 1)
    units_N = table[columns.target].cast(pl.Float64, strict=False).fill_nan(None)
    below_N = (units_N < 0).fill_null(value=False)
    notes = []
    if below_N.any():
        notes.append(f"{int(below_N.sum()):,} rows below zero count as nothing sold")
    if units_N.null_count():
        notes.append(f"{units_N.null_count():,} rows without a number count as nothing sold")
    sales_ST = np.zeros(shape)
    np.add.at(sales_ST, (series_N, period_N), units_N.fill_null(0.0).clip(lower_bound=0.0).to_numpy())
    first_row_S = np.unique(series_N, return_index=True)[1]
    category_N = table[columns.category].cast(pl.String).fill_null("none") if columns.category else None
    known = [_dense(table, name, at=(series_N, period_N), shape=shape, empty=0.0) for name in columns.known]
    price_ST = _dense(table, columns.price, at=(series_N, period_N), shape=shape, empty=np.nan)
    panel = DemandPanel(
        index=SeriesIndex(
            item_ids_S=ids,
            location_ids_S=np.full(len(ids), DEFAULT_LOCATION),
            category_ids_S=np.full(len(ids), "all")
            if category_N is None
            else category_N.to_numpy().astype(str)[first_row_S],
        ),
        calendar=Calendar(start_on=first, period_days=7 if weekly else 1),  # type: ignore[arg-type]  # polars types a minimum as any literal
        sales_ST=sales_ST.astype(np.float32),
        in_stock_ST=np.ones(shape, dtype=bool),
        price_ST=price_ST,
        promotion_SXP=np.stack([_unit(value_ST) for value_ST in known], axis=2)
        if known
        else np.zeros((*shape, 0), dtype=np.float32),
        promotion_names=columns.known,
        holiday_X=np.zeros(shape[1], dtype=np.float32),
        notice_periods=shape[1],
    )
    return panel, notes


def _read(path: Path, columns: TableColumns) -> pl.DataFrame:
    table = read_table(path, names=columns.names()).filter(pl.col(columns.id).is_not_null())
    if not table.height:
        raise DataError(f"{path}: has no rows with a name in {columns.id}; name the column of the series' names")
    return table


def _dense(
    table: pl.DataFrame, name: str | None, *, at: tuple[np.ndarray, np.ndarray], shape: tuple[int, int], empty: float
) -> FloatArray:
    out_ST = np.full(shape, empty, dtype=np.float32)
    if name is not None:
        out_ST[at] = table[name].cast(pl.Float32, strict=False).fill_null(empty).to_numpy()
    return out_ST


def _unit(value_ST: FloatArray) -> FloatArray:
    value_ST = np.nan_to_num(np.maximum(value_ST, 0.0))
    return value_ST / max(float(value_ST.max()), 1.0)
