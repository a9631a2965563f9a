"""What the service measures: the catalogue of its metrics, and the meter that holds this process's values.

Every process of the service has one meter, and ``GET /metrics`` gathers them all (``serve.watch.scrape``), so that one
answer is true for any number of replicas. ``docs/metrics.md`` describes the same catalogue for those who watch.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import Metric as Family

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric of the catalogue.

    Parameters
    ----------
    name
        As Prometheus sees it; a histogram is read through ``name_bucket``, ``name_sum`` and ``name_count``.
    labels
        Beside ``process`` (host and process id), which all of ``METERED`` have.
    meaning
        One sentence, with the unit.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...] = ()
    meaning: str
    buckets: tuple[float, ...] = ()

    @property
    def sample_names(self) -> tuple[str, ...]:
        """Names that a query may use."""
        if self.kind != "histogram":
            return (self.name,)
        return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))


REQUESTS = Metric(
    name="restock_requests_total",
    kind="counter",
    labels=("method", "route", "status"),
    meaning="HTTP requests answered, refusals too; the route is its form, 'unknown' where none matches.",
)
REQUEST_SECONDS = Metric(
    name="restock_request_seconds",
    kind="histogram",
    labels=("method", "route"),
    meaning="Seconds from a request's first byte in the ingress to the end of its answer.",
    buckets=_SECONDS,
)
REQUESTS_IN_PROGRESS = Metric(
    name="restock_requests_in_progress", kind="gauge", meaning="Requests that the ingress is working on now."
)
DEPLOYMENT_SECONDS = Metric(
    name="restock_deployment_seconds",
    kind="histogram",
    labels=("deployment",),
    meaning="Seconds of one step of arithmetic in a deployment, its wait for the replica's thread included.",
    buckets=_SECONDS,
)
BATCH_SIZE = Metric(
    name="restock_batch_size",
    kind="histogram",
    labels=("deployment",),
    meaning="Series (recommender: users) that one call asks a deployment for.",
    buckets=_SIZES,
)
ANSWERS = Metric(
    name="restock_answers_total",
    kind="counter",
    labels=("answer",),
    meaning="Users recommended to (recommendations) and lines planned (order-plans).",
)
FALLBACK_ANSWERS = Metric(
    name="restock_fallback_answers_total",
    kind="counter",
    labels=("answer",),
    meaning="Those among restock_answers_total that a fallback gave: popular items, or the default textbook rule.",
)
PLAN_LINES = Metric(
    name="restock_plan_lines_total",
    kind="counter",
    labels=("outcome",),
    meaning="Lines of order plans computed over HTTP, by outcome: ordered, or nothing.",
)
ORDER_UNITS = Metric(
    name="restock_order_units_total", kind="counter", meaning="Units that those lines propose to order."
)
ORDER_VALUE = Metric(
    name="restock_order_value_total",
    kind="counter",
    meaning="Value of what those lines propose to order, in account currency.",
)

DATABASE_UP = Metric(
    name="restock_database_up", kind="gauge", meaning="1 where the database answered this scrape, 0 where it did not."
)
STORED_LINES = Metric(
    name="restock_stored_lines", kind="gauge", labels=("state",), meaning="Lines of the newest finished plan, by state."
)
STORED_UNITS = Metric(
    name="restock_stored_order_units", kind="gauge", labels=("state",), meaning="Units that those lines order."
)
STORED_VALUE = Metric(
    name="restock_stored_order_value",
    kind="gauge",
    labels=("state",),
    meaning="Value of what those lines order, in account currency.",
)
APPROVAL = Metric(
    name="restock_approval_ratio",
    kind="gauge",
    meaning="Approved lines over approved and rejected ones, of plans of the last 28 days; absent where none is.",
)
OPEN_ORDERS = Metric(name="restock_open_orders", kind="gauge", meaning="Orders that are placed and still to come.")
OPEN_UNITS = Metric(name="restock_open_order_units", kind="gauge", meaning="Units of them that are still to come.")

METERED: Final[tuple[Metric, ...]] = (
    REQUESTS,
    REQUEST_SECONDS,
    REQUESTS_IN_PROGRESS,
    DEPLOYMENT_SECONDS,
    BATCH_SIZE,
    ANSWERS,
    FALLBACK_ANSWERS,
    PLAN_LINES,
    ORDER_UNITS,
    ORDER_VALUE,
)
"""What processes count, each its own."""
STORED: Final[tuple[Metric, ...]] = (
    DATABASE_UP,
    STORED_LINES,
    STORED_UNITS,
    STORED_VALUE,
    APPROVAL,
    OPEN_ORDERS,
    OPEN_UNITS,
)
"""What the database says (``serve.watch.book_metrics``), the same for all processes: without the label ``process``."""
CATALOGUE: Final = (*METERED, *STORED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All values of one process at one moment."""

    process: str
    families: tuple[Family, ...]


class Meter:
    """Holds one process's values of the catalogue; may be used from any thread."""

    def __init__(self, catalogue: Sequence[Metric] = METERED) -> None:
        self._registry = CollectorRegistry()
        self._held = {metric.name: self._hold(metric) for metric in catalogue}

    def add(self, metric: Metric, amount: float = 1.0, *labels: str) -> None:
        """Add to a counter, or to a gauge (there the amount may be negative)."""
        held = self._labelled(metric, labels)
        assert isinstance(held, Counter | Gauge)
        held.inc(amount)

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Count one value of a histogram."""
        held = self._labelled(metric, labels)
        assert isinstance(held, Histogram)
        held.observe(value)

    def read(self) -> Reading:
        """All values now."""
        return Reading(process=f"{socket.gethostname()}:{os.getpid()}", families=tuple(self._registry.collect()))

    def _hold(self, metric: Metric) -> Counter | Gauge | Histogram:
        if metric.kind == "histogram":
            return Histogram(
                metric.name, metric.meaning, metric.labels, registry=self._registry, buckets=metric.buckets
            )
        kind = Counter if metric.kind == "counter" else Gauge
        return kind(metric.name, metric.meaning, metric.labels, registry=self._registry)

    def _labelled(self, metric: Metric, labels: tuple[str, ...]) -> Counter | Gauge | Histogram:
        held = self._held[metric.name]
        return held.labels(*labels) if metric.labels else held


@cache
def meter() -> Meter:
    """The meter of this process."""
    return Meter()


class Measured:
    """A deployment whose replicas can be asked for what their process has measured."""

    async def read_meter(self) -> Reading:
        """All values of this replica's process."""
        return meter().read()


def merge(readings: Sequence[Reading]) -> list[Family]:
    """Families of all processes, each sample under its process; a process that answered twice counts once."""
    merged: dict[str, Family] = {}
    by_process: Mapping[str, Reading] = {reading.process: reading for reading in readings}
    for process, reading in sorted(by_process.items()):
        for family in reading.families:
            whole = merged.setdefault(family.name, Family(family.name, family.documentation, family.type))
            for sample in family.samples:
                if not sample.name.endswith("_created"):
                    whole.add_sample(sample.name, {**sample.labels, "process": process}, sample.value)
    return list(merged.values())
