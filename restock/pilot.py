"""Small training runs by the real trainers, measured: what ``restock cost`` extrapolates from."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
import psutil

from cluster.config import Settings
from cluster.errors import DataError
from cluster.panel import DemandPanel
from cluster.progress import stage
from forecasting.preparation import make_start
from forecasting.team import ServedForecaster
from forecasting.train import fit_served
from recsys.interactions import Interactions, make_interactions
from recsys.train import fit_recommender
from restock.costing import PartCost, Pilot, estimate_part
from restock.training import Workbench
from rl.assumptions import make_supply_terms
from rl.scenarios import ReplayScenario
from rl.study import make_windows
from rl.train import train_policies
from rl.tuning import tune_categories

_EVALUATIONS = 2
_LOOK_EVERY_S = 0.5
_Done = TypeVar("_Done")


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotSizes:
    """How large the pilots are: series of the forecaster, users of the recommender, series-periods of a trial."""

    series: tuple[int, ...] = (50, 100, 200)
    users: tuple[int, ...] = (200, 400, 800)
    steps: tuple[int, ...] = (20_000, 40_000, 80_000)


def estimate_run(bench: Workbench, *, sizes: PilotSizes, has_card: bool) -> list[PartCost]:
    """Run the pilots and estimate ``restock train all``; call within :func:`cluster.runtime.connect`.

    Parameters
    ----------
    has_card
        Whether Ray has a GPU: else the pilots run without, and GPU hours stay unknown.
    """
    with TemporaryDirectory(prefix="restock-cost-") as folder:
        settings = _pilot_settings(bench.settings, Path(folder), has_card=has_card)
        forecaster, fitted, sample = _forecaster(bench, settings, sizes=sizes.series, has_card=has_card)
        parts = [forecaster]
        recommender = _recommender(bench, settings, sizes=sizes.users, has_card=has_card)
        parts += [] if recommender is None else [recommender]
        scenario = _scenario(bench, settings, fitted=fitted, sample=sample)
        for algorithm in settings.policy.algorithms:
            parts.append(_policies(bench, settings, algorithm, scenario=scenario, steps=sizes.steps, has_card=has_card))
    return parts


def _pilot_settings(settings: Settings, home: Path, *, has_card: bool) -> Settings:
    """The run's settings with another home; without cards where there are none."""
    update = {
        "home": home,
        # Few series would otherwise be drawn from as often as many: the pilots would all be of one size.
        "forecast": settings.forecast.model_copy(update={"least_steps": 1} | ({} if has_card else {"use_gpu": False})),
        "recommender": settings.recommender.model_copy(update={} if has_card else {"use_gpu": False}),
        "policy": settings.policy.model_copy(update={} if has_card else {"gpus_per_trial": 0.0}),
    }
    return settings.model_copy(update=update)


def _forecaster(
    bench: Workbench, settings: Settings, *, sizes: Sequence[int], has_card: bool
) -> tuple[PartCost, ServedForecaster, DemandPanel]:
    panel = bench.panel.until(bench.split.policy)
    rows = np.random.default_rng(settings.seed).permutation(panel.num_series)
    pilots = []
    for size in _growing(sizes, limit=panel.num_series, what="series"):
        sample = panel.take(np.sort(rows[:size]))
        with stage(f"Pilot of the forecaster: {size} series"):
            pilot, fitted = _measured(_windows(sample, settings), partial(fit_served, sample, settings=settings))
        pilots.append(pilot)
    asked = bench.settings.forecast
    part = estimate_part(
        "forecaster",
        unit="windows learned from",
        pilots=pilots,
        # The first fit and the refit, which goes over more history in fewer passes.
        work=_windows(panel, bench.settings) * (1 + (asked.refit_epochs + 1) / (asked.epochs + 1)),
        cards=asked.num_workers if asked.use_gpu else 0,
        has_card=has_card,
    )
    return part, fitted, bench.panel.take(np.sort(rows[:size]))


def _windows(panel: DemandPanel, settings: Settings) -> float:
    """Windows that a first fit learns from, the finishing pass included."""
    plan = make_start(panel, settings=settings).plan
    return float(panel.num_series * plan.crops_per_series * (plan.epochs + 1))


def _recommender(bench: Workbench, settings: Settings, *, sizes: Sequence[int], has_card: bool) -> PartCost | None:
    interactions = _interactions(bench)
    if interactions is None:
        return None
    rows = np.random.default_rng(settings.seed).permutation(interactions.num_users)
    pilots = []
    for size in _growing(sizes, limit=interactions.num_users, what="users"):
        sample = interactions.take(np.sort(rows[:size]))
        with stage(f"Pilot of the recommender: {size} users"):
            pilot, _ = _measured(float(sample.num_events), partial(fit_recommender, sample, settings=settings))
        pilots.append(pilot)
    asked = bench.settings.recommender
    return estimate_part(
        "recommender",
        unit="events",
        pilots=pilots,
        work=float(interactions.num_events),
        cards=asked.num_workers if asked.use_gpu else 0,
        has_card=has_card,
    )


def _interactions(bench: Workbench) -> Interactions | None:
    """None for a shop whose orders and events name nobody."""
    orders, events = bench.dataset.table("orders"), bench.dataset.table("events")
    if orders is None:
        return None
    try:
        return make_interactions(
            orders, events, until=bench.date_on(bench.split.test), settings=bench.settings.recommender
        )
    except DataError:
        return None


def _scenario(
    bench: Workbench, settings: Settings, *, fitted: ServedForecaster, sample: DemandPanel
) -> dict[str, ReplayScenario]:
    """Learning and validation windows of the largest category among the pilot's series."""
    terms, _ = make_supply_terms(
        bench.dataset.table("supply_terms"), panel=sample.until(bench.split.policy), settings=settings
    )
    with stage("Forecasts for the policies' pilot"):
        windows = make_windows(sample, split=bench.split, past=fitted, current=fitted, terms=terms, settings=settings)
    categories, count_G = np.unique(sample.index.category_ids_S, return_counts=True)
    rows = np.flatnonzero(sample.index.category_ids_S == categories[count_G.argmax()])
    return {name: getattr(windows, name).take(rows) for name in ("learning", "validation", "tuning")}


def _policies(
    bench: Workbench,
    settings: Settings,
    algorithm: str,
    *,
    scenario: dict[str, ReplayScenario],
    steps: Sequence[int],
    has_card: bool,
) -> PartCost:
    everything = np.full(scenario["tuning"].num_rows, "all")
    heuristics = tune_categories(scenario["tuning"], category_ids_S=everything)
    pilots = []
    for budget in steps:
        changed = {"algorithms": (algorithm,), f"budget_steps_{algorithm}": budget, "evaluations": _EVALUATIONS}
        pilot_settings = settings.model_copy(update={"policy": settings.policy.model_copy(update=changed)})
        with (
            stage(f"Pilot of {algorithm}: {budget:,} series-periods"),
            TemporaryDirectory(dir=settings.home.parent) as folder,
        ):
            began_s = time.perf_counter()
            trained = train_policies(
                settings=pilot_settings,
                scenarios_train={"all": scenario["learning"]},
                scenarios_validation={"all": scenario["validation"]},
                heuristics=heuristics,
                store_folder=Path(folder),
            )["all", algorithm]
        wall_s = time.perf_counter() - began_s
        pilots.append(Pilot(work=float(trained.curve[-1].steps), cpu_s=trained.cpu_seconds, wall_s=wall_s))
    asked = bench.settings.policy
    return estimate_part(
        f"policies by {algorithm}",
        unit="series-periods simulated per trial, at most",
        pilots=pilots,
        work=float(getattr(asked, f"budget_steps_{algorithm}")),
        runs=min(asked.max_categories, len(np.unique(bench.panel.index.category_ids_S))),
        cards=0.0 if algorithm == "direct" else asked.gpus_per_trial,
        has_card=has_card,
    )


def _growing(sizes: Sequence[int], *, limit: int, what: str) -> list[int]:
    kept = sorted({min(size, limit) for size in sizes})
    if len(kept) < 3:
        raise DataError(f"a pilot needs three sizes of growing size, {what} are {limit}; give smaller ones")
    return kept


def _measured(work: float, run: Callable[[], _Done]) -> tuple[Pilot, _Done]:
    began_s = time.perf_counter()
    with _CpuWatch() as watch:
        done = run()
    return Pilot(work=work, cpu_s=watch.seconds, wall_s=time.perf_counter() - began_s), done


class _CpuWatch:
    """CPU seconds of this process and everything below it while it is entered.

    Looked at twice a second: workers end inside, and nobody adds up what they have used.
    """

    def __init__(self) -> None:
        self._before = _cpu_s_of_tree()
        self._latest = dict(self._before)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "_CpuWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._latest |= _cpu_s_of_tree()

    @property
    def seconds(self) -> float:
        """Used since it was made."""
        return sum(spent - self._before.get(process, 0.0) for process, spent in self._latest.items())

    def _look(self) -> None:
        while not self._stop.wait(_LOOK_EVERY_S):
            self._latest |= _cpu_s_of_tree()


def _cpu_s_of_tree() -> dict[tuple[int, float], float]:
    """CPU seconds by process, which is a number and when it began."""
    me = psutil.Process()
    spent = {}
    for process in (me, *me.children(recursive=True)):
        try:
            times = process.cpu_times()
            spent[process.pid, process.create_time()] = times.user + times.system
        except psutil.Error:
            continue  # it ended between the listing and the look
    return spent
