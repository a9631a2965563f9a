"""Order lines to clean orders, a dense daily panel and windows per series: Restock beside polars, duckdb and pandas.

One run makes the lines (``benchmarks.order_lines``), gives every system the same files in turn, each in processes of
its own, and checks that all results agree. ``seconds`` and ``cpu_seconds`` are those of the job; Ray's start-up stands
apart, and ``task_cpu_seconds`` leaves out what Ray's own processes use while the job runs. ``peak_mb`` is of all
processes of a system, Ray's own included, looked at every 100 ms. The last rows have nodes of one CPU each: what one
does, two share.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import psutil

from benchmarks.frame import make_parser, make_target, report
from benchmarks.memory import Peak
from benchmarks.order_lines import NUM_DAYS, OrderLines
from benchmarks.peers.data_plane import PEERS
from restock.meter import tree_memory_mb

Row = dict[str, Any]

_OURS = "restock"
_TIMES_SECONDS, _TIMES_MEMORY, _TWO_NODES = 1.0, 0.5, 0.65
_RIVALS = tuple(name for name in PEERS if name != "pandas")
_INCLUDES_OURS = (
    "every rule, quarantine files, returns by the general rule, outlier flags, in-stock and promotion columns"
)
_INCLUDES_PEER = "the rules that the lines break, returns by a join"


def main() -> None:
    """Run all systems on each number of lines; then the work on one node and on two."""
    arguments = _parse()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        for count in arguments.rows:
            orders = Path(folder) / f"orders-{count}"
            OrderLines(num_rows=count, seed=arguments.seed).write(orders)
            rows += [row for _ in range(arguments.rounds) for row in _round(orders, count, arguments)]
            if count == arguments.node_rows:
                rows += [_ours(orders, count, nodes=number) for _ in range(arguments.rounds) for number in (1, 2)]
            shutil.rmtree(orders)
    targets = _targets(rows)
    facts = {
        "sums": [row.pop("sums", {}) for row in rows],
        "notes": [f"{_OURS} includes {_INCLUDES_OURS}; peers {_INCLUDES_PEER}"],
    }
    report("data_plane", rows, targets=targets, arguments=arguments, facts=facts)


def _parse() -> argparse.Namespace:
    parser = make_parser(__doc__ or "")
    parser.add_argument("--rows", type=_numbers, default=[1_000_000, 10_000_000, 30_000_000], help="such as 1e6,1e7")
    parser.add_argument("--node-rows", type=float, help="the number of lines that nodes divide; default the fewest")
    parser.add_argument("--systems", nargs="+", choices=[_OURS, *PEERS], default=[_OURS, *PEERS])
    parser.add_argument("--rounds", type=int, default=1, help="turns that every system takes")
    parser.add_argument("--pandas-rows", type=float, default=1e7, help="pandas gets at most so many lines")
    parser.add_argument("--work", type=Path, help="folder for the files; default: the temporary one")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rows = [200_000]
    arguments.node_rows = int(arguments.node_rows or min(arguments.rows))
    return arguments


def _numbers(text: str) -> list[int]:
    return [int(float(part)) for part in text.split(",")]


def _round(orders: Path, count: int, arguments: argparse.Namespace) -> list[Row]:
    rows = []
    for name in arguments.systems:
        rows.append(_ours(orders, count) if name == _OURS else _peer(name, orders, count, arguments))
        print(rows[-1], file=sys.stderr)  # a run of an hour may be cut off
    return rows


def _ours(orders: Path, count: int, *, nodes: int = 0) -> Row:
    with tempfile.TemporaryDirectory(dir=orders.parent) as folder:
        out = Path(folder) / "home"
        options = ["--nodes", str(nodes), "--cpus", "1"] if nodes else []
        command = ["benchmarks.data_plane_restock", str(orders), str(out), "--rows", str(count), *options]
        row = _run(command)
        name = f"{_OURS}, {nodes} nodes of one CPU" if nodes else _OURS
        return {"system": name, "rows": count, **row, "sums": _sums_of_ours(out)}


def _peer(name: str, orders: Path, count: int, arguments: argparse.Namespace) -> Row:
    if name == "pandas" and count > arguments.pandas_rows:
        reason = f"more than {arguments.pandas_rows:,.0f} lines (--pandas-rows) need more memory than is shared here"
        return {"system": name, "rows": count, "skipped": reason}
    with tempfile.TemporaryDirectory(dir=orders.parent) as folder:
        row = _run(["benchmarks.peers.data_plane", name, str(orders), folder])
        return {
            "system": name,
            "rows": count,
            **row,
            **({} if "skipped" in row else {"sums": _sums_of_peer(Path(folder))}),
        }


def _run(command: list[str]) -> Row:
    """The JSON row of a module run in a process of its own, with its peak memory."""
    environment = {name: value for name, value in os.environ.items() if name != "POLARS_MAX_THREADS"}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[1],
    )
    root = psutil.Process(process.pid)
    with Peak(lambda: tree_memory_mb(root), every_s=0.1) as peak:
        out, err = process.communicate()
    lines = out.splitlines()
    if process.returncode not in (0, 3) or not lines:
        last = err.strip().splitlines()[-1:] or ["no word"]
        return {"skipped": f"exit {process.returncode}: {last[0][:300]}"}
    row: Row = json.loads(lines[-1])
    return row if "skipped" in row else {**row, "peak_mb": round(peak.megabytes)}


def _sums_of_ours(home: Path) -> Row:
    dataset = next(home.glob("datasets/shop/*/dataset.json"), None)
    if dataset is None:
        return {}
    season = pl.col("weekly_season").list.get(2)
    sales = pl.scan_parquet(dataset.parent / "panel" / "*.parquet").select(
        pl.col("sales").list.head(NUM_DAYS).list.sum().cast(pl.Float64).sum()
    )
    features = pl.scan_parquet(home / "features" / "*.parquet").with_columns(weekday_2=season)
    return _sums(pl.scan_parquet(dataset.parent / "tables" / "orders" / "*.parquet"), sales, features)


def _sums_of_peer(out: Path) -> Row:
    sales = pl.scan_parquet(out / "panel.parquet").select(pl.col("sales").cast(pl.Float64).sum())
    return _sums(pl.scan_parquet(out / "orders.parquet"), sales, pl.scan_parquet(out / "features.parquet"))


def _sums(orders: pl.LazyFrame, sales: pl.LazyFrame, features: pl.LazyFrame) -> Row:
    """Sums by which results are compared."""
    names = ["level", "trend", "price", "price_change", "age", "weekday_2"]
    sums = features.select(pl.col(names).cast(pl.Float64).sum()).collect().row(0)
    return {
        "orders_kept": orders.select(pl.len()).collect().item(),
        "units": sales.collect().item(),
        **dict(zip(names, sums, strict=True)),
    }


def _targets(rows: list[Row]) -> list[Row]:
    done = [row for row in rows if "skipped" not in row]
    most = max((row["rows"] for row in done), default=0)
    ours = [row for row in done if row["system"] == _OURS and row["rows"] == most]
    rivals = [row for row in done if row["system"] in _RIVALS and row["rows"] == most]
    targets = []
    if ours and rivals:
        fastest = min((row["system"] for row in rivals), key=lambda name: _least(rivals, name, "seconds"))
        for what, key, target in (
            ("wall seconds", "seconds", _TIMES_SECONDS),
            ("CPU seconds", "cpu_seconds", _TIMES_SECONDS),
            ("peak memory", "peak_mb", _TIMES_MEMORY),
        ):
            value = round(_least(ours, _OURS, key) / _least(rivals, fastest, key), 3)
            targets.append(
                make_target(f"{what} over {fastest}, {most:,} lines", value=value, target=target, at_least=False)
            )
    by_nodes = [_least(done, f"{_OURS}, {number} nodes of one CPU", "seconds") for number in (1, 2)]
    if all(by_nodes):
        value = round(by_nodes[1] / by_nodes[0], 3)
        targets.append(make_target("seconds of two nodes over one", value=value, target=_TWO_NODES, at_least=False))
    targets.append(make_target("largest relative difference of results", value=_gap(done), target=1e-5, at_least=False))
    return targets


def _least(rows: list[Row], system: str, key: str) -> float:
    return min((row[key] for row in rows if row["system"] == system), default=0.0)


def _gap(rows: list[Row]) -> float:
    """How far apart systems are in any sum."""
    worst = 0.0
    for count in {row["rows"] for row in rows}:
        sums = [row["sums"] for row in rows if row["rows"] == count]
        for name, first in sums[0].items():
            values = [float(one[name]) for one in sums]
            worst = max(worst, (max(values) - min(values)) / max(abs(first), 1.0))
    return worst


if __name__ == "__main__":
    main()
