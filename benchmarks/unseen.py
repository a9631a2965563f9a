"""One policy for many instances: trained once on a spread of lost-sales instances, judged exactly on others.

It is trained on Poisson, geometric and negative-binomial demand with means of 3, 5 and 8, penalties of 3 to 50 and lead
times of 1 to 4, and judged on the 32 standard instances (penalties 4, 9, 19, 39), none of which is among them. It
sees an instance's lead time, costs and demand quantiles, scaled, as it sees any product's.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.frame import make_parser, make_target, report
from benchmarks.instances import INSTANCE_SETTINGS, make_job, orders_of, train
from cluster.config import RuntimeSettings
from cluster.progress import track
from cluster.runtime import connect
from cluster.settings.models import PolicySettings
from rl.demand import DemandLaw
from rl.exact import LostSalesProblem, judge, solve
from rl.exact_rules import best_base_stock
from rl.policies.exported import ExportedPolicy

_SETTINGS = INSTANCE_SETTINGS | {
    "hidden": 128,
    "num_rows": 1_024,
    "budget_steps_direct": 12_000_000,
    "budget_steps_ppo": 5_000_000,
    "budget_steps_dqn": 3_000_000,
}


def main() -> None:
    """Train one policy and judge it where it has not been."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--algorithm", choices=["direct", "ppo", "dqn"], default="direct")
    arguments = parser.parse_args()
    settings = PolicySettings(**_SETTINGS)
    if arguments.quick:
        settings = settings.model_copy(update={f"budget_steps_{arguments.algorithm}": 1_500_000, "evaluations": 4})
    began_s = time.process_time()
    with connect(RuntimeSettings(num_cpus=1)), tempfile.TemporaryDirectory() as folder:
        job = make_job(
            training_problems(),
            algorithm=arguments.algorithm,
            seed=arguments.seed,
            settings=settings,
            folder=Path(folder) / "trial",
        )
        policy, progress = train(job, max_cpu_s=float("inf"))
    seconds = time.process_time() - began_s
    problems = unseen_problems()[:: 11 if arguments.quick else 1]
    rows = [_row(policy, problem, name=arguments.algorithm) for problem in track(problems, description="instances")]
    gaps = np.array([row["gap_percent"] for row in rows])
    beaten = sum(row["cost"] < row["base_stock_cost"] for row in rows)
    targets = [
        make_target("mean gap on unseen instances, %", value=float(gaps.mean()), target=1.0, at_least=False),
        make_target(f"below base-stock, of {len(rows)}", value=float(beaten), target=float(len(rows)), at_least=True),
    ]
    summary = {"system": "training", "steps": progress.steps, "cpu_seconds": round(seconds, 1)}
    report("unseen", [*rows, summary], targets=targets, arguments=arguments)


def training_problems() -> list[LostSalesProblem]:
    """The spread that is trained on."""
    return [
        LostSalesProblem(law=law, lead_time=lead_time, penalty=float(penalty))
        for mean in (3.0, 5.0, 8.0)
        for law in (
            DemandLaw(name="poisson", mean=mean),
            DemandLaw(name="geometric", mean=mean),
            DemandLaw(name="negative_binomial", mean=mean, variance=2.5 * mean),
        )
        for penalty in (3, 6, 13, 27, 50)
        for lead_time in (1, 2, 3, 4)
    ]


def unseen_problems() -> list[LostSalesProblem]:
    """The 32 standard instances (Zipkin 2008)."""
    return [
        LostSalesProblem(law=DemandLaw(name=name, mean=5.0), lead_time=lead_time, penalty=float(penalty))
        for name in ("poisson", "geometric")
        for penalty in (4, 9, 19, 39)
        for lead_time in (1, 2, 3, 4)
    ]


def _row(policy: ExportedPolicy, problem: LostSalesProblem, *, name: str) -> dict[str, Any]:
    cost = judge(problem, orders_of(policy, problem)).cost
    optimum = solve(problem).cost
    return {
        "system": name,
        "demand": problem.law.name,
        "penalty": problem.penalty,
        "lead_time": problem.lead_time,
        "cost": cost,
        "optimal_cost": optimum,
        "gap_percent": 100 * (cost / optimum - 1),
        "base_stock_cost": best_base_stock(problem).table.cost,
    }


if __name__ == "__main__":
    main()
