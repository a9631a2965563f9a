"""Chooses the parameters of the textbook rules: the cheapest of a grid on a tuning window, category by category.

Costs are those of feasible orders in the replay itself, so that a rule's parameters make up for packs and minimums. All
candidates of a rule run side by side as extra rows of one simulation; rows never interact, so one run serves every
category.

Shapes: S series, N = C x S rows, C candidates, G categories, R rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from cluster.panel import StrArray
from forecasting.forecast import Forecast
from rl.evaluate import replay
from rl.inventory import FloatArray, InventoryState, SupplyTerms
from rl.policies.classical import (
    BaseStock,
    CappedBaseStock,
    ClassicalPolicy,
    NegativeBinomial,
    Newsvendor,
    ReorderPoint,
    StaticMinMax,
)
from rl.scenarios import ReplayScenario

Unmet = Literal["lost", "backorder"]
WideArray = npt.NDArray[np.float64]

_TINY = 1e-9
# Rows of one simulation: small enough for the processor's cache, large enough to hide Python.
_MAX_ROWS = 24_000
# Normal scores of cycle service levels; packs and minimums push the best ones down, fixed costs and promotions up.
_FINE_SCORES = np.arange(-1.5, 3.3, 0.125)
_SCORES = np.arange(-1.5, 3.3, 0.25)
# Added to the score of each series' own critical ratio.
_SHIFTS = np.arange(-3.0, 1.3, 0.25)
_CAPS = (1.25, 1.5, 2.0, 3.0, 4.0, 6.0)
_ORDER_PERIODS = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
_SAFETY_PERIODS = (-4.0, -3.0, -2.0, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 14.0)
# A category's parameters are pulled towards the whole shop's as if by this many series: on 104 categories of 5 series
# each, that took 1-2 % off the cost in the weeks after the tuning window, against each category by itself.
_SHOP_WEIGHT = 5.0


def make_candidates() -> dict[str, tuple[ClassicalPolicy, ...]]:
    """The grid of parameters that each textbook rule is tried with, by rule."""
    fine, levels = _levels(_FINE_SCORES), _levels(_SCORES)
    return {
        Newsvendor.rule: (Newsvendor(),),
        BaseStock.rule: tuple(BaseStock(cycle_service_level=level) for level in fine),
        CappedBaseStock.rule: tuple(
            CappedBaseStock(cycle_service_level=level, cap_periods=cap) for level in levels for cap in _CAPS
        ),
        ReorderPoint.rule: tuple(
            ReorderPoint(cycle_service_level=level, order_periods=periods)
            for level in levels
            for periods in _ORDER_PERIODS
        ),
        NegativeBinomial.rule: tuple(NegativeBinomial(score_shift=float(shift)) for shift in _SHIFTS),
        StaticMinMax.rule: tuple(
            StaticMinMax(safety_periods=safety, order_periods=periods)
            for safety in _SAFETY_PERIODS
            for periods in _ORDER_PERIODS
        ),
    }


def tune_textbook(scenario: ReplayScenario, *, unmet: Unmet = "lost") -> dict[str, ClassicalPolicy]:
    """Each textbook rule with the parameters that cost least over the whole scenario; the cheapest rule comes first."""
    everything = np.full(scenario.num_rows, "", dtype=np.str_)
    return tune_categories(scenario, category_ids_S=everything, unmet=unmet)[""]


def tune_categories(
    scenario: ReplayScenario, *, category_ids_S: StrArray, unmet: Unmet = "lost"
) -> dict[str, dict[str, ClassicalPolicy]]:
    """As ``tune_textbook`` for each category, in one pass: category -> rule -> policy, the cheapest rule first.

    A small category says little about its own best parameters: what counts is its cost relative to its cheapest
    candidate, weighted by its number of series, plus the same for all series together.
    """
    cost_of = {
        rule: candidate_cost_CS(candidates, scenario, unmet=unmet) for rule, candidates in make_candidates().items()
    }
    return choose_parameters(cost_of, category_ids_S=category_ids_S)


def choose_parameters(
    cost_of: Mapping[str, WideArray], *, category_ids_S: StrArray
) -> dict[str, dict[str, ClassicalPolicy]]:
    """As ``tune_categories``, from costs that are known: rule -> cost of each of its candidates, (C, S)."""
    category_G, group_S = np.unique(category_ids_S, return_inverse=True)
    size_G = np.bincount(group_S)
    chosen: list[list[ClassicalPolicy]] = [[] for _ in category_G]
    cost_RG: list[WideArray] = []
    for rule, candidates in make_candidates().items():
        cost_CG: WideArray = np.stack([np.bincount(group_S, weights=cost_S) for cost_S in cost_of[rule]])
        cheapest_G = regret_CG(cost_CG, size_G).argmin(axis=0)
        cost_RG.append(cost_CG[cheapest_G, np.arange(len(size_G))])
        for group, candidate in enumerate(cheapest_G):
            chosen[group].append(candidates[candidate])
    ranks_GR = regret_CG(np.stack(cost_RG), size_G).argsort(axis=0, kind="stable").T
    return {
        str(category): {rules[rank].name: rules[rank] for rank in ranks_R}
        for category, rules, ranks_R in zip(category_G, chosen, ranks_GR, strict=True)
    }


def candidate_cost_CS(
    candidates: Sequence[ClassicalPolicy], scenario: ReplayScenario, *, unmet: Unmet = "lost"
) -> WideArray:
    """Cost of each candidate on each series over the scenario, account currency, shape (C, S)."""
    size = max(_MAX_ROWS // scenario.num_rows, 1)
    costs = []
    for first in range(0, len(candidates), size):
        chunk = candidates[first : first + size]
        policy = _SideBySide(policies=chunk, terms=scenario.terms)
        result = replay(policy, _tiled(scenario, len(chunk)), unmet=unmet)
        costs.append(result.cost_S.reshape(len(chunk), scenario.num_rows))
    return np.concatenate(costs)


def regret_CG(cost_CG: WideArray, size_G: npt.NDArray[np.integer]) -> WideArray:
    """Cost over the cheapest candidate's, a category's own and the shop's, weighted by series."""
    total_C = cost_CG.sum(axis=1, keepdims=True)
    own_CG = cost_CG / np.maximum(cost_CG.min(axis=0), _TINY)
    return np.asarray(size_G * own_CG + _SHOP_WEIGHT * total_C / np.maximum(total_C.min(), _TINY))


@dataclass(frozen=True, slots=True, kw_only=True)
class _SideBySide:
    """Policy c decides for the c-th block of rows. All blocks share one forecast, which is not copied."""

    policies: Sequence[ClassicalPolicy]
    terms: SupplyTerms
    name: str = "side_by_side"

    def order_quantity_S(self, state: InventoryState, forecast: Forecast, terms: SupplyTerms) -> FloatArray:
        S = len(self.terms)
        shared = _SharedForecast(
            levels_Q=forecast.levels_Q,
            mean_SH=forecast.mean_SH,
            marginal_SHQ=forecast.marginal_SHQ,
            cumulative_SHQ=forecast.cumulative_SHQ,
        )
        blocks = [slice(c * S, (c + 1) * S) for c in range(len(self.policies))]
        return np.concatenate(
            [
                policy.order_quantity_S(_view(state, block), shared, self.terms)
                for policy, block in zip(self.policies, blocks, strict=True)
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _SharedForecast(Forecast):
    """A forecast that many candidates ask the same questions of: always over L + R, at few levels."""

    answers: dict[float | None, FloatArray] = field(default_factory=dict)

    def mean_over_S(self, interval_S: npt.NDArray[np.integer]) -> FloatArray:
        if None not in self.answers:
            self.answers[None] = Forecast.mean_over_S(self, interval_S)
        return self.answers[None]

    def quantile_over_S(
        self, interval_S: npt.NDArray[np.integer], *, level_S: npt.NDArray[np.floating] | float
    ) -> FloatArray:
        if np.ndim(level_S):
            return Forecast.quantile_over_S(self, interval_S, level_S=level_S)
        level = float(level_S)
        if level not in self.answers:
            self.answers[level] = Forecast.quantile_over_S(self, interval_S, level_S=level)
        return self.answers[level]


def _view(state: InventoryState, block: slice) -> InventoryState:
    return InventoryState(
        on_hand_S=state.on_hand_S[block],
        on_order_SL=state.on_order_SL[block],
        backorder_S=state.backorder_S[block],
        reserved_S=state.reserved_S[block],
    )


def _tiled(scenario: ReplayScenario, times: int) -> ReplayScenario:
    rows = np.tile(np.arange(scenario.num_rows), times)
    return ReplayScenario(
        first_period=scenario.first_period,
        demand_NT=scenario.demand_NT[rows],
        lead_time_NT=scenario.lead_time_NT[rows],
        forecasts=scenario.forecasts,
        start=scenario.start.take(rows),
        terms=scenario.terms.take(rows),
        shared_storage=None if scenario.shared_storage is None else scenario.shared_storage.take(rows),
    )


def _levels(scores: npt.NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(level) for level in np.round(ndtr(scores), 6))
