"""A replay packed into arrays: everything that forecasts and terms say about (period, series), computed once.

Shapes: S series, T periods, F observation columns.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rl.actors import Actor
from rl.constraints import feasible_quantity_S, is_review_period_S
from rl.inventory import FloatArray, IntArray, InventoryState, SupplyTerms
from rl.network import Context, ContextMaker, observe
from rl.observation import ActionGrid, make_forecast_inputs, make_state_inputs
from rl.scenarios import ReplayScenario
from rl.simulator import Simulator


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvData:
    """A replay, packed for stepping.

    Parameters
    ----------
    context
        One row per (period, series), row ``t * S + s``; arrays as :class:`rl.network.Context` names them. One row per
        series where every period's forecast is the same.
    first_period
        Number of the first period on the panel's calendar: review periods are counted on it.
    demand_TS, lead_time_TS
        What happens in each period.
    start, terms
        Opening stock of the replay, and terms of every series.
    baseline_cost_S
        Average cost per period of the tuned textbook rule: the reward's zero.
    grid
        What the policy may order.
    """

    context: tuple[npt.NDArray[np.generic], ...]
    first_period: int
    demand_TS: FloatArray
    lead_time_TS: IntArray
    start: InventoryState
    terms: SupplyTerms
    baseline_cost_S: FloatArray
    grid: ActionGrid

    @property
    def num_series(self) -> int:
        """S: series of the category."""
        return len(self.terms)

    @property
    def num_periods(self) -> int:
        """T: periods of the replay."""
        return len(self.demand_TS)

    @property
    def max_lead_time(self) -> int:
        """Longest lead time, planned or actual, in periods."""
        return int(max(self.lead_time_TS.max(), self.terms.lead_time_S.max()))

    def context_rows(self, period_N: IntArray, series_N: IntArray) -> Tensor:
        """Rows of the packed context that hold the given periods of the given series."""
        is_constant = len(self.context[0]) == self.num_series
        return torch.from_numpy(series_N if is_constant else period_N * self.num_series + series_N)

    def context_tensors(self) -> Context:
        """The packed context as tensors."""
        # A copy: arrays that come out of Ray's shared memory are read-only, which torch does not support.
        return Context(*(torch.tensor(part) for part in self.context))


def make_env_data(scenario: ReplayScenario, *, baseline_cost_S: FloatArray, grid: ActionGrid) -> EnvData:
    """Pack a replay: contexts of all periods, demand and lead times by period."""
    make_context = ContextMaker(grid)
    parts = []
    first = scenario.forecasts[0]
    is_constant = all(forecast is first for forecast in scenario.forecasts)
    for forecast in [first] if is_constant else scenario.forecasts:
        inputs = make_forecast_inputs(forecast, scenario.terms, grid=grid)
        parts.append(make_context(**{name: torch.tensor(value) for name, value in inputs.items()}))
    packed = tuple(torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return EnvData(
        context=packed,
        first_period=scenario.first_period,
        demand_TS=np.ascontiguousarray(scenario.demand_NT.T, dtype=np.float32),
        lead_time_TS=np.ascontiguousarray(scenario.lead_time_NT.T, dtype=np.int64),
        start=scenario.start,
        terms=scenario.terms,
        baseline_cost_S=baseline_cost_S.astype(np.float32),
        grid=grid,
    )


def observe_state(context: Context, state: InventoryState) -> Tensor:
    """Observation of each row, (S, F)."""
    inputs = make_state_inputs(state)
    return observe(context, torch.from_numpy(inputs["net_S"]), torch.from_numpy(inputs["on_order_SL"]))


def live_through(
    data: EnvData,
    simulator: Simulator,
    *,
    wish_N: FloatArray,
    state: InventoryState,
    terms: SupplyTerms,
    period_N: IntArray,
    series_N: IntArray,
) -> tuple[FloatArray, FloatArray]:
    """Turn wishes into feasible orders and step rows through their periods; what was ordered and what it cost.

    ``state`` is what the simulator just observed, ``terms`` those of each row.
    """
    is_review_N = is_review_period_S(terms, period=data.first_period + period_N)
    order_N = feasible_quantity_S(wish_N, state=state, terms=terms, is_review_S=is_review_N)
    outcome = simulator.step(
        order_N, demand_N=data.demand_TS[period_N, series_N], lead_time_N=data.lead_time_TS[period_N, series_N]
    )
    return order_N, outcome.cost_N


def replay_cost_S(data: EnvData, actor: Actor) -> FloatArray:
    """Average cost per period of each series when ``actor`` orders, from the replay's start.

    The same arithmetic and the same figures as :func:`rl.evaluate.replay` of the exported policy.
    """
    context = data.context_tensors()
    series_S = np.arange(data.num_series)
    simulator = Simulator(data.start, costs=data.terms.costs, max_lead_time=data.max_lead_time)
    total_S = np.zeros(data.num_series)
    for period in range(data.num_periods):
        state = simulator.observe()
        now = context.take(data.context_rows(np.full_like(series_S, period), series_S))
        with torch.inference_mode():
            position_S = torch.from_numpy(state.inventory_position_S)
            wish_S = actor(now, observe_state(now, state), position_S)[0].numpy()
        period_S = np.full_like(series_S, period)
        _, cost_S = live_through(
            data, simulator, wish_N=wish_S, state=state, terms=data.terms, period_N=period_S, series_N=series_S
        )
        total_S += cost_S
    return (total_S / data.num_periods).astype(np.float32)
