"""One drill: the same work on three Ray nodes of this machine, undisturbed, and with a node lost in the middle.

``python -m benchmarks.fault_drills NAME`` prints one JSON row. A lost node loses all of its processes at once; what it
wrote is on the disk that all nodes share, as a cluster's nodes share a volume.
"""

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet

from benchmarks.hosts import lose_host, start_hosts, why_no_hosts
from benchmarks.nodes import kill_node, start_nodes
from benchmarks.order_lines import TODAY, OrderLines, shop_settings
from cluster.config import RuntimeSettings, Settings, load_settings
from cluster.dataset import Dataset
from cluster.loading import load_dataset
from cluster.runtime import set_environment
from cluster.shards import run_here, run_on_ray

Row = dict[str, Any]
Lose = Callable[[str], None]
"""Ends the node that runs a worker of this title."""

_NUM_NODES = 3
FORECAST = (
    "forecast.hidden=16",
    "forecast.context=28",
    "forecast.horizon=7",
    "forecast.windows_per_series=16",
    "forecast.batch_size=64",
    "forecast.levels=[0.1,0.5,0.9]",
    "forecast.least_steps=10",
    "forecast.epochs=4",
    "forecast.num_workers=2",
    "forecast.threads_per_worker=2",
)
"""Sizes of a forecaster that learns on two workers in seconds."""
_RECOMMENDER = (
    "recommender.hidden=16",
    "recommender.max_sequence=10",
    "recommender.epochs=5",
    "recommender.batch_size=32",
    "recommender.min_item_users=1",
    "recommender.num_workers=2",
    "recommender.threads_per_worker=2",
)
_SERVED_S, _LOST_AT = 40.0, 40
_POLICY: dict[str, Any] = {
    "algorithms": ("ppo",),
    "num_rows": 128,
    "rollout_periods": 16,
    "budget_steps_ppo": 98_304,
    "minibatch_size": 512,
    "hidden": 16,
    "imitation_steps": 60,
    "evaluations": 8,
    "patience": 99,
    "stop_margin": 1.0,
    "num_env_runners": 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """Work to disturb.

    Parameters
    ----------
    run
        Does the work in an empty folder and calls what it is given in the middle, with the title of a worker.
    gap
        How far two results are apart; at most ``tolerance`` for the drill to be passed.
    cpus
        Of each node, so that the work needs two of them.
    """

    run: Callable[[Path, Lose], Any]
    gap: Callable[[Any, Any], float]
    tolerance: float
    cpus: int = 2


def main() -> None:
    """Run a drill and print its row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=list(DRILLS))
    parser.add_argument("--passes", type=int, default=2, help="undisturbed ones; the first pays for start-up")
    parser.add_argument("--hosts", action="store_true", help="nodes are hosts in network namespaces (needs root)")
    arguments = parser.parse_args()
    if arguments.hosts and (reason := why_no_hosts()):
        print(json.dumps({"drill": arguments.name, "skipped": reason}))
        return
    print(json.dumps(drill(arguments.name, passes=arguments.passes, on=_hosts if arguments.hosts else _nodes)))


@contextmanager
def _nodes(cpus: int) -> Iterator[Lose]:
    with start_nodes(_NUM_NODES, cpus=cpus) as (cluster, workers):
        yield lambda title: kill_node(cluster, workers, running=title)


@contextmanager
def _hosts(cpus: int) -> Iterator[Lose]:
    with start_hosts(_NUM_NODES, cpus=cpus) as hosts:
        yield lambda title: lose_host(hosts, running=title)


def drill(name: str, *, passes: int, on: Callable[[int], AbstractContextManager[Lose]] = _nodes) -> Row:
    """Undisturbed passes, then one that loses a node."""
    chosen = DRILLS[name]
    lost: list[float] = []
    with tempfile.TemporaryDirectory() as folder, on(chosen.cpus) as lose_node:

        def lose(title: str) -> None:
            lose_node(title)
            lost.append(time.perf_counter())

        calm = [_timed(chosen, Path(folder) / f"calm-{number}", lambda title: None) for number in range(passes)]
        disturbed_s, result = _timed(chosen, Path(folder) / "disturbed", lose)
    undisturbed_s = min(seconds for seconds, _ in calm)
    gap = chosen.gap(calm[0][1], result)
    return {
        "drill": name,
        "on": "hosts" if on is _hosts else "nodes",
        "nodes_lost": len(lost),
        "undisturbed_seconds": round(undisturbed_s, 1),
        "disturbed_seconds": round(disturbed_s, 1),
        "seconds_lost": round(disturbed_s - undisturbed_s, 1),
        "result_gap": gap,
        "tolerance": chosen.tolerance,
        "passed": bool(lost) and gap <= chosen.tolerance,
        **(result if isinstance(result, dict) and "requests" in result else {}),
        **({"results": [calm[-1][1], result]} if isinstance(result, float) else {}),
    }


def _timed(chosen: Drill, folder: Path, lose: Lose) -> tuple[float, Any]:
    folder.mkdir()
    began_s = time.perf_counter()
    result = chosen.run(folder, lose)
    return time.perf_counter() - began_s, result


def ingest(folder: Path, lose: Lose) -> dict[str, str]:
    """Load order lines; digests of all that was written, by file."""
    orders = _orders(folder, OrderLines(num_rows=1_000_000, file_rows=20_000))

    def run(work: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Any]:
        for number, done in enumerate(run_on_ray(work, tasks)):
            if number == len(tasks) // 3 and work.__name__ == "stage_chunk":
                lose("ray::MapBatches")
            yield done

    return digests(load_dataset(shop_settings(orders, folder / "home"), today=TODAY, run=run))


def digests(dataset: Dataset) -> dict[str, str]:
    """Digest of the rows of every Parquet file of a dataset."""
    return {
        path.relative_to(dataset.folder).as_posix(): hashlib.sha256(
            pyarrow.parquet.read_table(path).to_pandas().to_json().encode()
        ).hexdigest()
        for path in sorted(dataset.folder.rglob("*.parquet"))
    }


def _different_files(calm: dict[str, str], disturbed: dict[str, str]) -> float:
    return float(len(calm.items() ^ disturbed.items()))


def forecaster(folder: Path, lose: Lose) -> Any:
    """Fit the network on two workers, each on a node of its own; its forecasts."""
    from forecasting.train import fit_and_hold_out

    panel = small_dataset(folder).panel()

    def follow(row: Any) -> None:
        if row.epoch == 2:
            lose("RayTrainWorker")

    fitted, _ = fit_and_hold_out(panel, settings=_settings(folder, FORECAST), on_epoch=follow)
    return fitted.predict(panel).cumulative_SHQ


def recommender(folder: Path, lose: Lose) -> Any:
    """Fit the sequence model on two workers; all of its weights."""
    from recsys.distributed import train_sequence_model
    from recsys.interactions import make_interactions
    from recsys.train import hold_out_validation

    settings = _settings(folder, _RECOMMENDER)
    orders = small_dataset(folder).table("orders")
    interactions = make_interactions(orders, until=TODAY, settings=settings.recommender)
    holdout = hold_out_validation(interactions, settings=settings.recommender)

    def follow(row: Row) -> None:
        if row["epoch"] == 2:
            lose("RayTrainWorker")

    trained = train_sequence_model(interactions, holdout=holdout, settings=settings, on_epoch=follow)
    assert trained is not None
    return np.concatenate([values.ravel() for values in trained.refitted.arrays().values()])


def policies_runner(folder: Path, lose: Lose) -> float:
    """Train PPO whose rollouts come from another node, which is lost; the best validation cost."""
    return _train_policy(folder, lose=lambda: lose("ArrayEnvRunner"))


def policies_trial(folder: Path, lose: Lose) -> float:
    """Train PPO and lose the node of the trial, which holds the learner; the best validation cost."""
    return _train_policy(folder, lose=lambda: lose("ImplicitFunc"))


def _train_policy(folder: Path, *, lose: Callable[[], None]) -> float:
    from benchmarks.category import make_category, window
    from cluster.settings.models import PolicySettings
    from rl.policies.classical import ReorderPoint
    from rl.train import TrialUpdate, train_policies

    whole = make_category(16, num_periods=90, seed=0)
    told: list[TrialUpdate] = []

    def follow(update: TrialUpdate) -> None:
        told.append(update)
        if sum(one.state == "running" for one in told) == 3 and update.state == "running":
            lose()

    trained = train_policies(
        settings=Settings(policy=PolicySettings(**_POLICY), runtime=RuntimeSettings(address="auto")),
        scenarios_train={"all": window(whole, 0, 60)},
        scenarios_validation={"all": window(whole, 60, 90)},
        heuristics={"all": {"reorder_point": ReorderPoint(cycle_service_level=0.9, order_periods=2.0)}},
        store_folder=folder,
        on_progress=follow,
    )
    (policy,) = trained.values()
    assert len(policy.curve) == _POLICY["evaluations"] + 1, "an evaluation was lost or repeated"
    return min(point.score for point in policy.curve)


def serving(folder: Path, lose: Lose) -> Row:
    """Serve from two replicas of each model and keep asking; how many requests failed and how long none was answered.

    ``requests`` counts all of them; a failed one is not asked again.
    """
    import httpx

    from benchmarks.serving_shop import open_shop
    from serve.app import start

    settings = open_shop(folder.parent / "shop", num_items=40)
    serving = settings.serve.model_copy(update={"num_replicas": 2, "access": "development", "port": 0})
    asked, failed, longest_s = 0, 0, 0.0
    with (
        start(settings.model_copy(update={"serve": serving})) as service,
        httpx.Client(base_url=service.url, timeout=30) as client,
    ):
        body = {"series": [{"item_id": item} for item in ("item-00000", "item-00001")]}
        began_s = answered_s = time.perf_counter()
        while time.perf_counter() < began_s + _SERVED_S:
            if asked == _LOST_AT:
                lose("ServeReplica")
            asked += 1
            failed += not _is_answered(client, body)
            longest_s, answered_s = max(longest_s, time.perf_counter() - answered_s), time.perf_counter()
    return {"requests": asked, "failed": failed, "longest_silence_seconds": round(longest_s, 2)}


def _more_failed(calm: Row, disturbed: Row) -> float:
    return float(disturbed["failed"] - calm["failed"])


def _is_answered(client: Any, body: Row) -> bool:
    import httpx

    try:
        return bool(client.post("/v1/forecasts", json=body).status_code == 200)
    except httpx.HTTPError:
        return False


def _relative(calm: Any, disturbed: Any) -> float:
    calm, disturbed = np.asarray(calm, dtype=np.float64), np.asarray(disturbed, dtype=np.float64)
    return float(np.abs(disturbed - calm).max() / np.abs(calm).max())


def _worse(calm: float, disturbed: float) -> float:
    """Share by which the cost is higher; PPO draws other rows after a restart, and may be luckier."""
    return max(disturbed / calm - 1, 0.0)


def small_dataset(folder: Path) -> Dataset:
    """Twenty-five series of a year."""
    orders = _orders(folder, OrderLines(num_rows=7_500))
    return load_dataset(shop_settings(orders, folder / "home"), today=TODAY, run=run_here)


def _orders(folder: Path, lines: OrderLines) -> Path:
    """Beside the folder, the same for every pass: quarantined rows name their file."""
    orders = folder.parent / "orders"
    if not orders.exists():
        lines.write(orders)
    return orders


def _settings(folder: Path, overrides: Sequence[str]) -> Settings:
    return load_settings(overrides=[f'home="{folder / "home"}"', "seed=4", *overrides])


DRILLS: dict[str, Drill] = {
    "ingest": Drill(run=ingest, gap=_different_files, tolerance=0.0),
    "forecaster": Drill(run=forecaster, gap=_relative, tolerance=1e-3),
    "recommender": Drill(run=recommender, gap=_relative, tolerance=1e-3),
    "policies, node of the runner": Drill(run=policies_runner, gap=_worse, tolerance=0.05, cpus=1),
    "policies, node of the trial": Drill(run=policies_trial, gap=_worse, tolerance=0.05, cpus=1),
    "serving": Drill(run=serving, gap=_more_failed, tolerance=0.0),
}


if __name__ == "__main__":
    set_environment()
    from benchmarks import fault_drills  # under its own name, by which workers find it

    fault_drills.main()
