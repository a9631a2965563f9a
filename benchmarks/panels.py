"""Histories that the rolling replay runs on: the product's datasets, or any long-format table of units per period.

Shapes: S series, T periods, N table rows.
"""

import argparse
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from cluster.config import Settings, load_settings
from cluster.errors import ConfigError, DataError
from cluster.loading import load_dataset
from cluster.panel import Calendar, DemandPanel, SeriesIndex
from cluster.schema import DEFAULT_LOCATION
from rl.assumptions import make_supply_terms, mean_demand_of_history_S
from rl.inventory import CostRates, SupplyTerms
from rl.rolling import TermsMaker

CONFIGS = {"complete-journey": "demo", "online-retail": "tests/data/online_retail.toml"}
"""Configuration of each dataset; the second needs the file that it names, or ``--set data.tables.orders.uri=...``."""

_EPOCH = date(2000, 1, 3)  # a Monday: where periods are numbers, only their distance counts
_TERMS = ("lead_time", "review_period", "holding", "penalty", "fixed")
_NUM_SERIES = 500


@dataclass(frozen=True, kw_only=True)
class ReplayInput:
    """A history, its master data, and what was assumed about it."""

    name: str
    digest: str
    panel: DemandPanel
    settings: Settings
    make_terms: TermsMaker
    jitter_periods: int
    assumed: tuple[str, ...]


def load_dataset_input(name: str, *, home: Path, first_window: Callable[[int], int], sets: list[str]) -> ReplayInput:
    """A dataset of the product, its supply terms and costs as the product assumes them.

    Parameters
    ----------
    first_window
        Start of the first window in a history of so many periods: the series are those that sold most before it.
    """
    settings = load_settings(CONFIGS[name], overrides=[f"data.max_series={_NUM_SERIES}", f'home="{home}"', *sets])
    dataset = load_dataset(settings)
    panel = dataset.panel(selection_end=first_window(dataset.num_periods))
    table = dataset.table("supply_terms")
    _, assumed = make_supply_terms(table, panel=panel.until(first_window(panel.num_periods)), settings=settings)
    return ReplayInput(
        name=name,
        digest=dataset.digest,
        panel=panel,
        settings=settings,
        make_terms=lambda known: make_supply_terms(table, panel=known, settings=settings)[0],
        jitter_periods=settings.assumptions.lead_time_jitter_days // panel.calendar.period_days,
        assumed=assumed,
    )


def load_table_input(arguments: argparse.Namespace, *, home: Path, sets: list[str]) -> ReplayInput:
    """A CSV or Parquet file of units per series and period; a period without a row sold nothing.

    Raises
    ------
    DataError
        If the file, a column or a value cannot be used; the message names it.
    """
    path = Path(arguments.csv)
    table = _read(path, arguments)
    panel = _make_panel(table, weekly=arguments.freq == "W")
    given = {name: _per_series(table, getattr(arguments, name), name=name, path=path) for name in _TERMS}
    lead_S, review_S = (
        _whole(given["lead_time"], "lead_time", least=0),
        _whole(given["review_period"], "review_period", least=1),
    )
    for name in ("holding", "penalty", "fixed"):
        if not (given[name] >= 0).all():
            raise DataError(f"--{name}: must be >= 0 for every series, lowest is {given[name].min():g}; correct it")
    overrides = [f'home="{home}"', f'data.frequency="{arguments.freq}"', *sets]

    def make_terms(known: DemandPanel) -> SupplyTerms:
        ones_S = np.ones(known.num_series, dtype=np.float32)
        return SupplyTerms(
            lead_time_S=lead_S,
            review_period_S=review_S,
            review_phase_S=np.zeros_like(review_S),
            min_order_qty_S=0 * ones_S,
            pack_size_S=ones_S,
            order_cap_S=np.inf * ones_S,
            storage_capacity_S=np.inf * ones_S,
            mean_demand_S=mean_demand_of_history_S(known).astype(np.float32),
            costs=CostRates(
                holding_S=given["holding"].astype(np.float32),
                lost_sale_S=given["penalty"].astype(np.float32),
                fixed_order_S=given["fixed"].astype(np.float32),
                unit_cost_S=0 * ones_S,
            ),
        )

    content = hashlib.sha256(path.read_bytes()).hexdigest()
    terms = hashlib.sha256(b"".join(np.asarray(given[name]).tobytes() for name in _TERMS)).hexdigest()
    return ReplayInput(
        name=path.name,
        digest=hashlib.sha256(f"{content}{terms}{arguments.freq}".encode()).hexdigest()[:16],
        panel=panel,
        settings=load_settings(overrides=overrides),
        make_terms=make_terms,
        jitter_periods=0,
        assumed=("Whole units, no packs, minimums, caps or storage limits; deliveries come as planned.",),
    )


def read_table(path: Path, *, names: Sequence[str], hint: str = "") -> pl.DataFrame:
    """A CSV or Parquet file that has rows and the named columns.

    Raises
    ------
    DataError
        Naming the file and what it lacks.
    """
    try:
        table = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: cannot be read ({str(error)[:200]}); name a CSV or Parquet file") from error
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise DataError(
            f"{path}: has no column {', '.join(map(repr, missing))}; it has {', '.join(table.columns)}: name one of "
            f"these{hint}"
        )
    if not table.height:
        raise DataError(f"{path}: has no rows; name a file with one row per series and period")
    return table


def _read(path: Path, arguments: argparse.Namespace) -> pl.DataFrame:
    """Columns id, time, target and category of the file, and every column that a term names."""
    wanted = {"id": arguments.id, "time": arguments.time, "target": arguments.target}
    if arguments.category:
        wanted["category"] = arguments.category
    terms = [getattr(arguments, name) for name in _TERMS if _number(getattr(arguments, name)) is None]
    table = read_table(path, names=[*wanted.values(), *terms], hint=" (terms may also be numbers)")
    category = pl.col(arguments.category).cast(pl.String).fill_null("none") if arguments.category else pl.lit("all")
    return table.select(
        id=pl.col(arguments.id).cast(pl.String),
        time=_times(table, arguments.time, path=path),
        units=_numbers(table, arguments.target, path=path).fill_null(0.0),
        category=category,
        **{f"term {name}": pl.col(name) for name in dict.fromkeys(terms)},
    ).filter(pl.col("id").is_not_null())


def _times(table: pl.DataFrame, column: str, *, path: Path) -> pl.Series:
    """Dates, also those written as 20240131; other whole numbers are the periods' own."""
    value = table[column]
    if value.dtype.is_integer():
        is_date = bool(value.drop_nulls().is_between(19_000_101, 21_001_231).all()) and len(value.drop_nulls()) > 0
        if not is_date and not value.null_count():
            return value.cast(pl.Int64)
        value = value.cast(pl.String).str.replace(r"^(\d{4})(\d{2})(\d{2})$", "$1-$2-$3")
    return read_days(value, path=path, column=column, hint=" or a period's number")


def read_days(value: pl.Series, *, path: Path, column: str, hint: str = "") -> pl.Series:
    """Dates of a column, whatever time of day they carry.

    Raises
    ------
    DataError
        Naming the first row that holds none; ``hint`` says what else the column may hold.
    """
    days = (
        value.cast(pl.Date)
        if value.dtype.is_temporal()
        else value.cast(pl.String).str.slice(0, 10).str.to_date(strict=False)
    )
    wrong = days.is_null().arg_true()
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{path}: row {row + 1}: {column} is {value[row]!r}, not a date such as 2024-01-31{hint}; correct it"
        )
    return days


def _numbers(table: pl.DataFrame, column: str, *, path: Path) -> pl.Series:
    value = table[column].cast(pl.Float64, strict=False).fill_nan(None)
    wrong = (
        (value.is_null() & table[column].is_not_null() & (table[column].cast(pl.String) != "NaN")) | (value < 0)
    ).arg_true()
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{path}: row {row + 1}: {column} is {table[column][row]!r}, not a number of units >= 0; correct the "
            f"{len(wrong):,} such rows"
        )
    return value


def _make_panel(table: pl.DataFrame, *, weekly: bool) -> DemandPanel:
    """Dense panel from the first row's period to the last row's."""
    first = table["time"].min()
    if isinstance(first, date):
        start, period_N = first, (table["time"] - first).dt.total_days().to_numpy() // (7 if weekly else 1)
    else:
        start, period_N = _EPOCH, (table["time"] - first).to_numpy()
    ids, series_N = np.unique(table["id"].to_numpy().astype(str), return_inverse=True)
    S, T = len(ids), int(period_N.max()) + 1
    sales_ST = np.zeros((S, T))
    np.add.at(sales_ST, (series_N, period_N), table["units"].to_numpy())
    first_row_S = np.unique(series_N, return_index=True)[1]
    return DemandPanel(
        index=SeriesIndex(
            item_ids_S=ids,
            location_ids_S=np.full(S, DEFAULT_LOCATION),
            category_ids_S=table["category"].to_numpy().astype(str)[first_row_S],
        ),
        calendar=Calendar(start_on=start, period_days=7 if weekly else 1),
        sales_ST=sales_ST.astype(np.float32),
        in_stock_ST=np.ones((S, T), dtype=bool),
        price_ST=np.ones((S, T), dtype=np.float32),
        promotion_SXP=np.zeros((S, T, 0), dtype=np.float32),
        promotion_names=(),
        holiday_X=np.zeros(T, dtype=np.float32),
        notice_periods=0,
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _per_series(table: pl.DataFrame, text: str, *, name: str, path: Path) -> np.ndarray:
    """A term of every series, in the order of their ids: one number, or a column with one value per series."""
    number = _number(text)
    if number is not None:
        return np.full(table["id"].n_unique(), number)
    column = pl.col(f"term {text}").cast(pl.Float64, strict=False)
    grouped = table.group_by("id").agg(
        column.drop_nulls().first().alias("value"), column.drop_nulls().n_unique().alias("values")
    )
    wrong = grouped.filter(pl.col("values") != 1).sort("id")
    if wrong.height:
        row = wrong.row(0, named=True)
        raise DataError(
            f"{path}: column {text!r} (--{name.replace('_', '-')}) has {row['values']} numbers for series "
            f"{row['id']!r}; give each series one ({wrong.height:,} have none or several)"
        )
    return grouped.sort("id")["value"].to_numpy()


def _whole(value_S: np.ndarray, name: str, *, least: int) -> np.ndarray:
    if not ((value_S == np.round(value_S)) & (value_S >= least)).all():
        raise DataError(
            f"--{name.replace('_', '-')}: must be a whole number of periods >= {least} for every series, got "
            f"{value_S[(value_S != np.round(value_S)) | (value_S < least)][0]:g}; correct it"
        )
    return value_S.astype(np.int64)


def check_arguments(arguments: argparse.Namespace) -> None:
    """Tell what is missing from the command line.

    Raises
    ------
    ConfigError
        If ``--csv`` lacks a column or a term.
    """
    if not arguments.csv:
        return
    needed = ("id", "time", "target", *(name for name in _TERMS if name != "fixed"))
    missing = [f"--{name.replace('_', '-')}" for name in needed if getattr(arguments, name) is None]
    if missing:
        raise ConfigError(
            f"--csv {arguments.csv}: {', '.join(missing)} missing; terms are numbers or columns of the file"
        )
