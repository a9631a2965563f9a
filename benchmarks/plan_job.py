"""How long the nightly plan of a whole shop takes, and how much memory: a thousand series to a hundred thousand.

What ``restock plan --no-drivers --processes 2`` does, from the stored dataset and models to the written Parquet file,
for the blend and for the network alone (``forecast.serve=network``). Memory is that of all processes together, shared
pages counted once. CPU time is given beside wall time: machines are shared.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.frame import make_parser, make_target, report
from benchmarks.memory import Peak, forked_mb
from benchmarks.serving_shop import open_shop
from cluster.artifacts import open_store, publish_model
from cluster.config import Settings
from cluster.dataset import open_dataset
from forecasting.team import load_forecaster, network_of
from restock.planning import PlanFiles, plan_orders

Row = dict[str, Any]

_TARGET_SERIES, _TARGET_S, _TARGET_MB = 100_000, 60.0, 4_096.0


def main() -> None:
    """Plan larger and larger shops."""
    arguments = _parse()
    rows = [row for count in arguments.series for row in _plans(count, arguments=arguments)]
    report("plan_job", rows, targets=_targets(rows), arguments=arguments, facts={"processes": arguments.processes})


def _parse() -> argparse.Namespace:
    parser = make_parser(__doc__ or "")
    parser.add_argument("--series", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="sizes of the shop")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--systems", nargs="+", choices=["blend", "network"], default=["blend", "network"])
    parser.add_argument("--shops", type=Path, default=Path(tempfile.gettempdir()), help="folder that shops are made in")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.series = [500, 1_000]
    return arguments


def _plans(count: int, *, arguments: argparse.Namespace) -> list[Row]:
    folder = arguments.shops / f"restock-plan-shop-{count}"
    settings = open_shop(folder, num_items=count, seed=arguments.seed, recommends=False)
    versions = {"blend": "v0001", "network": _network_version(settings)}
    rows = []
    for system in arguments.systems:
        open_store(settings).promote("forecaster", versions[system], reason="benchmark")
        rows.append({"system": system, "series": count, **_measure(settings, processes=arguments.processes)})
    return rows


def _network_version(settings: Settings) -> str:
    """The blend's network alone, stored beside it."""
    store = open_store(settings)
    if "v0002" not in store.versions("forecaster"):
        blend = store.load("forecaster", "v0001")
        publish_model(
            "forecaster",
            kind="network",
            settings=settings,
            trained_until_on=blend.manifest.trained_until_on,
            data_digest=blend.manifest.data_digest,
            metrics={},
            write=network_of(load_forecaster(blend.folder)).save,
        )
    return "v0002"


def _measure(settings: Settings, *, processes: int) -> Row:
    began, cpu_s = time.perf_counter(), _cpu_s()
    with tempfile.TemporaryDirectory() as folder, Peak(forked_mb, every_s=0.5) as peak:
        plan = plan_orders(
            open_dataset(settings), settings=settings, files=PlanFiles(), with_drivers=False, processes=processes
        )
        plan.write(Path(folder) / "plan.parquet")
        seconds, cpu_s = time.perf_counter() - began, _cpu_s() - cpu_s
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_s, 2),
        "peak_mb": round(peak.megabytes),
        "orders": plan.totals.num_orders,
    }


def _cpu_s() -> float:
    times = psutil.Process().cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def _targets(rows: list[Row]) -> list[Row]:
    targets = []
    for row in rows:
        if row["series"] == _TARGET_SERIES:
            what = f"{row['system']}: plan of 100,000 series"
            targets.append(make_target(f"{what}, seconds", value=row["seconds"], target=_TARGET_S, at_least=False))
            targets.append(make_target(f"{what}, peak MB", value=row["peak_mb"], target=_TARGET_MB, at_least=False))
    return targets


if __name__ == "__main__":
    main()
