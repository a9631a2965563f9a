"""Series-days per CPU-second of the simulator, beside bare NumPy and every peer on PyPI, in one run.

Lost sales, lead time 4, holding cost 1, penalty 4, Poisson(5) demand, a base-stock rule of level 28, one thread.
Restock and bare NumPy step rows in blocks that fit a core's cache, demand drawn beforehand unless a row says otherwise;
peers step one series, each the way it is made for. Figures are medians of several passes after one to warm up. Where a
peer takes demand that is given, Restock's cost on the same demand stands beside its own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.frame import make_parser, make_target, report
from benchmarks.peers.simulator import HOLDING, LEAD_TIME, LEVEL, MEAN, PEERS, PENALTY, draw_demand
from rl.inventory import CostRates, FloatArray, InventoryState
from rl.simulator import Simulator

_ROWS, _PERIODS = 8_192, 60
_GPU_ROWS = 1_048_576
_TARGET = 30e6
_PEER_TIMEOUT_S = 120


def main() -> None:
    """Measure all systems in one run."""
    parser = make_parser(__doc__ or "")
    parser.add_argument(
        "--peer-python",
        action="append",
        default=[],
        metavar="PATH",
        help="an interpreter that has peers which cannot be installed beside Restock; may be given several times",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        *_own_rows(arguments),
        _gpu_row(arguments),
        *(_peer_row(name, arguments) for name in PEERS),
        {"system": "HDPO", "skipped": "its simulator is not on PyPI"},
    ]
    ours = float(rows[0]["series_days_per_cpu_second"])
    for row in rows:
        if "series_days_per_cpu_second" in row:
            row["restock_numpy_is_times_faster"] = ours / row["series_days_per_cpu_second"]
    targets = [make_target("series-days per CPU-second", value=ours, target=_TARGET, at_least=True)]
    gaps = [abs(row["cost"] - row["restock_cost"]) for row in rows if "restock_cost" in row]
    if gaps:
        what = "largest difference in cost from a peer on the same demand"
        targets.append(make_target(what, value=max(gaps), target=1e-4, at_least=False))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    report("simulator", rows, targets=targets, arguments=arguments, device=device)


def _own_rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    num_blocks, passes = (4, 3) if arguments.quick else (20, 7)
    random = np.random.default_rng(arguments.seed)
    demand_BTN = random.poisson(MEAN, (num_blocks, _PERIODS, _ROWS)).astype(np.float32)
    lead_time_TN = random.integers(1, 2 * LEAD_TIME, (_PERIODS, _ROWS))
    demand_tensors = torch.from_numpy(demand_BTN)

    def crossing() -> float:
        return _mean([run_restock(demand_TN, lead_time_TN=lead_time_TN) for demand_TN in demand_BTN])

    def drawn() -> float:
        random = np.random.default_rng(arguments.seed)
        shape = (_PERIODS, _ROWS)
        return _mean([run_restock(random.poisson(MEAN, shape).astype(np.float32)) for _ in range(num_blocks)])

    def without_gradients() -> float:
        with torch.inference_mode():
            return _mean([run_restock(demand_TN) for demand_TN in demand_tensors])

    def with_gradients() -> float:
        return _mean([_run_backwards(demand_TN) for demand_TN in demand_tensors])

    systems: list[tuple[str, Callable[[], float], str]] = [
        ("restock, NumPy", lambda: _mean([run_restock(block) for block in demand_BTN]), "observation, policy"),
        ("restock, NumPy, lead times 1..7 that cross", crossing, "observation, policy"),
        ("restock, NumPy, demand drawn as it goes", drawn, "demand drawn, observation, policy"),
        ("restock, torch", without_gradients, "observation, policy"),
        ("restock, torch, gradients", with_gradients, "observation, policy, backward pass to a level per row"),
        ("bare NumPy", lambda: _mean([_run_bare(block) for block in demand_BTN]), "policy; no observation"),
    ]
    return [
        _row(system, run, size=demand_BTN.size, passes=passes) | {"includes": includes}
        for system, run, includes in systems
    ]


def _gpu_row(arguments: argparse.Namespace) -> dict[str, Any]:
    system = "restock, torch on a GPU"
    if not torch.cuda.is_available():
        return {"system": system, "skipped": "no CUDA device"}
    torch.manual_seed(arguments.seed)
    demand_TN = torch.poisson(torch.full((_PERIODS, _GPU_ROWS), MEAN, device="cuda"))

    def run() -> float:
        with torch.inference_mode():
            return run_restock(demand_TN)  # its last line waits for the device

    row = _row(system, run, size=demand_TN.numel(), passes=3, clock=time.perf_counter)
    rate = row.pop("series_days_per_cpu_second")
    return row | {"series_days_per_second": rate, "includes": "observation, policy; wall-clock time"}


def _row(
    system: str, run: Callable[[], float], *, size: int, passes: int, clock: Callable[[], float] = time.process_time
) -> dict[str, Any]:
    run()  # the first pass pays for memory and caches
    seconds, cost = [], 0.0
    for _ in range(passes):
        started = clock()
        cost = run()
        seconds.append(clock() - started)
    median = statistics.median(seconds)
    return {
        "system": system,
        "series_days_per_cpu_second": size / median,
        "cpu_seconds": median,
        "cost": cost,
    }


def _mean(costs: list[float]) -> float:
    return sum(costs) / len(costs)


def _start(num_rows: int) -> tuple[InventoryState, CostRates]:
    """Close to where the rule settles: what it holds in the mean is on hand, the rest on order."""
    ones_N = np.ones(num_rows, dtype=np.float32)
    on_order_NL = np.full((num_rows, LEAD_TIME), MEAN, dtype=np.float32)
    on_order_NL[:, -1] = 0
    state = InventoryState(on_hand_S=8 * ones_N, on_order_SL=on_order_NL, backorder_S=0 * ones_N, reserved_S=0 * ones_N)
    costs = CostRates(
        holding_S=HOLDING * ones_N, lost_sale_S=PENALTY * ones_N, fixed_order_S=0 * ones_N, unit_cost_S=ones_N
    )
    return state, costs


def _as_tensors(value: Any, device: torch.device) -> Any:
    fields = {name: getattr(value, name) for name in type(value).__dataclass_fields__}
    return type(value)(**{name: torch.from_numpy(a).to(device) for name, a in fields.items() if a is not None})


def _total_cost_N(demand_TN: Any, *, level: Any, lead_time_TN: Any = None, start: Any = None) -> Any:
    """The same loop for arrays and tensors."""
    opening, costs = _start(demand_TN.shape[1])
    opening = start or opening
    if isinstance(demand_TN, Tensor):
        opening, costs = _as_tensors(opening, demand_TN.device), _as_tensors(costs, demand_TN.device)
    longest = LEAD_TIME if lead_time_TN is None else int(lead_time_TN.max())
    simulator = Simulator(opening, costs=costs, max_lead_time=longest)
    total_N = 0
    for period, demand_N in enumerate(demand_TN):
        order_N = (level - simulator.observe().inventory_position_S).clip(min=0)
        lead_time_N = LEAD_TIME if lead_time_TN is None else lead_time_TN[period]
        total_N = total_N + simulator.step(order_N, demand_N=demand_N, lead_time_N=lead_time_N).cost_N
    return total_N


def run_restock(demand_TN: Any, *, lead_time_TN: Any = None, start: Any = None) -> float:
    """Mean cost per row and period of the base-stock rule, on arrays or tensors of any device."""
    total_N = _total_cost_N(demand_TN, level=LEVEL, lead_time_TN=lead_time_TN, start=start)
    return float(total_N.mean()) / len(demand_TN)


def _run_backwards(demand_TN: Tensor) -> float:
    level_N = torch.full((demand_TN.shape[1],), LEVEL, requires_grad=True)
    cost = _total_cost_N(demand_TN, level=level_N).mean() / len(demand_TN)
    cost.backward()
    return float(cost.detach())


def _run_bare(demand_TN: FloatArray) -> float:
    """As few passes over memory as NumPy needs: in place, a ring of orders, the position carried along."""
    state, costs = _start(demand_TN.shape[1])
    on_hand_N, ring_LN = state.on_hand_S, np.ascontiguousarray(state.on_order_SL.T)
    position_N, total_N, spare_N = state.inventory_position_S, np.zeros_like(on_hand_N), np.empty_like(on_hand_N)
    for period, demand_N in enumerate(demand_TN):
        order_N = ring_LN[(period - 1) % LEAD_TIME]  # its last content has arrived
        np.maximum(np.subtract(LEVEL, position_N, out=order_N), 0, out=order_N)
        sold_N = np.minimum(on_hand_N, demand_N)
        on_hand_N -= sold_N
        total_N += np.multiply(costs.holding_S, on_hand_N, out=spare_N)
        np.subtract(demand_N, sold_N, out=spare_N)
        total_N += np.multiply(costs.lost_sale_S, spare_N, out=spare_N)
        position_N += np.subtract(order_N, sold_N, out=spare_N)
        on_hand_N += ring_LN[period % LEAD_TIME]
    return float(total_N.mean()) / len(demand_TN)


def _peer_row(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The peer's row from the first interpreter that can import it, ours or one that was given."""
    row: dict[str, Any] = {}
    for python in (sys.executable, *arguments.peer_python):
        command = [python, "-W", "ignore", "-m", "benchmarks.peers.simulator", name, "--seed", str(arguments.seed)]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=_PEER_TIMEOUT_S,
                cwd=Path(__file__).parents[1],
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            row = json.loads(done.stdout.splitlines()[-1])
        except (OSError, subprocess.TimeoutExpired, IndexError, ValueError) as error:
            row = {"system": name, "skipped": f"{python}: {type(error).__name__}"}
        if "skipped" not in row:
            if PEERS[name].has_given_demand:
                row["restock_cost"] = _cost_on_given_demand(name, arguments.seed)
            return row
    return row


def _cost_on_given_demand(name: str, seed: int) -> float:
    """Restock's cost of the series that the peer was given: 8 units on hand, nothing on order."""
    demand_T1 = draw_demand(PEERS[name].num_periods, seed).astype(np.float32)[:, None]
    state, _ = _start(1)
    return run_restock(demand_T1, start=replace(state, on_order_SL=0 * state.on_order_SL))


if __name__ == "__main__":
    main()
