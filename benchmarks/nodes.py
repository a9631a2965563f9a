"""Several Ray nodes on this machine, and which of them did how much."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil

from cluster.config import RuntimeSettings
from cluster.runtime import connect, set_environment
from cluster.shards import run_on_ray

OBJECT_STORE_MB = 200
_LOOK_S = 10.0
Place = TypeVar("Place")


@contextmanager
def start_nodes(count: int, *, cpus: int, object_store_mb: int = OBJECT_STORE_MB) -> Iterator[Any]:
    """Ray nodes on this machine beside a head without CPUs, which only drives; yields the cluster and the nodes."""
    set_environment()
    from ray.cluster_utils import Cluster

    store = object_store_mb * 1_000_000
    head = {"num_cpus": 0, "object_store_memory": store, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        workers = [cluster.add_node(num_cpus=cpus, object_store_memory=store) for _ in range(count)]
        cluster.wait_for_nodes()
        with connect(RuntimeSettings(address=cluster.address)):
            yield cluster, workers
    finally:
        cluster.shutdown()


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A task's function that also says where it ran, and what that process read, wrote and computed meanwhile."""

    work: Callable[[Any], Any]

    def __call__(self, task: Any) -> tuple[str, int, float, Any]:
        """Node, bytes, CPU seconds, and what the function gave."""
        import ray

        before, began_s = psutil.Process().io_counters(), time.process_time()
        done = self.work(task)
        after = psutil.Process().io_counters()
        moved = after.read_chars + after.write_chars - before.read_chars - before.write_chars
        return ray.get_runtime_context().get_node_id(), moved, time.process_time() - began_s, done


class Division:
    """Runs tasks on Ray and counts which node did how many of them, and how many bytes they read and wrote."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Count from here."""
        self.tasks: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.cpu_s = 0.0

    def run(self, work: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Any]:
        """Yield the result of every task."""
        for node, moved, cpu_s, done in run_on_ray(Located(work=work), tasks):
            self.tasks[node] += 1
            self.bytes[node] += moved
            self.cpu_s += cpu_s
            yield done


def tree_cpu_s() -> float:
    """CPU seconds of this process and everything below it."""
    total = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue  # it ended between the listing and the look
        total += times.user + times.system
    return total


def kill_node(cluster: Any, workers: list[Any], *, running: str) -> None:
    """End every process of the first node that runs a worker of this title, as a lost machine would.

    Raises
    ------
    RuntimeError
        If no node does.
    """

    def processes_of(node: Any) -> list[psutil.Process]:
        return psutil.Process(node.all_processes["raylet"][0].process.pid).children(recursive=True)

    node = find_running(workers, processes_of=processes_of, running=running)
    for process in processes_of(node):
        with suppress(psutil.Error):
            process.kill()
    cluster.remove_node(node, allow_graceful=False)
    workers.remove(node)


def find_running(
    places: Sequence[Place], *, processes_of: Callable[[Place], list[psutil.Process]], running: str
) -> Place:
    """First place that runs a worker of this title; waits for one, since tasks come and go.

    Raises
    ------
    RuntimeError
        If none does for some seconds.
    """
    deadline = time.monotonic() + _LOOK_S
    while time.monotonic() < deadline:
        for place in places:
            if any(running in _title(process) for process in processes_of(place)):
                return place
        time.sleep(0.02)
    raise RuntimeError(f"nothing runs a worker titled {running}; it may have finished before")


def _title(process: psutil.Process) -> str:
    """Title of a process; none if it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""  # it ended between the listing and the look
