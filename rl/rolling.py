"""Rolling replays: many windows of one history, each decided with nothing but what came before it.

A **block** is a stretch of history as long as a window, with the terms and the opening stock as known at its start. The
windows are the last blocks; earlier ones are what rules are tuned and policies trained on, so that they learn on
stretches of the same kind as they are judged on. Blocks start a step apart, from the first forecaster's fit on.

Shapes: S series, N = J x S rows of J blocks, T periods, C candidates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from cluster.errors import DataError
from cluster.panel import DemandPanel
from forecasting.forecast import Forecast
from rl.inventory import CostRates, SupplyTerms, concatenate_states
from rl.scenarios import ReplayScenario, concatenate_forecasts, make_replay

TermsMaker = Callable[[DemandPanel], SupplyTerms]
"""Supply terms as set with a history: master data of that day."""

_FIRST_FIT_DAYS = 84
_REFIT_DAYS = 28
_LEAST_FIT = 4
_LEAST_STEPS = 3
_MIN_VALIDATION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingPlan:
    """Where blocks, windows and forecasters start; period numbers.

    Parameters
    ----------
    horizon
        Periods of a block.
    step
        Periods between the starts of two blocks.
    blocks
        Starts of all blocks.
    fits
        Starts at which a forecaster is fitted to everything before; each serves until the next.
    num_windows
        The last so many blocks are windows.
    """

    horizon: int
    step: int
    blocks: tuple[int, ...]
    fits: tuple[int, ...]
    num_windows: int

    @property
    def windows(self) -> tuple[int, ...]:
        """Starts of the windows."""
        return self.blocks[-self.num_windows :]

    @property
    def end(self) -> int:
        """End of the last window, exclusive."""
        return self.blocks[-1] + self.horizon

    def blocks_before(self, period: int) -> tuple[int, ...]:
        """Starts of the blocks that are over when a period starts."""
        return tuple(block for block in self.blocks if block + self.horizon <= period)

    def validation_start(self, window: int, *, longest_interval: int) -> int:
        """Where the stretch before a window begins that chooses checkpoints: the last step, or a whole block.

        A step in which hardly an order arrives would choose by its opening stock.
        """
        whole = window - self.horizon
        is_telling = self.step >= _MIN_VALIDATION * longest_interval
        return window - self.step if is_telling or not self.blocks_before(whole) else whole


def plan_rolling(num_periods: int, *, num_windows: int, horizon: int, period_days: int) -> RollingPlan:
    """Windows that end with history.

    They are disjoint where that leaves half of history before the first; else they start half a window apart. The first
    forecaster is fitted to at least 12 weeks if history allows, and there are three steps or more before the first
    window.

    Raises
    ------
    DataError
        If history is too short.
    """
    if num_windows < 1 or horizon < _MIN_VALIDATION:
        raise DataError(
            f"--windows {num_windows} --horizon {horizon}: need at least 1 window of {_MIN_VALIDATION} periods"
        )
    step = horizon if 2 * num_windows * horizon <= num_periods else -(-horizon // 2)
    first_window = num_periods - horizon - (num_windows - 1) * step
    steps = max((first_window - -(-_FIRST_FIT_DAYS // period_days)) // step, _LEAST_STEPS)
    first = first_window - steps * step
    if first < _LEAST_FIT:
        needed = _LEAST_FIT + _LEAST_STEPS * step + horizon + (num_windows - 1) * step
        raise DataError(
            f"history has {num_periods} periods; {num_windows} windows of {horizon} need at least {needed}: "
            f"{_LEAST_FIT} for the first forecaster, {_LEAST_STEPS * step} to tune on; lower --windows or --horizon"
        )
    blocks = tuple(range(first, num_periods - horizon + 1, step))
    fits = [first]
    for block in blocks[1:]:
        if (block - fits[-1]) * period_days >= _REFIT_DAYS:
            fits.append(block)
    return RollingPlan(horizon=horizon, step=step, blocks=blocks, fits=tuple(fits), num_windows=num_windows)


@dataclass(frozen=True, kw_only=True)
class RollingHistory:
    """Demand, forecasts and master data of a history that can be cut.

    Parameters
    ----------
    forecasts
        By period: each made with what was known at its start, by a forecaster fitted before it.
    make_terms
        Master data as set with the history it is given.
    seed, jitter_periods
        Of the actual lead times.
    """

    panel: DemandPanel
    forecasts: Mapping[int, Forecast]
    make_terms: TermsMaker
    seed: int
    jitter_periods: int = 0

    def until(self, period: int) -> "RollingHistory":
        """What is known at the start of a period, and nothing else."""
        known = {t: forecast for t, forecast in self.forecasts.items() if t < period}
        return replace(self, panel=self.panel.until(period), forecasts=known)

    def scenario(self, first: int, end: int) -> ReplayScenario:
        """Replay of ``first .. end`` with the terms and the opening stock as known at ``first``."""
        return make_replay(
            self.panel,
            first=first,
            num_periods=end - first,
            forecasts=[self.forecasts[t] for t in range(first, end)],
            terms=self.make_terms(self.panel.until(first)),
            seed=self.seed,
            jitter_periods=self.jitter_periods,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """What the policies that serve from a window on learn from: stretches that are over when it starts."""

    learning: ReplayScenario
    validation: ReplayScenario


def make_lessons(history: RollingHistory, plan: RollingPlan, *, window: int) -> Lessons:
    """Blocks to learn from, side by side, and the stretch just before the window that chooses checkpoints."""
    known = history.until(window)
    longest = int(known.make_terms(known.panel).protection_interval_S.max())
    start = plan.validation_start(window, longest_interval=longest)
    return Lessons(
        learning=side_by_side([known.scenario(block, block + plan.horizon) for block in plan.blocks_before(start)]),
        validation=known.scenario(start, window),
    )


def side_by_side(scenarios: Sequence[ReplayScenario]) -> ReplayScenario:
    """Stretches of equal length as rows of one replay, numbered like the first: (J x S) rows.

    Raises
    ------
    ValueError
        If they differ in length, or rows share storage, which would mix the stretches.
    """
    first = scenarios[0]
    if len({scenario.num_periods for scenario in scenarios}) != 1:
        raise ValueError("stretches must have the same number of periods")
    if any(scenario.shared_storage is not None for scenario in scenarios):
        raise ValueError("stretches of series that share storage cannot stand side by side")
    terms = [_as_if_from(scenario.terms, later=scenario.first_period - first.first_period) for scenario in scenarios]
    return ReplayScenario(
        first_period=first.first_period,
        demand_NT=np.concatenate([scenario.demand_NT for scenario in scenarios]),
        lead_time_NT=np.concatenate([scenario.lead_time_NT for scenario in scenarios]),
        forecasts=[
            concatenate_forecasts(parts) for parts in zip(*(scenario.forecasts for scenario in scenarios), strict=True)
        ],
        start=concatenate_states([scenario.start for scenario in scenarios]),
        terms=concatenate_terms(terms),
    )


def concatenate_terms(parts: Sequence[SupplyTerms]) -> SupplyTerms:
    """Series of several terms one after the other."""
    arrays = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(SupplyTerms)
        if field.name != "costs"
    }
    rates = {
        field.name: np.concatenate([getattr(part.costs, field.name) for part in parts])
        for field in fields(CostRates)
        if all(getattr(part.costs, field.name) is not None for part in parts)
    }
    return SupplyTerms(costs=CostRates(**rates), **arrays)


def _as_if_from(terms: SupplyTerms, *, later: int) -> SupplyTerms:
    """The same order days when periods are counted from ``later`` periods earlier."""
    return replace(terms, review_phase_S=(terms.review_phase_S - later) % terms.review_period_S)
