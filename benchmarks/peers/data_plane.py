"""Restock's data plane written in polars, duckdb or pandas: ``python -m benchmarks.peers.data_plane NAME``.

The job: order lines that break a rule are dropped, repeated ones merged, returned ones taken off. What is left goes to
``orders.parquet``, a row per series and day (units, last known price) to ``panel.parquet``, and a row per series of
windows (level, trend, weekdays, price, age) to ``features.parquet``. Returns are whole and of a customer's only
purchase of an item, so that a join nets them. Each library uses all cores, and its own form of the job.
"""

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import polars as pl

from benchmarks.order_lines import NUM_DAYS, START_ON

_RULES: Final = (
    "order_id IS NOT NULL AND item_id IS NOT NULL AND ordered_at IS NOT NULL AND sold_qty <> 0 AND unit_price >= 0 "
    "AND NOT (amount < 0 AND sold_qty > 0) AND ordered_at >= TIMESTAMPTZ '1990-01-01 00:00:00+00'"
)
_SERIES: Final = ["item_id", "location_id"]
_LEVEL_DAYS, _TREND_DAYS, _PRIOR = 28, 56, 0.05
_TREND_CENTRE: Final = NUM_DAYS - 1 - (_TREND_DAYS - 1) / 2
_TREND_SQUARES: Final = sum((day - (_TREND_DAYS - 1) / 2) ** 2 for day in range(_TREND_DAYS))


def run_polars(orders: Path, out: Path, *, engine: Any = "streaming") -> None:
    """Lazy queries; each result goes to its file as it comes."""
    valid = (
        pl.scan_parquet(orders / "*.parquet")
        .filter(
            pl.all_horizontal(pl.col("order_id", "item_id", "ordered_at").is_not_null()),
            pl.col("sold_qty") != 0,
            pl.col("unit_price") >= 0,
            ~((pl.col("amount") < 0) & (pl.col("sold_qty") > 0)),
            pl.col("ordered_at").dt.date() >= date(1990, 1, 1),
        )
        .unique()
    )
    keys = [*_SERIES, "user_id"]
    returns = valid.filter(pl.col("sold_qty") < 0).select(*keys, returned_at="ordered_at")
    lines = valid.filter(pl.col("sold_qty") > 0).join(returns, on=keys, how="left")
    returned = (pl.col("returned_at") > pl.col("ordered_at")).fill_null(value=False)
    lines = lines.with_columns(net_qty=pl.when(returned).then(0.0).otherwise("sold_qty"))
    staged = out / "lines.parquet"
    lines.drop("returned_at").sink_parquet(staged, engine=engine)
    lines = pl.scan_parquet(staged)
    lines.filter(pl.col("net_qty") > 0).drop("net_qty").sink_parquet(out / "orders.parquet", engine=engine)
    _polars_panel(lines).sink_parquet(out / "panel.parquet", engine=engine)
    _polars_features(pl.scan_parquet(out / "panel.parquet")).sink_parquet(out / "features.parquet", engine=engine)
    staged.unlink()


def _polars_panel(lines: pl.LazyFrame) -> pl.LazyFrame:
    daily = lines.group_by(
        *_SERIES, day=(pl.col("ordered_at").dt.date() - START_ON).dt.total_days().cast(pl.Int32)
    ).agg(pl.col("net_qty").sum().alias("sales"), price=pl.col("amount").sum() / pl.col("sold_qty").sum())
    days = pl.LazyFrame({"day": pl.Series(range(NUM_DAYS), dtype=pl.Int32)})
    grid = daily.select(_SERIES).unique().join(days, how="cross")
    return (
        grid.join(daily, on=[*_SERIES, "day"], how="left")
        .sort(*_SERIES, "day")
        .with_columns(
            pl.col("sales").fill_null(0.0).cast(pl.Float32),
            pl.col("price").forward_fill().backward_fill().over(_SERIES).cast(pl.Float32),
        )
    )


def _polars_features(panel: pl.LazyFrame) -> pl.LazyFrame:
    sales, day = pl.col("sales").cast(pl.Float64), pl.col("day")
    weekday = (day + START_ON.weekday()) % 7
    recent = day >= NUM_DAYS - _TREND_DAYS
    by_day = {f"weekday_{k}": sales.filter(weekday == k).mean() for k in range(7)}
    raw = {name: (mean + _PRIOR) / (sales.mean() + _PRIOR) for name, mean in by_day.items()}
    features = panel.group_by(_SERIES).agg(
        level=sales.filter(day >= NUM_DAYS - _LEVEL_DAYS).mean(),
        trend=(sales * (day - _TREND_CENTRE)).filter(recent).sum() / _TREND_SQUARES,
        price=pl.col("price").sort_by("day").last(),
        price_change=pl.col("price").sort_by("day").last() / pl.col("price").mean() - 1,
        age=NUM_DAYS - day.filter(sales > 0).min().fill_null(NUM_DAYS),
        **raw,
    )
    total = pl.sum_horizontal(f"weekday_{k}" for k in range(7))
    return features.with_columns([pl.col(f"weekday_{k}") * 7 / total for k in range(7)])


def run_polars_in_memory(orders: Path, out: Path) -> None:
    """The same queries by the engine that holds each of them in memory."""
    run_polars(orders, out, engine="in-memory")


def run_duckdb(orders: Path, out: Path) -> None:
    """SQL, from files to files; the lines that two results need are a table on disk."""
    import duckdb

    database = duckdb.connect(str(out / "lines.duckdb"))
    database.execute("SET preserve_insertion_order = false; SET TimeZone = 'UTC'; SET enable_progress_bar = false")
    database.execute(
        f"""CREATE TABLE lines AS
        WITH valid AS (SELECT DISTINCT * FROM read_parquet('{orders}/*.parquet') WHERE {_RULES}),
        returns AS (SELECT item_id, location_id, user_id, ordered_at AS returned_at FROM valid WHERE sold_qty < 0)
        SELECT valid.*, CASE WHEN returned_at > ordered_at THEN 0 ELSE sold_qty END AS net_qty
        FROM valid LEFT JOIN returns USING (item_id, location_id, user_id) WHERE sold_qty > 0"""
    )
    _copy(database, "SELECT * EXCLUDE net_qty FROM lines WHERE net_qty > 0", out / "orders.parquet")
    _copy(database, _DUCKDB_PANEL, out / "panel.parquet")
    _copy(database, _duckdb_features(out / "panel.parquet"), out / "features.parquet")
    database.close()
    (out / "lines.duckdb").unlink()


_DUCKDB_PANEL: Final = f"""
WITH daily AS (
    SELECT item_id, location_id, date_diff('day', DATE '{START_ON}', ordered_at::DATE) AS day,
           sum(net_qty) AS sales, sum(amount) / sum(sold_qty) AS price
    FROM lines GROUP BY ALL),
grid AS (SELECT * FROM (SELECT DISTINCT item_id, location_id FROM daily), range({NUM_DAYS}) AS days(day))
SELECT item_id, location_id, day::INTEGER AS day, coalesce(sales, 0)::FLOAT AS sales,
       coalesce(last_value(price IGNORE NULLS) OVER past,
                first_value(price IGNORE NULLS) OVER (PARTITION BY item_id, location_id ORDER BY day
                    ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING))::FLOAT AS price
FROM grid LEFT JOIN daily USING (item_id, location_id, day)
WINDOW past AS (PARTITION BY item_id, location_id ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"""


def _duckdb_features(panel: Path) -> str:
    by_day = ", ".join(
        f"(avg(sales) FILTER ((day + {START_ON.weekday()}) % 7 = {k}) + {_PRIOR}) / (avg(sales) + {_PRIOR}) AS raw_{k}"
        for k in range(7)
    )
    total = " + ".join(f"raw_{k}" for k in range(7))
    season = ", ".join(f"raw_{k} * 7 / ({total}) AS weekday_{k}" for k in range(7))
    return f"""WITH windows AS (
        SELECT item_id, location_id, avg(sales) FILTER (day >= {NUM_DAYS - _LEVEL_DAYS}) AS level,
               sum(sales * (day - {_TREND_CENTRE})) FILTER (day >= {NUM_DAYS - _TREND_DAYS})
                   / {_TREND_SQUARES} AS trend,
               arg_max(price, day) AS price, arg_max(price, day) / avg(price) - 1 AS price_change,
               {NUM_DAYS} - coalesce(min(day) FILTER (sales > 0), {NUM_DAYS}) AS age, {by_day}
        FROM read_parquet('{panel}') GROUP BY ALL)
    SELECT item_id, location_id, level, trend, price, price_change, age, {season}
    FROM windows"""


def _copy(database: Any, query: str, path: Path) -> None:
    database.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")


def run_pandas(orders: Path, out: Path) -> None:
    """Frames in memory, vectorised throughout; grouped sums instead of functions per group."""
    import numpy as np
    import pandas as pd

    lines = pd.read_parquet(orders)
    lines = lines[
        lines[["order_id", "item_id", "ordered_at"]].notna().all(axis=1)
        & (lines["sold_qty"] != 0)
        & (lines["unit_price"] >= 0)
        & ~((lines["amount"] < 0) & (lines["sold_qty"] > 0))
        & (lines["ordered_at"] >= pd.Timestamp("1990-01-01", tz="UTC"))
    ].drop_duplicates()
    keys = [*_SERIES, "user_id"]
    returns = lines.loc[lines["sold_qty"] < 0, [*keys, "ordered_at"]].rename(columns={"ordered_at": "returned_at"})
    lines = lines[lines["sold_qty"] > 0].merge(returns, on=keys, how="left")
    lines["net_qty"] = lines["sold_qty"].where(~(lines["returned_at"] > lines["ordered_at"]), 0.0)
    lines = lines.drop(columns="returned_at")
    lines[lines["net_qty"] > 0].drop(columns="net_qty").to_parquet(out / "orders.parquet", compression="zstd")
    lines["day"] = (lines["ordered_at"] - pd.Timestamp(START_ON, tz="UTC")).dt.days
    daily = lines.groupby([*_SERIES, "day"])[["net_qty", "sold_qty", "amount"]].sum()
    del lines
    series = daily.index.droplevel("day").unique()
    grid = pd.MultiIndex.from_arrays(
        [
            *(series.get_level_values(key).repeat(NUM_DAYS) for key in _SERIES),
            np.tile(np.arange(NUM_DAYS), len(series)),
        ],
        names=[*_SERIES, "day"],
    )
    panel = daily.reindex(grid)
    panel["price"] = panel["amount"] / panel["sold_qty"]
    by_series = panel.groupby(level=_SERIES)["price"]
    panel["price"] = by_series.ffill()
    panel["price"] = panel.groupby(level=_SERIES)["price"].bfill().astype(np.float32)
    panel["sales"] = panel["net_qty"].fillna(0.0).astype(np.float32)
    panel = panel[["sales", "price"]].reset_index()
    panel.to_parquet(out / "panel.parquet", compression="zstd")
    _pandas_features(panel).to_parquet(out / "features.parquet")


def _pandas_features(panel: Any) -> Any:
    import pandas as pd

    def mean_sales(rows: Any) -> Any:
        return rows.groupby(_SERIES)["sales"].mean()

    recent = panel[panel["day"] >= NUM_DAYS - _TREND_DAYS]
    weighted = (recent["sales"] * (recent["day"] - _TREND_CENTRE)).groupby([recent[key] for key in _SERIES]).sum()
    last_price, mean_price = (panel.groupby(_SERIES)["price"].agg(how) for how in ("last", "mean"))
    first = panel[panel["sales"] > 0].groupby(_SERIES)["day"].min()
    weekday = (panel["day"] + START_ON.weekday()) % 7
    mean = mean_sales(panel)
    raw = pd.DataFrame({k: (mean_sales(panel[weekday == k]) + _PRIOR) / (mean + _PRIOR) for k in range(7)})
    season = raw.mul(7 / raw.sum(axis=1), axis=0).rename(columns=lambda k: f"weekday_{k}")
    return pd.DataFrame(
        {
            "level": mean_sales(panel[panel["day"] >= NUM_DAYS - _LEVEL_DAYS]),
            "trend": weighted / _TREND_SQUARES,
            "price": last_price,
            "price_change": last_price / mean_price - 1,
            "age": NUM_DAYS - first.reindex(mean.index).fillna(NUM_DAYS),
        }
    ).join(season)


PEERS: Final[dict[str, tuple[str, Callable[[Path, Path], None]]]] = {
    "polars, streaming": ("polars", run_polars),
    "polars, in memory": ("polars", run_polars_in_memory),
    "duckdb": ("duckdb", run_duckdb),
    "pandas": ("pandas", run_pandas),
}


def main() -> int:
    """Exit with 3 if the peer is not installed; the reason is in the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(PEERS))
    parser.add_argument("orders", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    package, run = PEERS[arguments.name]
    try:
        importlib.import_module(package)
    except ImportError as error:
        print(json.dumps({"skipped": f"{type(error).__name__}: {error}"}))
        return 3
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    run(arguments.orders, arguments.out)
    row = {
        "version": version(package),
        "seconds": round(time.perf_counter() - began_s, 2),
        "cpu_seconds": round(time.process_time() - began_cpu_s, 2),
    }
    print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
