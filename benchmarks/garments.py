"""What two rewards teach about ten garments: the tiered one of introductions, and money.

Tabular Q-learning and DQN (RLlib, this process) learn to order 5, 10 or 20 units a day from each reward; all are judged
on the same held-out days by the same money, beside an order-up-to rule tuned on other days and the exact optimum of the
three orders. ``docs/garments.md`` explains the shop.

Shapes: S garments (or rows: copies of them), A orders, X units on the shelf.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

import numpy as np

from benchmarks.frame import make_parser, make_target, report
from cluster.config import RuntimeSettings
from cluster.runtime import connect
from forecasting.forecast import Forecast
from rl.evaluate import replay
from rl.exact import LostSalesProblem
from rl.garments import (
    EXAMPLE,
    FALLING_RATE,
    FINE_GRID,
    GARMENTS,
    LEAD_TIME,
    STOCK_GRID,
    Garment,
    judge_garments,
    learn_garment_table,
    make_garment_days,
    make_garment_policy,
    order_A,
)
from rl.inventory import FloatArray, IntArray, InventoryState, SupplyTerms
from rl.policies.protocol import Policy
from rl.policies.q_learning import QSettings, StockGrid, TablePolicy
from rl.rewards import RewardMode
from rl.scenarios import ReplayScenario

ResultT = TypeVar("ResultT")

REWARDS: tuple[RewardMode, ...] = ("tiered", "cost")
_NUM_GARMENTS = len(GARMENTS)
_LEVELS = range(5, 81)
_MOST = 120
_TUNING_SEED, _TEST_SEED = 1_000, 2_000


def main() -> None:
    """Learn from both rewards with both learners, and judge by money."""
    arguments = _parse()
    copies = 20 if arguments.quick else 100
    test = make_garment_days(copies=copies, num_days=365, seed=_TEST_SEED + arguments.seed)
    tuning = make_garment_days(copies=20, num_days=365, seed=_TUNING_SEED + arguments.seed)
    rows = [
        judge(_optimum(copies), test, system="exact optimum, three orders"),
        judge(_tuned(tuning, copies=copies, orders_A=None), test, system="order-up-to, any quantity"),
        judge(_tuned(tuning, copies=copies, orders_A=order_A()), test, system="order-up-to, three orders"),
    ]
    seeds = range(arguments.seed, arguments.seed + (1 if arguments.quick else arguments.num_seeds))
    for reward in REWARDS:
        rows += [_table_row(test, reward=reward, settings=replace(EXAMPLE, seed=seed)) for seed in seeds]
    for grid, num_days in ((STOCK_GRID, 2_000), (FINE_GRID, 4_000)):
        for seed in seeds:
            settings = replace(FALLING_RATE, seed=seed)
            rows.append(_table_row(test, reward="cost", settings=settings, grid=grid, num_days=num_days))
    with connect(RuntimeSettings(num_cpus=1)):
        for reward in REWARDS:
            rows += [_network_row(test, reward=reward, seed=seed) for seed in seeds]
    report("garments", rows, targets=_targets(rows), arguments=arguments)


def _parse() -> argparse.Namespace:
    parser = make_parser(__doc__ or "")
    parser.add_argument("--num-seeds", type=int, default=5, help="seeds per learner and reward; 1 with --quick")
    return parser.parse_args()


def judge(policy: Policy, days: ReplayScenario, *, system: str, **facts: object) -> dict[str, object]:
    """One row of the table; money, units and reward are per garment and day."""
    return {"system": system, **facts, **asdict(judge_garments(policy, days))}


def _table_row(
    days: ReplayScenario,
    *,
    reward: RewardMode,
    settings: QSettings,
    grid: StockGrid = STOCK_GRID,
    num_days: int = 2_000,
) -> dict[str, object]:
    value_SXA, seconds = _timed(
        lambda: learn_garment_table(reward=reward, settings=settings, grid=grid, num_days=num_days)
    )
    policy = make_garment_policy(value_SXA, copies=days.num_rows // _NUM_GARMENTS, grid=grid)
    system = f"Q-learning, {reward}" + (f", falling rate, cells of {grid.width}" if settings.visit_power else "")
    return judge(policy, days, system=system, seed=settings.seed) | {"cpu_seconds": seconds}


def _network_row(days: ReplayScenario, *, reward: RewardMode, seed: int) -> dict[str, object]:
    # Loads RLlib, which wants the environment that connect() sets.
    from rl.garments_dqn import GarmentNetworkPolicy, learn_garments

    scorer, seconds = _timed(lambda: learn_garments(reward=reward, seed=seed))
    garment_S = np.tile(np.arange(_NUM_GARMENTS), days.num_rows // _NUM_GARMENTS)
    policy = GarmentNetworkPolicy(scorer=scorer, garment_S=garment_S)
    return judge(policy, days, system=f"DQN, {reward}", seed=seed) | {"cpu_seconds": seconds}


def _timed(run: Callable[[], ResultT]) -> tuple[ResultT, float]:
    started = time.process_time()
    return run(), time.process_time() - started


@dataclass(frozen=True, slots=True, kw_only=True)
class _OrderUpTo:
    """Orders up to a level; where only some orders are allowed, the nearest of them."""

    level_S: FloatArray
    orders_A: FloatArray | None
    name: str = "order_up_to"

    def order_quantity_S(self, state: InventoryState, forecast: Forecast, terms: SupplyTerms) -> FloatArray:
        wish_S = np.maximum(self.level_S - state.inventory_position_S, 0).astype(np.float32)
        if self.orders_A is None:
            return wish_S
        return self.orders_A[np.abs(wish_S[:, None] - self.orders_A).argmin(axis=1)]


def _tuned(tuning: ReplayScenario, *, copies: int, orders_A: FloatArray | None) -> Policy:
    """Order-up-to with the cheapest level of each garment on the tuning days."""
    costs = []
    for level in _LEVELS:
        level_S = np.full(tuning.num_rows, level, dtype=np.float32)
        result = replay(_OrderUpTo(level_S=level_S, orders_A=orders_A), tuning)
        costs.append(result.cost_S.reshape(-1, _NUM_GARMENTS).sum(axis=0))
    level_S = np.array(_LEVELS, dtype=np.float32)[np.argmin(costs, axis=0)]
    return _OrderUpTo(level_S=np.tile(level_S, copies), orders_A=orders_A)


def _optimum(copies: int) -> Policy:
    """The least average cost that the three orders allow, by value iteration over every unit of stock."""
    return TablePolicy(
        grid=StockGrid(num_cells=(_MOST + 1,)),
        order_A=order_A(),
        action_GX=np.stack([_best_action_X(garment) for garment in GARMENTS]),
        table_S=np.tile(np.arange(_NUM_GARMENTS), copies),
        name="optimum",
    )


def _best_action_X(garment: Garment) -> IntArray:
    problem = LostSalesProblem(law=garment.law, lead_time=LEAD_TIME, penalty=garment.lost_sale, holding=garment.holding)
    cost_X, remaining_XX = problem.period_cost_X(_MOST), problem.remaining_XX(_MOST)
    next_XA = np.minimum(np.arange(_MOST + 1)[:, None] + order_A().astype(np.int64), _MOST)
    value_X = np.zeros(_MOST + 1)
    for _iteration in range(2_000):
        option_XA = remaining_XX @ value_X[next_XA]
        value_X = cost_X + option_XA.min(axis=1)
        value_X -= value_X[0]
    return option_XA.argmin(axis=1)


def _targets(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    best = float(str(rows[0]["cost"]))
    targets = []
    for learner in ("Q-learning", "DQN"):
        cost = {
            reward: np.array([row["cost"] for row in rows if row["system"] == f"{learner}, {reward}"], dtype=float)
            for reward in REWARDS
        }
        targets += [
            make_target(
                f"{learner}: mean cost from money, over the optimum's",
                value=float(cost["cost"].mean()) / best,
                target=1.1,
                at_least=False,
            ),
            make_target(
                f"{learner}: least cost from the tiered reward, over the dearest from money",
                value=float(cost["tiered"].min() / cost["cost"].max()),
                target=2.0,
                at_least=True,
            ),
        ]
    return targets


if __name__ == "__main__":
    main()
