"""Wishes of many categories: their learned policies asked together as stacked tensors, and one after another.

CPU time of one question about all series, as the replica of the policies is asked by a plan. Categories have about the
same number of series, and networks of the default size with weights drawn at random: they cost what trained ones do.
``one graph`` has a single policy answer for all series, which is the least that it could cost. Few categories are asked
one after another either way.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.frame import make_parser, make_target, report
from forecasting.forecast import Forecast
from rl.actors import GreedyActor
from rl.export import export_policy
from rl.inventory import CostRates, InventoryState, SupplyTerms
from rl.network import OBSERVATION_NAMES, make_mlp
from rl.observation import ActionGrid
from rl.ordering import ask_policies
from rl.policies.exported import ExportedPolicy
from rl.policies.protocol import JointPolicies
from rl.policies.stacks import LEAST_POLICIES, make_stacks

Row = dict[str, Any]

_HORIZON, _PIPELINE = 28, 8
_LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99)


def main() -> None:
    """Ask about larger and larger plans of more and more categories."""
    arguments = _parse()
    torch.set_num_threads(1)
    policies = [_drawn_policy(seed, hidden=arguments.hidden) for seed in range(max(arguments.categories))]
    rows = [
        _measure(policies[:count], num_series, arguments=arguments)
        for count in arguments.categories
        for num_series in arguments.series
    ]
    report("policy_stack", rows, targets=_targets(rows), arguments=arguments)


def _parse() -> argparse.Namespace:
    parser = make_parser(__doc__ or "")
    parser.add_argument("--categories", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--series", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--hidden", type=int, default=64, help="units of the hidden layers")
    parser.add_argument("--times", type=int, default=15, help="questions, of which the median is told")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.categories, arguments.series, arguments.times = [1, 10, 20], [100, 1_000], 5
    return arguments


def _measure(policies: Sequence[ExportedPolicy], num_series: int, *, arguments: argparse.Namespace) -> Row:
    rng = np.random.default_rng(arguments.seed)
    case = _draw_case(rng, num_series)
    own = [policies[category] for category in rng.integers(0, len(policies), num_series)]
    stacks = make_stacks(policies)
    alone_S, together_S = _ask(own, case, ()), _ask(own, case, stacks)
    return {
        "categories": len(policies),
        "series": num_series,
        "stacked_cpu_ms": _cpu_ms(lambda: _ask(own, case, stacks), times=arguments.times),
        "one_by_one_cpu_ms": _cpu_ms(lambda: _ask(own, case, ()), times=arguments.times),
        "one_graph_cpu_ms": _cpu_ms(lambda: _ask(policies[:1] * num_series, case, ()), times=arguments.times),
        "largest_difference_qty": float(np.abs(alone_S - together_S).max()),
    }


def _ask(
    own: Sequence[ExportedPolicy],
    case: tuple[InventoryState, Forecast, SupplyTerms],
    stacks: Sequence[JointPolicies],
) -> np.ndarray[Any, Any]:
    state, forecast, terms = case
    return ask_policies(own, state=state, forecast=forecast, terms=terms, stacks=stacks).wish_S


def _cpu_ms(ask: Callable[[], object], *, times: int) -> float:
    spent = []
    for _ in range(times):
        began_s = time.process_time()
        ask()
        spent.append(time.process_time() - began_s)
    return round(1e3 * float(np.median(spent)), 2)


def _targets(rows: Sequence[Row]) -> list[Row]:
    return [
        make_target(
            f"{row['categories']} categories, {row['series']} series: CPU time stacked over one by one",
            value=round(row["stacked_cpu_ms"] / row["one_by_one_cpu_ms"], 2),
            target=1.1,
            at_least=False,
        )
        for row in rows
        if row["categories"] >= LEAST_POLICIES
    ]


def _drawn_policy(seed: int, *, hidden: int) -> ExportedPolicy:
    grid = ActionGrid(anchor_score=1.5 + seed / 100)
    torch.manual_seed(seed)
    network = make_mlp(len(OBSERVATION_NAMES), hidden=hidden, num_outputs=grid.num_actions, output_gain=3.0)
    return export_policy(GreedyActor(network), grid=grid, name="dqn")


def _draw_case(rng: np.random.Generator, num_series: int) -> tuple[InventoryState, Forecast, SupplyTerms]:
    mean_SH = rng.lognormal(0.5, 1.0, (num_series, 1)) * rng.uniform(0.6, 1.4, (num_series, _HORIZON))
    levels_Q = np.array(_LEVELS, dtype=np.float32)
    spread_Q = np.linspace(-1.5, 2.5, len(levels_Q))
    total_SH = mean_SH.cumsum(axis=1)
    quantile_SHQ = [np.maximum(m[..., None] + spread_Q * np.sqrt(m)[..., None], 0) for m in (mean_SH, total_SH)]
    forecast = Forecast(
        levels_Q=levels_Q,
        mean_SH=mean_SH.astype(np.float32),
        marginal_SHQ=quantile_SHQ[0].astype(np.float32),
        cumulative_SHQ=quantile_SHQ[1].astype(np.float32),
    )
    none_S, one_S = np.zeros(num_series, dtype=np.float32), np.ones(num_series, dtype=np.float32)
    state = InventoryState(
        on_hand_S=rng.integers(0, 40, num_series).astype(np.float32),
        on_order_SL=rng.integers(0, 9, (num_series, _PIPELINE)).astype(np.float32),
        backorder_S=none_S,
        reserved_S=none_S,
    )
    terms = SupplyTerms(
        lead_time_S=rng.integers(1, 8, num_series),
        review_period_S=rng.integers(1, 8, num_series),
        review_phase_S=np.zeros(num_series, dtype=np.int64),
        min_order_qty_S=none_S,
        pack_size_S=one_S,
        order_cap_S=np.full(num_series, np.inf, dtype=np.float32),
        storage_capacity_S=np.full(num_series, np.inf, dtype=np.float32),
        mean_demand_S=mean_SH.mean(axis=1).astype(np.float32),
        costs=CostRates(
            holding_S=one_S * 0.02,
            lost_sale_S=one_S * 2,
            fixed_order_S=one_S,
            unit_cost_S=one_S * 5,
        ),
    )
    return state, forecast, terms


if __name__ == "__main__":
    main()
