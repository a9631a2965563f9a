"""Lost-sales instances as the product sees them: supply terms, a forecast that knows the law, scenarios, policies.

What is trained here is the product's own policy, through its own trials; only the forecast is exact.

Shapes: S series (instances), M states, L entries of a state.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from cluster.settings.models import PolicySettings
from rl.constraints import feasible_quantity_S
from rl.demand import forecast_of_laws
from rl.evaluate import replay
from rl.exact import IntArray, LostSalesProblem, OrderOf
from rl.export import export_policy
from rl.imitation import make_lesson
from rl.inventory import CostRates, InventoryState, SupplyTerms
from rl.jobs import TrialJob
from rl.observation import ActionGrid
from rl.packed import EnvData, make_env_data
from rl.policies.classical import BaseStock
from rl.policies.exported import ExportedPolicy
from rl.policies.protocol import Policy
from rl.scenarios import ReplayScenario, make_law_scenario
from rl.trial import TrialProgress, make_actor, run_trial
from rl.tuning import candidate_cost_CS

LEVELS_Q = np.array([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995], dtype=np.float32)
"""Quantile levels of the forecast."""


def make_terms(problems: Sequence[LostSalesProblem]) -> SupplyTerms:
    """Supply terms of instances, one row each."""

    def column(name: str) -> np.ndarray:
        return np.array([getattr(problem, name) for problem in problems], dtype=np.float32)

    S = len(problems)
    caps = [np.inf if problem.order_cap is None else problem.order_cap for problem in problems]
    return SupplyTerms(
        lead_time_S=np.array([problem.lead_time for problem in problems], dtype=np.int64),
        review_period_S=np.ones(S, dtype=np.int64),
        review_phase_S=np.zeros(S, dtype=np.int64),
        min_order_qty_S=column("min_order_qty"),
        pack_size_S=column("pack_size"),
        order_cap_S=np.array(caps, dtype=np.float32),
        storage_capacity_S=np.array([_storage(problem) for problem in problems], dtype=np.float32),
        mean_demand_S=np.array([problem.law.mean for problem in problems], dtype=np.float32),
        costs=CostRates(
            holding_S=column("holding"),
            lost_sale_S=column("penalty"),
            fixed_order_S=column("fixed_cost"),
            unit_cost_S=np.ones(S, dtype=np.float32),
        ),
    )


def _storage(problem: LostSalesProblem) -> float:
    """Far above what an optimal policy has on hand and on order; keeps a bad one's states finite."""
    return 1.2 * problem.base_stock_bound + 2 * problem.largest_sensible_order


def make_scenario(problems: Sequence[LostSalesProblem], *, num_periods: int, seed: int) -> ReplayScenario:
    """Demand of every instance drawn from its law."""
    laws = [problem.law for problem in problems]
    horizon = max(problem.lead_time for problem in problems) + 2
    forecast = forecast_of_laws(laws, horizon=horizon, levels_Q=LEVELS_Q)
    return make_law_scenario(laws, make_terms(problems), num_periods=num_periods, forecast=forecast, seed=seed)


def orders_of(policy: Policy, problem: LostSalesProblem) -> OrderOf:
    """A policy's feasible orders on whole-unit states, for the exact judge."""
    terms = make_terms([problem])
    forecast = forecast_of_laws([problem.law], horizon=problem.lead_time + 2, levels_Q=LEVELS_Q)

    def order_of(state_ML: IntArray) -> IntArray:
        M = len(state_ML)
        none_M = np.zeros(M, dtype=np.float32)
        state = InventoryState(
            on_hand_S=state_ML[:, 0].astype(np.float32),
            on_order_SL=state_ML[:, 1:].astype(np.float32).reshape(M, -1),
            backorder_S=none_M,
            reserved_S=none_M,
        )
        rows = np.zeros(M, dtype=np.int64)
        terms_M = terms.take(rows)
        wish_M = policy.order_quantity_S(state, forecast.take(rows), terms_M)
        return feasible_quantity_S(wish_M, state=state, terms=terms_M).astype(np.int64)

    return order_of


INSTANCE_SETTINGS: dict[str, Any] = {
    "gamma": 0.95,  # the best policy of this discount is within 0.05 % of the best average cost
    "num_epochs": 2,
    "minibatch_size": 1_024,
    "learning_rate_ppo": 3e-3,
    "entropy": 2e-2,
    "evaluations": 11,
    "patience": 11,
    "budget_steps_ppo": 2_600_000,
    "budget_steps_dqn": 2_800_000,
    "replay_capacity": 700_000,
    "budget_steps_direct": 2_500_000,
}
"""One set of hyperparameters for every instance and seed; what is not named is the product's default."""

_TRAIN_ROWS, _TRAIN_PERIODS = 64, 1_000
_VALIDATION_ROWS, _VALIDATION_PERIODS = 512, 500
_TUNE_ROWS, _TUNE_PERIODS = 16, 500
_LESSON_ROWS, _LESSON_PERIODS = 64, 60


def tune_base_stock(problems: Sequence[LostSalesProblem], *, seed: int) -> BaseStock:
    """Cheapest base-stock rule of the product on simulated demand of all instances."""
    rows = [problem for problem in problems for _ in range(max(1, _TUNE_ROWS // len(problems)))]
    scenario = make_scenario(rows, num_periods=_TUNE_PERIODS, seed=seed)
    candidates = [BaseStock(cycle_service_level=float(ndtr(score))) for score in np.arange(-1.5, 3.0, 0.1)]
    cost_CS = candidate_cost_CS(candidates, scenario)
    relative_CS = cost_CS / np.maximum(cost_CS.min(axis=0), 1e-9)
    return candidates[int(relative_CS.mean(axis=1).argmin())]


def make_job(
    problems: Sequence[LostSalesProblem], *, algorithm: str, seed: int, settings: PolicySettings, folder: Path
) -> TrialJob:
    """The product's own trial on simulated demand of the instances; nothing in it knows the optimum.

    The teacher is a base-stock rule, actions are whole quantities, validation is simulated demand of another seed.
    """
    rule = tune_base_stock(problems, seed=seed + 1)
    units = sorted({int(q) for problem in problems for q in problem.orders_up_to(problem.largest_sensible_order)[1:]})
    grid = ActionGrid(
        scores=(), batches=(), units=tuple(map(float, units)), anchor_score=float(ndtri(rule.cycle_service_level))
    )

    def window(rows: int, periods: int, *, offset: int) -> tuple[ReplayScenario, EnvData]:
        copies = max(1, rows // len(problems))
        scenario = make_scenario([p for p in problems for _ in range(copies)], num_periods=periods, seed=seed + offset)
        cost_S = replay(rule, scenario).cost_S / periods
        baseline_S = np.repeat(cost_S.reshape(-1, copies).mean(axis=1), copies).astype(np.float32)
        return scenario, make_env_data(scenario, baseline_cost_S=baseline_S, grid=grid)

    lesson_scenario, lesson_data = window(_LESSON_ROWS, _LESSON_PERIODS, offset=2)
    return TrialJob(
        category="instances",
        algorithm=algorithm,
        teacher=rule.name,
        settings=settings,
        seed=seed,
        train=window(_TRAIN_ROWS, _TRAIN_PERIODS, offset=3)[1],
        validation=window(_VALIDATION_ROWS, _VALIDATION_PERIODS, offset=4)[1],
        lesson=make_lesson(rule, lesson_scenario, data=lesson_data, seed=seed),
        folder=folder,
    )


def train(job: TrialJob, *, max_cpu_s: float) -> tuple[ExportedPolicy, TrialProgress]:
    """Train and export: what is judged is the graph that would be served."""
    progress = run_trial(job, report=lambda _: None, max_cpu_s=max_cpu_s)
    return export_policy(make_actor(job, progress.best), grid=job.train.grid, name=job.algorithm), progress
