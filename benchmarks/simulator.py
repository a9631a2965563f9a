"""Series-days per CPU-second of the simulator, beside bare NumPy and stockpyl doing the same periods.

Each system runs lost sales at a lead time of 4 periods under a base-stock rule, demand drawn beforehand. Ours includes
the observation that a policy reads and the account of every period.
"""

import time
from collections.abc import Callable

import numpy as np

from benchmarks.frame import make_parser, make_target, report
from rl.inventory import CostRates, InventoryState
from rl.simulator import Simulator

_LEAD_TIME = 4
_LEVEL = 28.0
_TARGET = 30e6


def main() -> None:
    """Measure all systems in one run."""
    arguments = make_parser(__doc__ or "").parse_args()
    num_rows, num_periods = (20_000, 50) if arguments.quick else (50_000, 200)
    demand_TN = np.random.default_rng(arguments.seed).poisson(5, size=(num_periods, num_rows)).astype(np.float32)
    rows = [
        _row("restock", lambda: _run_restock(demand_TN), size=demand_TN.size),
        _row("bare numpy, no observation", lambda: _run_bare(demand_TN), size=demand_TN.size),
        _stockpyl_row(demand_TN),
    ]
    ours = float(rows[0]["series_days_per_cpu_second"])
    target = make_target("series-days per CPU-second", value=ours, target=_TARGET, at_least=True)
    report("simulator", rows, targets=[target], arguments=arguments)


def _row(system: str, run: Callable[[], float], *, size: int) -> dict[str, object]:
    run()  # the first pass pays for memory and caches
    started = time.process_time()
    cost = run()
    seconds = time.process_time() - started
    return {"system": system, "series_days_per_cpu_second": size / seconds, "cpu_seconds": seconds, "cost": cost}


def _run_restock(demand_TN: np.ndarray) -> float:
    num_rows = demand_TN.shape[1]
    ones_N = np.ones(num_rows, dtype=np.float32)
    zeros_N = np.zeros(num_rows, dtype=np.float32)
    start = InventoryState(
        on_hand_S=ones_N * _LEVEL,
        on_order_SL=np.zeros((num_rows, _LEAD_TIME), dtype=np.float32),
        backorder_S=zeros_N,
        reserved_S=zeros_N,
    )
    costs = CostRates(holding_S=ones_N, lost_sale_S=ones_N * 4, fixed_order_S=zeros_N, unit_cost_S=ones_N)
    simulator = Simulator(start, costs=costs, max_lead_time=_LEAD_TIME)
    lead_time_N = np.full(num_rows, _LEAD_TIME)
    cost = 0.0
    for demand_N in demand_TN:
        order_N = np.maximum(np.float32(_LEVEL) - simulator.observe().inventory_position_S, 0)
        cost += float(simulator.step(order_N, demand_N=demand_N, lead_time_N=lead_time_N).cost_N.sum())
    return cost / demand_TN.size


def _run_bare(demand_TN: np.ndarray) -> float:
    num_rows = demand_TN.shape[1]
    on_hand_N = np.full(num_rows, _LEVEL, dtype=np.float32)
    pipeline_LN = np.zeros((_LEAD_TIME, num_rows), dtype=np.float32)
    position_N = on_hand_N.copy()
    cost = 0.0
    for period, demand_N in enumerate(demand_TN):
        order_N = np.maximum(np.float32(_LEVEL) - position_N, 0)
        sold_N = np.minimum(on_hand_N, demand_N)
        on_hand_N -= sold_N
        cost += float(on_hand_N.sum() + 4 * (demand_N - sold_N).sum())
        position_N += order_N - sold_N
        slot = period % _LEAD_TIME
        # The next slot holds what was ordered L - 1 periods ago: it is on the shelf when the next period starts.
        pipeline_LN[slot], arriving_N = order_N, pipeline_LN[(slot + 1) % _LEAD_TIME].copy()
        on_hand_N += arriving_N
        pipeline_LN[(slot + 1) % _LEAD_TIME] = 0
    return cost / demand_TN.size


def _stockpyl_row(demand_TN: np.ndarray) -> dict[str, object]:
    try:
        from stockpyl.sim import simulation
        from stockpyl.supply_chain_network import single_stage_system
    except ImportError:
        return {"system": "stockpyl", "skipped": "not installed"}
    num_periods = 2_000
    network = single_stage_system(
        local_holding_cost=1,
        stockout_cost=4,
        demand_type="P",
        mean=5,
        policy_type="BS",
        base_stock_level=_LEVEL,
        shipment_lead_time=_LEAD_TIME,
    )
    started = time.process_time()
    total = simulation(network, num_periods, rand_seed=0, progress_bar=False)
    seconds = time.process_time() - started
    return {
        "system": "stockpyl (backorders)",
        "series_days_per_cpu_second": num_periods / seconds,
        "cpu_seconds": seconds,
        "cost": float(total) / num_periods,
    }


if __name__ == "__main__":
    main()
