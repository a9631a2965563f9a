"""The worked example of ten garments: three orders to choose from, and two rewards to learn from.

``docs/garments.md`` walks through it, ``python -m benchmarks.garments`` compares what is learned.

Shapes: S garments, N = copies x S rows, A actions, X states of one garment.
"""

from dataclasses import dataclass, field

import numpy as np

from forecasting.forecast import Forecast
from rl.demand import DemandLaw, forecast_of_laws
from rl.evaluate import replay
from rl.inventory import CostRates, FloatArray, InventoryState, SupplyTerms
from rl.policies.protocol import Policy
from rl.policies.q_learning import QSettings, StockGrid, TablePolicy, WideArray, learn_table
from rl.rewards import RewardMode, tiered_reward_N
from rl.scenarios import ReplayScenario, make_law_scenario
from rl.stock_task import StockTask

ORDER_QTY = (10, 20, 5)
"""Units that the three actions order. Something is ordered every day: doing nothing is not among them."""

LEAD_TIME = 1
"""Days: today's order is on the shelf tomorrow morning."""

STOCK_GRID = StockGrid(num_cells=(10,), width=5)
"""States of a garment: 0-4, 5-9, ... 40-44, and 45 or more on the shelf."""

FINE_GRID = StockGrid(num_cells=(25,), width=2)
"""Finer states: 0-1, 2-3, ... 46-47, and 48 or more."""

EXAMPLE = QSettings(learning_rate=0.1, discount=0.9, epsilon=0.1)
"""The numbers that the example is told with."""

FALLING_RATE = QSettings(learning_rate=1.0, visit_power=0.7, discount=0.9, epsilon=0.1)
"""The same with a learning rate that falls, so that values settle."""

_MAX_START = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Garment:
    """One stock-keeping unit.

    Parameters
    ----------
    mean, variance
        Of a day's demand, units: negative binomial.
    holding
        Per unit left on the shelf at night, account currency.
    lost_sale
        Per customer who leaves without: the margin.
    """

    name: str
    mean: float
    variance: float
    holding: float
    lost_sale: float

    @property
    def law(self) -> DemandLaw:
        """A day's demand."""
        return DemandLaw(name="negative_binomial", mean=self.mean, variance=self.variance)


GARMENTS = (
    Garment(name="socks", mean=16, variance=28, holding=0.05, lost_sale=1.0),
    Garment(name="t-shirt", mean=15, variance=30, holding=0.10, lost_sale=2.0),
    Garment(name="shorts", mean=12, variance=30, holding=0.15, lost_sale=2.5),
    Garment(name="shirt", mean=11, variance=16, holding=0.20, lost_sale=4.0),
    Garment(name="jeans", mean=10, variance=14, holding=0.25, lost_sale=6.0),
    Garment(name="skirt", mean=9, variance=15, holding=0.20, lost_sale=4.0),
    Garment(name="sweater", mean=9, variance=12, holding=0.30, lost_sale=6.0),
    Garment(name="dress", mean=8, variance=16, holding=0.30, lost_sale=7.0),
    Garment(name="jacket", mean=8, variance=12, holding=0.50, lost_sale=10.0),
    Garment(name="coat", mean=7, variance=10, holding=0.80, lost_sale=14.0),
)


def garment_terms() -> SupplyTerms:
    """Supply terms and cost rates of the ten garments: a day's lead time, an order every day, no packs."""
    count = len(GARMENTS)
    one_S, zero_S = np.ones(count, dtype=np.float32), np.zeros(count, dtype=np.float32)
    return SupplyTerms(
        lead_time_S=np.full(count, LEAD_TIME),
        review_period_S=np.ones(count, dtype=np.int64),
        review_phase_S=np.zeros(count, dtype=np.int64),
        min_order_qty_S=zero_S,
        pack_size_S=one_S,
        order_cap_S=one_S * np.inf,
        storage_capacity_S=one_S * np.inf,
        mean_demand_S=_each("mean"),
        costs=CostRates(
            holding_S=_each("holding"), lost_sale_S=_each("lost_sale"), fixed_order_S=zero_S, unit_cost_S=one_S
        ),
    )


def order_A() -> FloatArray:
    """Units of each action."""
    return np.array(ORDER_QTY, dtype=np.float32)


def make_garment_task(*, reward: RewardMode, copies: int, seed: int, grid: StockGrid = STOCK_GRID) -> StockTask:
    """Copies of the shop, to learn from."""
    terms = garment_terms()
    return StockTask(
        [garment.law for garment in GARMENTS],
        lead_time_S=terms.lead_time_S,
        costs=terms.costs,
        order_A=order_A(),
        grid=grid,
        copies=copies,
        max_start=_MAX_START,
        reward=reward,
        seed=seed,
    )


def learn_garment_table(
    *,
    reward: RewardMode,
    settings: QSettings = EXAMPLE,
    grid: StockGrid = STOCK_GRID,
    copies: int = 100,
    num_days: int = 2_000,
) -> WideArray:
    """Learn by Q-learning.

    Parameters
    ----------
    settings
        How; the seed is that of the days too.
    grid
        The states of a garment.
    copies, num_days
        Shops side by side, and days that each of them lives through.

    Returns
    -------
    Values of each garment, state and order, (S, X, A): discounted reward to come.
    """
    task = make_garment_task(reward=reward, copies=copies, seed=settings.seed, grid=grid)
    table, _curve = learn_table(task, settings=settings, num_periods=num_days)
    return table.value_XA.reshape(len(GARMENTS), grid.num_states, len(ORDER_QTY))


def make_garment_policy(value_SXA: WideArray, *, copies: int = 1, grid: StockGrid = STOCK_GRID) -> TablePolicy:
    """The greedy policy of a learned table, for rows that are copies of the ten garments."""
    return TablePolicy(
        grid=grid,
        order_A=order_A(),
        action_GX=value_SXA.argmax(axis=2),
        table_S=np.tile(np.arange(len(GARMENTS)), copies),
    )


def make_garment_days(*, copies: int, num_days: int, seed: int) -> ReplayScenario:
    """Days of several shops to judge policies on; the forecast knows the law of each garment."""
    rows = np.tile(np.arange(len(GARMENTS)), copies)
    levels_Q = np.array([0.1, 0.5, 0.9], dtype=np.float32)
    forecast = forecast_of_laws([garment.law for garment in GARMENTS], horizon=LEAD_TIME + 1, levels_Q=levels_Q)
    return make_law_scenario(
        [GARMENTS[row].law for row in rows],
        garment_terms().take(rows),
        num_periods=num_days,
        forecast=forecast.take(rows),
        seed=seed,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GarmentScore:
    """What a policy did, per garment and day.

    Money is in account currency; ``stock`` is on the shelf at night and ``ordered`` in the morning, units. The
    ``fill_rate`` is the share of all demand that was served, ``tiered_reward`` what the tiered reward would have paid.
    """

    cost: float
    holding_cost: float
    lost_sale_cost: float
    fill_rate: float
    stock: float
    ordered: float
    tiered_reward: float


def judge_garments(policy: Policy, days: ReplayScenario) -> GarmentScore:
    """Replay a policy, and pay its orders by the tiered reward beside."""
    paid = _Paid(policy=policy)
    result = replay(paid, days)
    count = days.num_rows * days.num_periods
    return GarmentScore(
        cost=float(result.cost_S.sum()) / count,
        holding_cost=float(result.holding_cost_S.sum()) / count,
        lost_sale_cost=float(result.lost_sale_cost_S.sum()) / count,
        fill_rate=result.fill_rate,
        stock=float(result.on_hand_T.sum()) / count,
        ordered=float(result.ordered_S.sum()) / count,
        tiered_reward=float(np.mean(paid.rewards)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Paid:
    """A policy that notes what the tiered reward pays for its orders."""

    policy: Policy
    rewards: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.policy.name

    def order_quantity_S(self, state: InventoryState, forecast: Forecast, terms: SupplyTerms) -> FloatArray:
        order_S = self.policy.order_quantity_S(state, forecast, terms)
        reward_S = tiered_reward_N(
            state.inventory_position_S,
            order_N=order_S,
            mean_demand_N=terms.mean_demand_S,
            lead_time_N=terms.lead_time_S,
            review_period_N=terms.review_period_S,
        )
        self.rewards.append(float(reward_S.mean()))
        return order_S


def _each(name: str) -> FloatArray:
    return np.array([getattr(garment, name) for garment in GARMENTS], dtype=np.float32)
