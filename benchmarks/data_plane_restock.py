"""Restock's data plane on order lines: ``python -m benchmarks.data_plane_restock ORDERS OUT``, one JSON row.

What ``restock data load`` runs, then windows of every series (:func:`cluster.features.item_features`), shard by shard
on the same runner. With ``--nodes`` the tasks run on so many Ray nodes of this machine, each with ``--cpus``.
"""

import argparse
import json
import os
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.nodes import OBJECT_STORE_MB, Division, start_nodes, tree_cpu_s
from benchmarks.order_lines import TODAY, shop_settings
from cluster.config import RuntimeSettings
from cluster.dataset import Dataset
from cluster.features import item_features
from cluster.layout import write_table
from cluster.loading import load_dataset
from cluster.runtime import connect, set_environment
from cluster.shards import run_here

_LEAST_SHARDS, _ROWS_PER_SHARD = 8, 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureTask:
    """Windows of the series of one shard, written to ``path``."""

    dataset: Dataset
    shard: Path
    path: Path


def write_features(task: FeatureTask) -> int:
    """Write them; the number of series."""
    features = item_features(task.dataset.panel_of_shard(task.shard), period=task.dataset.num_periods)
    write_table(features, task.path)
    return features.num_rows


def main() -> None:
    """Load, write features, print the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("orders", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--nodes", type=int, default=0, help="Ray nodes beside one that only drives; 0: one that works")
    parser.add_argument("--cpus", type=int, default=os.cpu_count())
    parser.add_argument("--without-ray", action="store_true", help="one task after another in this process")
    arguments = parser.parse_args()
    set_environment()
    num_shards = max(arguments.rows // _ROWS_PER_SHARD, _LEAST_SHARDS)
    settings = shop_settings(arguments.orders, arguments.out, f"data.num_shards={num_shards}")
    division = Division()
    began_s = time.perf_counter()
    with nullcontext() if arguments.without_ray else _ray(arguments):
        run = run_here if arguments.without_ray else division.run
        list(run(import_worker, range(4 * arguments.cpus * max(arguments.nodes, 1))))
        division.clear()
        started_s, cpu_s = time.perf_counter(), tree_cpu_s()
        dataset = load_dataset(settings, today=TODAY, run=run)
        loaded_s = time.perf_counter()
        tasks = [
            FeatureTask(dataset=dataset, shard=shard, path=arguments.out / "features" / shard.name)
            for shard in dataset.shards
        ]
        num_series = sum(run(write_features, tasks))
        row = {
            "startup_seconds": round(started_s - began_s, 2),
            "seconds": round(time.perf_counter() - started_s, 2),
            "load_seconds": round(loaded_s - started_s, 2),
            "cpu_seconds": round(tree_cpu_s() - cpu_s, 2),
            "task_cpu_seconds": round(division.cpu_s, 2),
            "series": num_series,
            "shards": len(tasks),
            "tasks_per_node": sorted(division.tasks.values()),
            "mb_per_node": sorted(round(moved / 1e6) for moved in division.bytes.values()),
        }
    print(json.dumps(row))


def import_worker(number: int) -> int:
    """Load what tasks need into a worker, so that it counts as start-up."""
    time.sleep(0.1)
    return number


def _ray(arguments: argparse.Namespace) -> AbstractContextManager[Any]:
    if arguments.nodes:
        return start_nodes(arguments.nodes, cpus=arguments.cpus)
    return connect(RuntimeSettings(num_cpus=arguments.cpus, object_store_mb=OBJECT_STORE_MB))


if __name__ == "__main__":
    from benchmarks import data_plane_restock  # under its own name, by which workers find its tasks

    data_plane_restock.main()
