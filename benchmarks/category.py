"""A synthetic category of 300 series, a held-out year: learned policies against base-stock tuned series by series.

Lead times 1..8 periods, lost-sale costs 2..20 times holding, negative-binomial demand with a week and a year in it, and
a forecast that knows both. One year is for tuning and learning, its last eight weeks for choosing checkpoints, the next
year for judging. One network per algorithm serves all series.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtr
from scipy.stats import nbinom

from benchmarks.frame import make_parser, make_target, report
from benchmarks.instances import train
from cluster.config import RuntimeSettings
from cluster.progress import track
from cluster.runtime import connect
from cluster.settings.models import PolicySettings
from forecasting.forecast import Forecast
from rl.evaluate import replay
from rl.imitation import make_lesson
from rl.inventory import CostRates, FloatArray, InventoryState, SupplyTerms
from rl.jobs import TrialJob
from rl.observation import ActionGrid
from rl.packed import make_env_data
from rl.policies.classical import BaseStock, base_stock_level_S
from rl.policies.protocol import Policy
from rl.policy_report import paired_interval
from rl.scenarios import ReplayScenario, make_start_state
from rl.tuning import candidate_cost_CS

_YEAR, _WEEKS = 364, 56
_LEVELS_Q = np.array([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99], dtype=np.float32)
_OVERDISPERSION = (1.2, 1.6, 2.2, 3.0)
_SCORES = np.arange(-1.5, 3.01, 0.15)
_TARGETS = {"direct": -5.0, "ppo": -3.0, "dqn": 0.0}
_SETTINGS: dict[str, Any] = {
    "hidden": 128,
    "gamma": 0.95,
    "num_epochs": 2,
    "minibatch_size": 2_048,
    "entropy": 3e-3,
    "evaluations": 12,
    "patience": 6,
    "budget_steps_ppo": 3_000_000,
    "budget_steps_dqn": 3_000_000,
    "replay_capacity": 700_000,
    "budget_steps_direct": 5_000_000,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _PerSeries:
    """A base-stock rule with a cycle service level of its own for each series."""

    level_S: FloatArray
    name: str = "base_stock"

    def order_quantity_S(self, state: InventoryState, forecast: Forecast, terms: SupplyTerms) -> FloatArray:
        up_to_S = base_stock_level_S(forecast, terms, cycle_service_level=self.level_S)
        return np.maximum(up_to_S - state.inventory_position_S, 0)


def main() -> None:
    """Tune, train and judge."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--algorithms", nargs="*", default=["direct", "ppo", "dqn"])
    arguments = parser.parse_args()
    num_series = 60 if arguments.quick else 300
    whole = make_category(num_series, num_periods=2 * _YEAR, seed=arguments.seed)
    learning, validation = window(whole, 0, _YEAR - _WEEKS), window(whole, _YEAR - _WEEKS, _YEAR)
    tuning, test = window(whole, 0, _YEAR), window(whole, _YEAR, 2 * _YEAR)
    candidates = [BaseStock(cycle_service_level=float(ndtr(score))) for score in _SCORES]
    cost_CS = candidate_cost_CS(candidates, tuning)
    best_S = cost_CS.argmin(axis=0)
    rule = _PerSeries(level_S=np.array([candidates[c].cycle_service_level for c in best_S], dtype=np.float32))
    common = candidates[int((cost_CS / cost_CS.min(axis=0)).mean(axis=1).argmin())]
    policies: dict[str, tuple[Policy, float]] = {"base_stock, tuned per series": (rule, 0.0)}
    with connect(RuntimeSettings(num_cpus=1)):
        for algorithm in track(arguments.algorithms, description="policies"):
            began_s = time.process_time()
            policy = _learn(
                algorithm, learning, validation, teacher=common, seed=arguments.seed, is_quick=arguments.quick
            )
            policies[algorithm] = (policy, time.process_time() - began_s)
    rows = _judge(policies, test, seed=arguments.seed)
    targets = [
        make_target(
            f"{row['system']}: against base-stock, %",
            value=row["against_base_stock_percent"],
            target=_TARGETS[row["system"]],
            at_least=False,
        )
        for row in rows[1:]
    ]
    report("category", rows, targets=targets, arguments=arguments)


def make_category(num_series: int, *, num_periods: int, seed: int) -> ReplayScenario:
    """Series, demand and forecasts of the synthetic category."""
    random = np.random.default_rng(seed)
    lead_time_S = random.integers(1, 9, size=num_series)
    mean_S = np.exp(random.normal(1.2, 0.7, size=num_series))
    ratio_S = random.choice(_OVERDISPERSION, size=num_series)
    horizon = int(lead_time_S.max()) + 2
    rate_ST = mean_S[:, None] * _season_ST(random, num_series, num_periods + horizon)
    # Variance is a fixed multiple of the mean: then sums of periods are negative binomial too.
    share_S1 = 1 / ratio_S[:, None]
    demand_ST = random.negative_binomial(rate_ST * share_S1 / (1 - share_S1), np.broadcast_to(share_S1, rate_ST.shape))
    zeros_S = np.zeros(num_series, dtype=np.float32)
    terms = SupplyTerms(
        lead_time_S=lead_time_S.astype(np.int64),
        review_period_S=np.ones(num_series, dtype=np.int64),
        review_phase_S=np.zeros(num_series, dtype=np.int64),
        min_order_qty_S=zeros_S,
        pack_size_S=zeros_S + 1,
        order_cap_S=zeros_S + np.inf,
        storage_capacity_S=zeros_S + np.inf,
        mean_demand_S=mean_S.astype(np.float32),
        costs=CostRates(
            holding_S=zeros_S + 1,
            lost_sale_S=random.uniform(2, 20, size=num_series).astype(np.float32),
            fixed_order_S=zeros_S,
            unit_cost_S=zeros_S + 1,
        ),
    )
    forecasts = _forecasts(rate_ST, ratio_S, num_periods=num_periods, horizon=horizon)
    return ReplayScenario(
        first_period=0,
        demand_NT=demand_ST[:, :num_periods].astype(np.float32),
        lead_time_NT=np.repeat(lead_time_S[:, None], num_periods, axis=1).astype(np.int64),
        forecasts=forecasts,
        start=make_start_state(forecasts[0], terms),
        terms=terms,
    )


def _season_ST(random: np.random.Generator, num_series: int, num_periods: int) -> np.ndarray:
    period_T = np.arange(num_periods)
    week = random.uniform(0.6, 1.4, size=(num_series, 7))
    week /= week.mean(axis=1, keepdims=True)
    depth_S1, phase_S1 = random.uniform(0.1, 0.5, size=(num_series, 1)), random.uniform(0, 1, size=(num_series, 1))
    year_ST = 1 + depth_S1 * np.sin(2 * np.pi * (period_T / _YEAR + phase_S1))
    return week[:, period_T % 7] * year_ST


def _forecasts(rate_ST: np.ndarray, ratio_S: np.ndarray, *, num_periods: int, horizon: int) -> list[Forecast]:
    """The law's own means and quantiles of sums, read off a table of means: exact quantiles take minutes."""
    total_ST = np.concatenate([np.zeros((len(rate_ST), 1)), np.cumsum(rate_ST, axis=1)], axis=1)
    tables = {ratio: _quantile_table(ratio, largest=float(total_ST[:, horizon:].max())) for ratio in _OVERDISPERSION}
    forecasts = []
    for period in range(num_periods):
        mean_SH = rate_ST[:, period : period + horizon]
        sum_SH = np.cumsum(mean_SH, axis=1)
        cumulative_SHQ = np.empty((*sum_SH.shape, len(_LEVELS_Q)), dtype=np.float32)
        for ratio, (means, quantile_MQ) in tables.items():
            rows = ratio_S == ratio
            for q in range(len(_LEVELS_Q)):
                cumulative_SHQ[rows, :, q] = np.interp(sum_SH[rows], means, quantile_MQ[:, q])
        forecasts.append(
            Forecast(
                levels_Q=_LEVELS_Q,
                mean_SH=mean_SH.astype(np.float32),
                marginal_SHQ=np.repeat(cumulative_SHQ[:, :1], horizon, axis=1),
                cumulative_SHQ=cumulative_SHQ,
            )
        )
    return forecasts


def _quantile_table(ratio: float, *, largest: float) -> tuple[np.ndarray, np.ndarray]:
    means = np.geomspace(1e-2, largest, 300)
    whole_MQ = nbinom(means[:, None] / (ratio - 1), 1 / ratio).ppf(_LEVELS_Q)
    # Whole-unit quantiles are steps in the mean; half a unit to either side of the step lies the smooth one.
    return means, np.maximum(whole_MQ, 0).astype(np.float64)


def window(scenario: ReplayScenario, first: int, end: int) -> ReplayScenario:
    """Periods ``first`` to ``end`` of a scenario, from a start of their own."""
    return ReplayScenario(
        first_period=first,
        demand_NT=scenario.demand_NT[:, first:end],
        lead_time_NT=scenario.lead_time_NT[:, first:end],
        forecasts=scenario.forecasts[first:end],
        start=make_start_state(scenario.forecasts[first], scenario.terms),
        terms=scenario.terms,
    )


def _learn(
    algorithm: str,
    learning: ReplayScenario,
    validation: ReplayScenario,
    *,
    teacher: BaseStock,
    seed: int,
    is_quick: bool,
) -> Policy:
    settings = PolicySettings(**_SETTINGS)
    if is_quick:
        budgets = {f"budget_steps_{name}": _SETTINGS[f"budget_steps_{name}"] // 10 for name in _TARGETS}
        settings = settings.model_copy(update=budgets)
    grid = ActionGrid(
        scores=(),
        batches=(),
        fractions=tuple(float(f) for f in np.round(np.arange(0.2, 3.01, 0.2), 1)),
        anchor_score=float(_SCORES[np.abs(ndtr(_SCORES) - teacher.cycle_service_level).argmin()]),
    )
    data = []
    for window in (learning, validation):
        cost_S = replay(teacher, window).cost_S / window.num_periods
        data.append(make_env_data(window, baseline_cost_S=cost_S.astype(np.float32), grid=grid))
    with tempfile.TemporaryDirectory() as folder:
        job = TrialJob(
            category="synthetic",
            algorithm=algorithm,
            teacher=teacher.name,
            settings=settings,
            seed=seed,
            train=data[0],
            validation=data[1],
            lesson=make_lesson(teacher, learning, data=data[0], seed=seed),
            folder=Path(folder) / "trial",
        )
        return train(job, max_cpu_s=float("inf"))[0]


def _judge(policies: dict[str, tuple[Policy, float]], test: ReplayScenario, *, seed: int) -> list[dict[str, Any]]:
    """Cost over mean demand of every series, averaged: each series counts alike."""
    scale_S = test.demand_NT.sum(axis=1, dtype=np.float64)
    cost_S_of = {name: replay(policy, test).cost_S / scale_S for name, (policy, _) in policies.items()}
    base_S = next(iter(cost_S_of.values()))
    rows = []
    for name, cost_S in cost_S_of.items():
        interval = paired_interval(cost_S, base_S, seed=seed)
        rows.append(
            {
                "system": name,
                "cost_over_demand": float(cost_S.mean()),
                "against_base_stock_percent": 100 * interval.estimate,
                "interval_percent": f"{100 * interval.low:+.2f}..{100 * interval.high:+.2f}",
                "cheaper_series_percent": 100 * float((cost_S < base_S).mean()),
                "cpu_seconds": round(policies[name][1], 1),
            }
        )
    return rows


if __name__ == "__main__":
    main()
