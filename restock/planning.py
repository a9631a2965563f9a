"""Today's order plan from stored models: what ``restock plan`` prints and the demo shows.

Shapes: S series.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from cluster.announce import announce
from cluster.artifacts import ArtifactStore, open_store
from cluster.config import Settings
from cluster.dataset import Dataset
from cluster.manifest import slug_of
from cluster.panel import DemandPanel, IntArray, StrArray
from cluster.sources.files import read_table
from forecasting.explain import driver_phrases
from forecasting.explain_blend import explain_served
from forecasting.predict import groups_of
from forecasting.team import ServedForecaster, load_forecaster
from restock.training import DEFAULT_POLICY, FORECASTER
from rl.assumptions import make_supply_terms
from rl.inventory import SupplyTerms
from rl.ordering import ask_policies, make_order_plan
from rl.orders import OrderPlan
from rl.policies.protocol import JointPolicies, Policy
from rl.policies.stacks import make_stacks
from rl.policies.store import load_policy
from rl.stock import StockReading, assume_stock, make_inventory_state

_PART_SERIES = 2_048
"""A multiple of what the forecaster reads at once: parts do not change a digit of its answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFiles:
    """A stock snapshot, the orders still to come, and promotions only planned, as files; None where there is none."""

    stock: Path | None = None
    open_orders: Path | None = None
    promotions: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlanJob:
    """Everything that a plan of some series needs, read once; forked processes share it."""

    view: DemandPanel
    on_date: date
    terms: SupplyTerms
    reading: StockReading | None
    forecaster: ServedForecaster
    policies: Mapping[str, Policy]
    stacks: Sequence[JointPolicies]
    with_drivers: bool

    def part(self, rows: IntArray) -> OrderPlan:
        """Plan of the given series: no line depends on another."""
        view, terms = self.view.take(rows), self.terms.take(rows)
        forecast = self.forecaster.predict(view)
        reading = assume_stock(forecast, terms) if self.reading is None else self.reading.take(rows)
        policies = [self.policies[category] for category in view.index.category_ids_S.tolist()]
        return make_order_plan(
            index=view.index,
            state=reading.state,
            forecast=forecast,
            terms=terms,
            wishes=ask_policies(policies, state=reading.state, forecast=forecast, terms=terms, stacks=self.stacks),
            on_date=self.on_date,
            calendar=view.calendar,
            remark_S=reading.remark_S,
            driver_S=_drivers(self.forecaster, view, terms=terms) if self.with_drivers else None,
            notes=reading.notes,
        )


def plan_orders(
    dataset: Dataset,
    *,
    settings: Settings,
    files: PlanFiles,
    as_of: date | None = None,
    with_drivers: bool = True,
    processes: int = 1,
) -> OrderPlan:
    """Plan every series as of a day (default: the one after history), reading nothing from that day on.

    Without files, the shop's own ``stock`` and ``open_orders`` tables are used; if it has none, a stock is assumed and
    the plan says so. Reasons name what moves demand over the protection interval, unless ``with_drivers`` is off: that
    takes about six times as long as the forecast itself. Series are planned some thousand at a time, whatever the
    number of processes: memory holds the history and the finished lines, and the plan is the same.

    Parameters
    ----------
    processes
        Forked processes that plan; 1 plans here.

    Raises
    ------
    StaleInputError
        If the stock is of another day, or every model has seen the day.
    DataError, ArtifactError
        If a file, the dataset or a model cannot be used.
    """
    calendar = dataset.calendar
    period = dataset.num_periods if as_of is None else calendar.period_of(as_of)
    view = dataset.panel(until=period)
    if files.promotions is not None:
        view = announce(view, read_table("promotions", files.promotions))
    on_date = as_of or calendar.date_on(period)
    store = open_store(settings)
    policies = load_policies(store, category_ids_S=view.index.category_ids_S, on_date=on_date)
    terms, assumed = make_supply_terms(dataset.table("supply_terms"), panel=view, settings=settings)
    job = _PlanJob(
        view=view,
        on_date=on_date,
        terms=terms,
        reading=_read_stock(dataset, files=files, view=view, on_date=on_date),
        forecaster=load_forecaster(store.load_as_of(FORECASTER, on_date).folder),
        policies=policies,
        stacks=make_stacks(policies.values()),
        with_drivers=with_drivers,
    )
    parts = _plan_parts(job, processes=processes)
    return OrderPlan(
        on_date=on_date,
        table=pa.concat_tables([part.table for part in parts]).combine_chunks(),
        notes=(*assumed, *dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _plan_parts(job: _PlanJob, *, processes: int) -> list[OrderPlan]:
    rows = list(groups_of(job.view.num_series, size=_PART_SERIES))
    if processes == 1 or len(rows) == 1:
        return [job.part(part) for part in rows]
    # A fork shares history and models as they are.
    with ProcessPoolExecutor(
        min(processes, len(rows)), mp_context=get_context("fork"), initializer=_take_job, initargs=(job,)
    ) as pool:
        return list(pool.map(_plan_part, rows))


_jobs: list[_PlanJob] = []


def _take_job(job: _PlanJob) -> None:
    # Of a forked process: what it plans. Torch's threads stayed behind in the parent, and would be waited for.
    torch.set_num_threads(1)
    _jobs[:] = [job]


def _plan_part(rows: IntArray) -> OrderPlan:
    return _jobs[0].part(rows)


def load_policies(store: ArtifactStore, *, category_ids_S: StrArray, on_date: date) -> dict[str, Policy]:
    """Policy by category: its own, else the default textbook rule; one that has not seen ``on_date``."""
    known = set(store.names("policy/"))
    policies: dict[str, Policy] = {}
    for category in np.unique(category_ids_S).tolist():
        name = f"policy/{slug_of(category)}"
        stored = store.load_as_of(name if name in known else DEFAULT_POLICY, on_date)
        policies[category] = load_policy(stored.folder)
    return policies


def _drivers(forecaster: ServedForecaster, view: DemandPanel, *, terms: SupplyTerms) -> list[str]:
    periods_S = terms.protection_interval_S.astype(np.int64)
    return driver_phrases(explain_served(forecaster, view, periods=periods_S))


def _read_stock(dataset: Dataset, *, files: PlanFiles, view: DemandPanel, on_date: date) -> StockReading | None:
    """State of all series; None where the shop gives no stock: it is assumed from the forecast."""
    stock, open_orders = _tables(dataset, files=files)
    if stock is None:
        return None
    return make_inventory_state(
        stock,
        open_orders,
        index=view.index,
        calendar=view.calendar,
        on_date=on_date,
        stock_source=str(files.stock or "stock"),
        open_orders_source=str(files.open_orders or "open_orders"),
    )


def _tables(dataset: Dataset, *, files: PlanFiles) -> tuple[pa.Table | None, pa.Table | None]:
    stock = dataset.table("stock") if files.stock is None else read_table("stock", files.stock)
    open_orders = (
        dataset.table("open_orders") if files.open_orders is None else read_table("open_orders", files.open_orders)
    )
    return stock, open_orders
