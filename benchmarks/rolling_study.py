"""What the rolling replay does for each window, kept in a work folder: a run that was interrupted goes on from there.

Every file is written aside and renamed when it is complete.

Shapes: S series, C candidates.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.panels import ReplayInput
from cluster.progress import Stage
from cluster.runtime import connect
from forecasting.forecast import Forecast
from forecasting.predict import Forecaster
from forecasting.preparation import fit_in_process
from rl.evaluate import ReplayResult, perfect_foresight_cost_S, replay
from rl.inventory import FloatArray, InventoryState, SupplyTerms
from rl.jobs import TrainedPolicy
from rl.policies.classical import ClassicalPolicy
from rl.policies.protocol import Policy
from rl.rolling import RollingHistory, RollingPlan, make_lessons
from rl.scenarios import ReplayScenario
from rl.train import TrialUpdate, train_policies
from rl.tuning import candidate_cost_CS, choose_parameters, make_candidates

Arrays = dict[str, np.ndarray]

_SHOP = "shop"
_FORECAST_FIELDS = ("levels_Q", "mean_SH", "marginal_SHQ", "cumulative_SHQ")


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleOfCategory:
    """A textbook rule with each category's own parameters."""

    name: str
    rows_of: Mapping[ClassicalPolicy, np.ndarray]

    def order_quantity_S(self, state: InventoryState, forecast: Forecast, terms: SupplyTerms) -> FloatArray:
        """Units that each series' parameters wish."""
        wish_S = np.zeros(len(terms), dtype=np.float32)
        for policy, rows in self.rows_of.items():
            wish_S[rows] = policy.order_quantity_S(state.take(rows), forecast.take(rows), terms.take(rows))
        return wish_S


class RollingStudy:
    """Forecasts, tunes, trains and replays, window by window.

    Parameters
    ----------
    given
        History and master data.
    retrain_every
        Learned policies are trained at every so many windows and kept in between.
    work
        Folder of this study and no other.
    """

    def __init__(self, given: ReplayInput, plan: RollingPlan, *, retrain_every: int, work: Path) -> None:
        self.given, self.plan = given, plan
        self._retrain_every = retrain_every
        self._work = work
        work.mkdir(parents=True, exist_ok=True)

    def forecast(self, running: Stage) -> None:
        """Fit a forecaster at each of the plan's fits, warm, and forecast every period until the next."""
        forecasts: dict[int, Forecast] = {}
        earlier: Path | None = None
        ends = (*self.plan.fits[1:], self.plan.end)
        for first, end in zip(self.plan.fits, ends, strict=True):
            folder = self._work / f"forecaster-{first}"
            if not folder.is_dir():
                self._fit(folder, first=first, end=end, earlier=earlier)
            forecasts |= _read_forecasts(folder / "forecasts.npz", first=first)
            earlier = folder
            running.advance(note=f"until {self.given.panel.calendar.date_on(end)}")
        self.history = RollingHistory(
            panel=self.given.panel,
            forecasts=forecasts,
            make_terms=self.given.make_terms,
            seed=self.given.settings.seed,
            jitter_periods=self.given.jitter_periods,
        )

    def _fit(self, folder: Path, *, first: int, end: int, earlier: Path | None) -> None:
        panel, settings = self.given.panel, self.given.settings
        fitted = fit_in_process(
            panel.until(first),
            settings=settings,
            warm_start=None if earlier is None else Forecaster.load(earlier),
        )
        made = fitted.predict_rolling(panel.until(end), origins=range(first, end), horizon=settings.horizon)
        arrays = {name: np.stack([getattr(forecast, name) for forecast in made]) for name in _FORECAST_FIELDS}

        def write(draft: Path) -> None:
            fitted.save(draft)
            np.savez(draft / "forecasts.npz", **arrays)

        _write_folder(folder, write)

    def block_costs(self, block: int) -> Arrays:
        """Cost of every candidate of every rule over a block: rule -> (C, S)."""

        def make() -> Arrays:
            scenario = self.history.until(block + self.plan.horizon).scenario(block, block + self.plan.horizon)
            return {
                rule: candidate_cost_CS(candidates, scenario).astype(np.float32)
                for rule, candidates in make_candidates().items()
            }

        return self._kept(f"block-{block}", make)

    def rules(self, window: int) -> dict[str, Policy]:
        """Textbook rules as tuned before a window, category by category."""
        cost_of = self._tuning_costs(window)
        category_S = self.given.panel.index.category_ids_S
        tuned = choose_parameters(cost_of, category_ids_S=category_S)
        rules: dict[str, Policy] = {}
        for rule in make_candidates():
            categories_of: dict[ClassicalPolicy, list[str]] = {}
            for category, policies in tuned.items():
                categories_of.setdefault(policies[rule], []).append(category)
            rows_of = {p: np.flatnonzero(np.isin(category_S, names)) for p, names in categories_of.items()}
            rules[rule] = RuleOfCategory(name=rule, rows_of=rows_of)
        return rules

    def learned(self, window: int, running: Stage) -> dict[str, TrainedPolicy]:
        """Policies that serve in a window: one network per algorithm for the whole shop."""
        first = self.trained_at(window)
        everything = np.full(self.given.panel.num_series, _SHOP)
        shop = choose_parameters(self._tuning_costs(first), category_ids_S=everything)[_SHOP]
        lessons = make_lessons(self.history, self.plan, window=first)
        with connect(self.given.settings.runtime):
            trained = train_policies(
                settings=self._learning_settings(lessons.learning),
                scenarios_train={_SHOP: lessons.learning},
                scenarios_validation={_SHOP: lessons.validation},
                heuristics={_SHOP: shop},
                store_folder=self._work / f"policies-{first}",
                on_progress=lambda update: running.advance(0, note=_note(update)),
            )
        return {algorithm: policy for (_, algorithm), policy in trained.items()}

    def trained_at(self, window: int) -> int:
        """Start of the window before which the learned policies of a window were trained."""
        number = self.plan.windows.index(window)
        return self.plan.windows[number - number % self._retrain_every]

    def judge(self, window: int, running: Stage) -> Arrays:
        """Replays of all contenders: the window itself, its first step, and the stretch that chose checkpoints.

        Keys are ``<contender>/<figure>``; the bound is ``perfect_foresight/cost``.
        """

        def make() -> Arrays:
            contenders: dict[str, Policy] = self.rules(window)
            if self.given.settings.policy.algorithms:
                contenders |= {name: trained.policy for name, trained in self.learned(window, running).items()}
            plan, known = self.plan, self.history.until(window)
            longest = int(known.make_terms(known.panel).protection_interval_S.max())
            proof_from = plan.validation_start(window, longest_interval=longest)
            proof = known.scenario(proof_from, window)
            whole = self.history.scenario(window, window + plan.horizon)
            step = self.history.scenario(window, window + plan.step)
            arrays: Arrays = {"perfect_foresight/cost": perfect_foresight_cost_S(whole)}
            for name, policy in contenders.items():
                running.advance(0, note=f"replaying {name}")
                arrays |= _figures(name, replay(policy, whole))
                arrays[f"{name}/step_cost"] = replay(policy, step).cost_S
                arrays[f"{name}/proof_cost"] = replay(policy, proof).cost_S
            return arrays

        return self._kept(f"window-{window}", make)

    def _tuning_costs(self, window: int) -> Arrays:
        blocks = [self.block_costs(block) for block in self.plan.blocks_before(window)]
        return {
            rule: sum((costs[rule] for costs in blocks[1:]), blocks[0][rule]).astype(np.float64) for rule in blocks[0]
        }

    def _learning_settings(self, learning: ReplayScenario) -> Any:
        """Blocks of at most half a stretch, so that rows start in different periods."""
        settings = self.given.settings
        shorter = min(settings.policy.rollout_periods, max(learning.num_periods // 2, 2))
        return settings.model_copy(update={"policy": settings.policy.model_copy(update={"rollout_periods": shorter})})

    def _kept(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        path = self._work / f"{name}.npz"
        if not path.is_file():
            arrays = make()
            beside = path.with_name(f".{path.name}.{os.getpid()}.npz")
            np.savez(beside, **arrays)
            beside.replace(path)
        with np.load(path) as stored:
            return {key: stored[key] for key in stored.files}


def _figures(name: str, result: ReplayResult) -> Arrays:
    return {
        f"{name}/cost": result.cost_S,
        f"{name}/demand": result.demand_S,
        f"{name}/unmet": result.unmet_S,
        f"{name}/in_stock": result.in_stock_rate_S,
    }


def _note(update: TrialUpdate) -> str:
    return f"{update.algorithm}: {update.share:.0%} of its budget, {update.best_score:.3f} of the textbook rule's cost"


def _read_forecasts(path: Path, *, first: int) -> dict[int, Forecast]:
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in _FORECAST_FIELDS}
    return {
        first + k: Forecast(**{name: array[k] for name, array in arrays.items()}) for k in range(len(arrays["mean_SH"]))
    }


def _write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    write(draft)
    draft.rename(folder)
