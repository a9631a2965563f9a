"""One peer's simulator on the benchmark's instance: ``python -m benchmarks.peers.simulator NAME``, one JSON row.

Lost sales (backorders where a peer knows nothing else), lead time 4, holding cost 1, penalty 4, Poisson(5) demand,
order-up-to level 28. Each runs the way its own documentation runs it, one process, one thread.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt

LEAD_TIME, HOLDING, PENALTY, MEAN, LEVEL = 4, 1.0, 4.0, 5.0, 28.0

Run = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """How to run a peer: ``make(num_periods, seed)`` gives a function that simulates once and returns the mean cost.

    ``has_given_demand``: it steps through ``drawdraw_demand(num_periods, seed)``, so that its cost can be checked.
    """

    make: Callable[[int, int], Run]
    num_periods: int
    includes: str
    has_given_demand: bool = False


def main() -> int:
    """Exit with 3 if the peer cannot be imported here; the reason is in the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(PEERS))
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    peer = PEERS[arguments.name]
    try:
        run = peer.make(peer.num_periods, arguments.seed)
    except (ImportError, AttributeError) as error:
        # An AttributeError at import is a package that asks NumPy 2 for what only NumPy 1 had.
        print(json.dumps({"system": arguments.name, "skipped": f"{type(error).__name__}: {error}"}))
        return 3
    seconds, cost = [], 0.0
    run()
    for _ in range(arguments.passes):
        started = time.process_time()
        cost = run()
        seconds.append(time.process_time() - started)
    median = statistics.median(seconds)
    row = {
        "system": f"{arguments.name} {version(arguments.name)}",
        "series_days_per_cpu_second": peer.num_periods / median,
        "cpu_seconds": median,
        "cost": cost,
        "includes": peer.includes,
    }
    print(json.dumps(row))
    return 0


def draw_demand(num_periods: int, seed: int) -> npt.NDArray[np.int64]:
    """Demand of one series."""
    return np.random.default_rng(seed).poisson(MEAN, num_periods)


def _make_stockpyl(num_periods: int, seed: int) -> Run:
    from stockpyl.sim import simulation
    from stockpyl.supply_chain_network import single_stage_system

    network = single_stage_system(
        local_holding_cost=HOLDING,
        stockout_cost=PENALTY,
        demand_type="P",
        mean=MEAN,
        policy_type="BS",
        base_stock_level=LEVEL,
        shipment_lead_time=LEAD_TIME,
    )
    return lambda: float(simulation(network, num_periods, rand_seed=seed, progress_bar=False)) / num_periods


_TOPOLOGY = f"""
name: one stage
nodes:
  - {{id: 0}}
  - {{id: 1, I0: 8, h: {HOLDING}}}
  - {{id: 2}}
edges:
  - {{from: 1, to: 0, p: 0.0, b: {PENALTY}, demand_dist: poisson, dist_param: {{mu: {MEAN}}}}}
  - {{from: 2, to: 1, L: {LEAD_TIME}, p: 0.0, g: 0.0}}
"""


def _make_gym_invmgmt(num_periods: int, seed: int) -> Run:
    from gym_invmgmt import make_custom_env

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one_stage.yaml"
        path.write_text(_TOPOLOGY)
        env = make_custom_env(
            str(path), num_periods=num_periods, backlog=False, user_D={(1, 0): draw_demand(num_periods, seed)}
        )

    def run() -> float:
        state, _ = env.reset(seed=seed)
        reward, is_over = 0.0, False
        while not is_over:
            # Demand, backlog, on hand, pipeline, two features that tell nothing here.
            state, gain, _, is_over, _ = env.step(np.array([max(LEVEL - state[2:-2].sum(), 0.0)]))
            reward += gain
        return -reward / num_periods

    return run


def _make_or_gym(num_periods: int, seed: int) -> Run:
    from or_gym.envs.supply_chain.inventory_management import InvManagementLostSalesEnv

    env = InvManagementLostSalesEnv(
        periods=num_periods,
        I0=[8],
        p=0,
        r=[0, 0],
        k=[PENALTY, 0],
        h=[HOLDING],
        c=[1_000_000],
        L=[LEAD_TIME],
        dist=5,
        user_D=draw_demand(num_periods, seed),
        alpha=1.0,
    )

    def run() -> float:
        state = env.reset()
        reward, is_over = 0.0, False
        while not is_over:
            # On hand before this period's receipt, then the orders of the last L periods.
            state, gain, is_over, _ = env.step(np.array([max(LEVEL - state.sum(), 0.0)]))
            reward += gain
        return -float(reward) / num_periods

    return run


def _make_dynaplex(num_periods: int, seed: int) -> Run:
    from dynaplex import DiscreteDist, PolicyComparer
    from dynaplex.models.lost_sales import BaseStockPolicy, LostSalesMDP

    mdp = LostSalesMDP(
        p=PENALTY,
        h=HOLDING,
        leadtime=LEAD_TIME,
        demand_dist=DiscreteDist.poisson(MEAN),
        bound_order_size_to_max_system_inv=True,
    )
    horizon = 1_000
    comparer = PolicyComparer(
        mdp,
        number_of_trajectories=num_periods // horizon,
        warmup_time=0,
        horizon=horizon,
        seed=seed,
        workers=1,
        checks=False,
    )
    policy = BaseStockPolicy(mdp, base_stock_level=int(LEVEL))
    return lambda: float(comparer.assess(policy).mean)


PEERS = {
    "stockpyl": Peer(
        make=_make_stockpyl, num_periods=1_000, includes="demand drawn, policy; backorders: it has no lost sales"
    ),
    "gym-invmgmt": Peer(
        make=_make_gym_invmgmt, num_periods=5_000, includes="observation, policy", has_given_demand=True
    ),
    "or-gym": Peer(make=_make_or_gym, num_periods=5_000, includes="observation, policy", has_given_demand=True),
    "dynaplex": Peer(
        make=_make_dynaplex, num_periods=4_000_000, includes="demand drawn, policy; compiled; no observation"
    ),
}


if __name__ == "__main__":
    sys.exit(main())
