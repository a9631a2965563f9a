"""What to simulate: demand, actual lead times, forecasts and opening stock of a stretch of history.

Every policy that replays a scenario meets the same demand and the same lead times (common random numbers), so that
costs differ by the decisions alone.

Shapes: N rows (series, or scenarios x series), T periods of the scenario, S series, L pipeline columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cluster.panel import DemandPanel
from forecasting.forecast import Forecast
from rl.demand import DemandLaw
from rl.inventory import CostRates, FloatArray, IntArray, InventoryState, Rows, SharedStorage, SupplyTerms
from rl.policies.classical import base_stock_level_S, mean_demand_S

OPENING_STOCK = (
    "Opening stock of every replay is assumed: the expected demand of each period until the lead time is on order, and "
    "the shelf holds what brings the inventory position to the newsvendor level less one period of expected demand."
)
"""The assumption behind ``make_start_state``, for reports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayScenario:
    """A stretch of T periods in which policies order for N rows.

    Parameters
    ----------
    first_period
        Number of the first period on the panel's calendar: review periods are counted on it.
    demand_NT
        Units that customers want.
    lead_time_NT
        Actual lead time of an order placed in each period, in periods.
    forecasts
        One per period, made with what was known at its start.
    start
        State at the first decision.
    terms
        Supply terms of the same rows.
    shared_storage
        Storage that rows share, if any: it shrinks orders after each row's own terms.
    """

    first_period: int
    demand_NT: FloatArray
    lead_time_NT: IntArray
    forecasts: Sequence[Forecast]
    start: InventoryState
    terms: SupplyTerms
    shared_storage: SharedStorage | None = None

    def __post_init__(self) -> None:
        N, T = self.demand_NT.shape
        if self.shared_storage is not None and len(self.shared_storage.group_S) != N:
            raise ValueError(f"shared storage must name a group, or -1, for each of {N} rows")
        if self.lead_time_NT.shape != (N, T) or len(self.terms) != N or len(self.start.on_hand_S) != N:
            raise ValueError(f"demand, lead times, start and terms must have the same {N} rows and {T} periods")
        if len(self.forecasts) != T:
            raise ValueError(f"need one forecast for each of {T} periods, got {len(self.forecasts)}")

    @property
    def num_rows(self) -> int:
        """Number of rows N."""
        return int(self.demand_NT.shape[0])

    @property
    def num_periods(self) -> int:
        """Number of periods T."""
        return int(self.demand_NT.shape[1])

    @property
    def costs(self) -> CostRates:
        """Cost rates of the rows."""
        return self.terms.costs

    @property
    def max_lead_time(self) -> int:
        """Longest actual lead time, in periods."""
        return int(self.lead_time_NT.max(initial=0))

    def take(self, rows: Rows) -> "ReplayScenario":
        """Keep the given rows, in the given order: a category, a sample."""
        return ReplayScenario(
            first_period=self.first_period,
            demand_NT=self.demand_NT[rows],
            lead_time_NT=self.lead_time_NT[rows],
            forecasts=[forecast.take(rows) for forecast in self.forecasts],
            start=self.start.take(rows),
            terms=self.terms.take(rows),
            shared_storage=None if self.shared_storage is None else self.shared_storage.take(rows),
        )


def concatenate_forecasts(parts: Sequence[Forecast]) -> Forecast:
    """Series of several forecasts one after the other; all have the levels of the first."""
    return Forecast(
        levels_Q=parts[0].levels_Q,
        mean_SH=np.concatenate([part.mean_SH for part in parts]),
        marginal_SHQ=np.concatenate([part.marginal_SHQ for part in parts]),
        cumulative_SHQ=np.concatenate([part.cumulative_SHQ for part in parts]),
    )


def make_replay(
    panel: DemandPanel,
    *,
    first: int,
    num_periods: int,
    forecasts: Sequence[Forecast],
    terms: SupplyTerms,
    seed: int,
    jitter_periods: int = 0,
    start: InventoryState | None = None,
) -> ReplayScenario:
    """Replay history: sales are taken as the demand of ``num_periods`` periods from period ``first`` on.

    Parameters
    ----------
    forecasts
        One per period; ``forecasts[i]`` was made for a decision at the start of period ``first + i``.
    seed
        Of the lead times: a period has the same ones in every scenario of one seed.
    jitter_periods
        A delivery is at most this many periods early or late.
    start
        Opening stock; default ``make_start_state`` of the first forecast.

    Raises
    ------
    ValueError
        If the panel does not hold all of these periods.
    """
    if not (first >= 0 and num_periods >= 1 and first + num_periods <= panel.num_periods):
        raise ValueError(f"periods {first}..{first + num_periods - 1} are not within the panel's {panel.num_periods}")
    periods = slice(first, first + num_periods)
    lead_time_ST = draw_lead_times_ST(terms, num_periods=first + num_periods, seed=seed, jitter_periods=jitter_periods)
    return ReplayScenario(
        first_period=first,
        demand_NT=np.ascontiguousarray(panel.sales_ST[:, periods]),
        lead_time_NT=np.ascontiguousarray(lead_time_ST[:, periods]),
        forecasts=forecasts,
        start=make_start_state(forecasts[0], terms) if start is None else start,
        terms=terms,
    )


def make_law_scenario(
    laws: Sequence[DemandLaw], terms: SupplyTerms, *, num_periods: int, forecast: Forecast, seed: int
) -> ReplayScenario:
    """Demand drawn from a law for each row, lead times as planned, and a forecast that stays the same.

    Parameters
    ----------
    forecast
        What is known of the laws, one row per law: :func:`rl.demand.forecast_of_laws`.
    """
    random = np.random.default_rng(seed)
    demand_NT = np.stack([law.draw(random, size=(num_periods,)) for law in laws])
    return ReplayScenario(
        first_period=0,
        demand_NT=demand_NT,
        lead_time_NT=np.repeat(terms.lead_time_S[:, None], num_periods, axis=1),
        forecasts=[forecast] * num_periods,
        start=make_start_state(forecast, terms),
        terms=terms,
    )


def draw_lead_times_ST(terms: SupplyTerms, *, num_periods: int, seed: int, jitter_periods: int) -> IntArray:
    """Actual lead times: the planned one, up to ``jitter_periods`` earlier or later with equal chances.

    Never under one period, unless planned as 0. More periods extend the draw: they do not change it.
    """
    drawn_TS = np.random.default_rng(seed).integers(
        -jitter_periods, jitter_periods, size=(num_periods, len(terms)), endpoint=True
    )
    planned_S = terms.lead_time_S[:, None]
    return np.where(planned_S == 0, 0, np.maximum(planned_S + drawn_TS.T, 1)).astype(np.int64)


def make_start_state(forecast: Forecast, terms: SupplyTerms) -> InventoryState:
    """Opening stock where none is known: the steady state of a newsvendor base-stock rule, in whole units.

    On order: the expected demand of each of the next L - 1 periods. On the shelf: the rest up to the critical-ratio
    quantile of demand over L + R, less one period of expected demand, which is still to be ordered.
    """
    mean_S = mean_demand_S(forecast, terms)
    num_columns = max(int(terms.lead_time_S.max(initial=1)) - 1, 1)
    # Rounding the running total keeps a slow seller's pipeline at its mean: 0.4 a period gives 0, 1, 0, 0, 1.
    total_SL = np.round(mean_S[:, None] * np.arange(num_columns + 1))
    is_open_SL = np.arange(1, num_columns + 1) < terms.lead_time_S[:, None]
    on_order_SL = np.where(is_open_SL, np.diff(total_SL, axis=1), 0).astype(np.float32)
    level_S = base_stock_level_S(forecast, terms, cycle_service_level=terms.costs.critical_ratio_S)
    on_hand_S = np.maximum(np.ceil(level_S - mean_S - on_order_SL.sum(axis=1)), 0).astype(np.float32)
    on_hand_S = np.minimum(on_hand_S, np.maximum(np.floor(terms.storage_capacity_S) - on_order_SL.sum(axis=1), 0))
    none_S = np.zeros_like(on_hand_S)
    return InventoryState(on_hand_S=on_hand_S, on_order_SL=on_order_SL, backorder_S=none_S, reserved_S=none_S)
