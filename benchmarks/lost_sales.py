"""Gap to the exact optimum: rules and learned policies on lost-sales instances, judged as tables, without simulation.

Without options: the 32 standard instances (demand Poisson(5) or geometric with mean 5; penalty 4, 9, 19, 39; holding
1; lead time 1..4; Zipkin 2008). ``--suite constraints``: packs, minimums, caps and fixed costs. ``--suite long``: lead
time 6. With ``--demand`` and the options below it: one instance. What is trained is the product's own policy; what is
judged is the exported graph, in every state that it can reach from an empty shelf.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.frame import make_parser, make_target, report
from benchmarks.instances import INSTANCE_SETTINGS, make_job, orders_of, train
from cluster.config import RuntimeSettings
from cluster.manifest import digest_of
from cluster.progress import track
from cluster.runtime import connect
from cluster.settings.models import PolicySettings
from rl.demand import DemandLaw
from rl.exact import LostSalesProblem, PolicyTable, judge, solve
from rl.exact_rules import RULES
from rl.lost_sales_table import learn_lost_sales

LEARNED = ("direct", "ppo", "dqn")
Q_LEARNING = "q_learning"
Row = dict[str, Any]

_FULL_BUDGET_S = 120.0
_PENALTIES = (4, 9, 19, 39)
_SHARE_BELOW_CAPPED = 30 / 32
_SEEDED = [("poisson", penalty, lead_time) for penalty in (4, 9) for lead_time in (2, 3, 4)]


def main() -> None:
    """Judge the instances that the options ask for."""
    arguments = _make_parser().parse_args()
    work = Path(arguments.work or Path(tempfile.gettempdir()) / "restock-lost-sales")
    tasks = list(_make_tasks(arguments))
    done = [_load(work, task) for task in tasks]
    waiting = [task for task, row in zip(tasks, done, strict=True) if row is None]
    if waiting:
        with connect(RuntimeSettings(num_cpus=arguments.jobs)):
            _run_all(waiting, work=work)
    rows = [row for task in tasks if (row := _load(work, task)) is not None]
    if arguments.dump:
        _dump(rows[-1], Path(arguments.dump))
    for row in rows:
        row.pop("table")
    report("lost_sales", rows, targets=_targets(rows), arguments=arguments)


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__ or "")
    parser.add_argument("--suite", choices=["standard", "long", "constraints"], default="standard")
    parser.add_argument("--algorithms", nargs="*", default=[*RULES, *LEARNED], help="rules and learned policies")
    parser.add_argument("--work", help="folder that keeps finished instances; a run that was stopped goes on from it")
    parser.add_argument("--seeds", type=int, default=3, help="on Poisson demand, penalty 4 and 9, lead time 2 to 4")
    parser.add_argument("--jobs", type=int, default=2, help="instances trained side by side, one CPU each")
    parser.add_argument("--budget-s", type=float, default=_FULL_BUDGET_S, help="CPU-seconds per instance, at most")
    one = parser.add_argument_group("one instance")
    one.add_argument("--demand", choices=["poisson", "geometric", "negative_binomial"])
    one.add_argument("--mean", type=float, default=5.0)
    one.add_argument("--variance", type=float, help="of a negative binomial")
    one.add_argument("--lead-time", type=int, default=4)
    one.add_argument("--penalty", type=float, default=4.0)
    one.add_argument("--fixed-cost", type=float, default=0.0)
    one.add_argument("--pack-size", type=int, default=1)
    one.add_argument("--min-order-qty", type=int, default=0)
    one.add_argument("--order-cap", type=int)
    one.add_argument(
        "--algorithm", choices=[*RULES, *LEARNED, Q_LEARNING, "optimal"], help="the one that --dump writes"
    )
    one.add_argument("--dump", metavar="FILE", help="write the policy as a table: {state, order} of every state")
    return parser


def _make_tasks(arguments: argparse.Namespace) -> Iterator[Row]:
    if arguments.demand:
        law = {"name": arguments.demand, "mean": arguments.mean, "variance": arguments.variance}
        lots = {name: getattr(arguments, name) for name in ("fixed_cost", "pack_size", "min_order_qty", "order_cap")}
        problem = {"lead_time": arguments.lead_time, "penalty": arguments.penalty, **lots}
        algorithms = [arguments.algorithm] if arguments.algorithm else arguments.algorithms
        instances = [(law, problem, [arguments.seed])]
    else:
        algorithms = arguments.algorithms
        seeds = range(arguments.seed, arguments.seed + arguments.seeds)
        instances = list(_suite(arguments.suite, quick=arguments.quick, seeds=list(seeds)))
    for law, problem, seeds in instances:
        for algorithm in algorithms:
            for seed in seeds if algorithm in LEARNED else seeds[:1]:
                yield {
                    "law": law,
                    "problem": problem,
                    "algorithm": algorithm,
                    "seed": seed,
                    "budget_s": arguments.budget_s,
                    "settings": _settings(arguments),
                }


_QUICK = {"budget_steps_ppo": 200_000, "budget_steps_dqn": 100_000, "budget_steps_direct": 500_000, "evaluations": 4}


def _settings(arguments: argparse.Namespace) -> Row:
    """Step budgets shrink with the seconds, so that learning rates still reach their ends."""
    settings = INSTANCE_SETTINGS | (_QUICK if arguments.quick else {})
    share = min(1.0, arguments.budget_s / _FULL_BUDGET_S)
    budgets = {name: max(1_000, int(settings[name] * share)) for name in settings if name.startswith("budget_steps")}
    return settings | budgets


def _suite(name: str, *, quick: bool, seeds: list[int]) -> Iterator[tuple[Row, Row, list[int]]]:
    poisson = {"name": "poisson", "mean": 5.0}
    if quick:
        yield poisson, {"lead_time": 2, "penalty": 4.0}, seeds[:1]
    elif name == "long":
        for penalty in (4, 9, 19):
            yield poisson, {"lead_time": 6, "penalty": float(penalty)}, seeds[:1]
    elif name == "constraints":
        lots = ({"pack_size": 3}, {"pack_size": 6}, {"min_order_qty": 8}, {"min_order_qty": 12}, {"order_cap": 6})
        for lot in (*lots, {"fixed_cost": 5.0, "pack_size": 6}):
            for lead_time, penalty in ((1, 9.0), (2, 9.0), (2, 19.0)):
                yield poisson, {"lead_time": lead_time, "penalty": penalty, **lot}, seeds[:1]
    else:
        for law in ("poisson", "geometric"):
            for penalty in _PENALTIES:
                for lead_time in (1, 2, 3, 4):
                    count = len(seeds) if (law, penalty, lead_time) in _SEEDED else 1
                    problem = {"lead_time": lead_time, "penalty": float(penalty)}
                    yield {"name": law, "mean": 5.0}, problem, seeds[:count]


def _run_all(tasks: list[Row], *, work: Path) -> None:
    import ray

    run = ray.remote(num_cpus=1, max_retries=0)(_run)
    waiting = [run.remote(task, work) for task in tasks]
    for _ in track(range(len(waiting)), description="instances"):
        (finished,), waiting = ray.wait(waiting)
        ray.get(finished)


def _run(task: Row, work: Path) -> None:
    """Train, judge and keep one row."""
    problem = LostSalesProblem(law=DemandLaw(**task["law"]), **task["problem"])
    began_s = time.process_time()
    table, facts = _judged(task, problem)
    seconds = facts.pop("cpu_seconds", time.process_time() - began_s)
    optimum = _optimal_cost(task, problem, work)
    row = {
        "demand": task["law"]["name"],
        "penalty": task["problem"]["penalty"],
        "lead_time": task["problem"]["lead_time"],
        "constraint": _constraint(task["problem"]),
        "system": task["algorithm"],
        "seed": task["seed"],
        "cost": table.cost,
        "optimal_cost": optimum,
        "gap_percent": 100 * (table.cost / optimum - 1),
        "cpu_seconds": round(seconds, 1),
        "states": len(table.order_M),
        **facts,
        "table": {"state": table.state_ML.tolist(), "order": table.order_M.tolist()},
    }
    _write(_path(work, task), row)


def _judged(task: Row, problem: LostSalesProblem) -> tuple[PolicyTable, Row]:
    algorithm = task["algorithm"]
    if algorithm == "optimal":
        return judge(problem, solve(problem).order_of), {}
    if algorithm in RULES:
        rule = RULES[algorithm](problem)
        return rule.table, {"parameters": rule.parameters}
    if algorithm == Q_LEARNING:
        return judge(problem, learn_lost_sales(problem, seed=task["seed"])), {}
    with tempfile.TemporaryDirectory() as folder:
        settings = PolicySettings(**task["settings"])
        job = make_job(
            [problem], algorithm=algorithm, seed=task["seed"], settings=settings, folder=Path(folder) / "trial"
        )
        policy, progress = train(job, max_cpu_s=task["budget_s"])
    facts = {"cpu_seconds": progress.cpu_seconds, "steps": progress.steps, "best_at_steps": progress.best_point.steps}
    return judge(problem, orders_of(policy, problem)), facts


def _optimal_cost(task: Row, problem: LostSalesProblem, work: Path) -> float:
    """Solved once per instance and kept."""
    path = work / f"optimum-{digest_of([task['law'], task['problem']])}.json"
    if not path.is_file():
        _write(path, {"cost": solve(problem).cost})
    return float(json.loads(path.read_text())["cost"])


def _constraint(problem: Row) -> str:
    lots = {name: value for name, value in problem.items() if name not in ("lead_time", "penalty") and value}
    return ", ".join(f"{name} {value:g}" for name, value in lots.items() if (name, value) != ("pack_size", 1))


def _path(work: Path, task: Row) -> Path:
    return work / f"{task['algorithm']}-{digest_of(task)}.json"


def _load(work: Path, task: Row) -> Row | None:
    path = _path(work, task)
    return dict(json.loads(path.read_text())) if path.is_file() else None


def _write(path: Path, content: Row) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(json.dumps(content))
    beside.replace(path)


def _dump(row: Row, path: Path) -> None:
    pairs = zip(row["table"]["state"], row["table"]["order"], strict=True)
    path.write_text(json.dumps([{"state": state, "order": order} for state, order in pairs]))
    print(f"{path}: {len(row['table']['order']):,} states of {row['system']}", file=sys.stderr)


def _targets(rows: list[Row]) -> list[Row]:
    """Mean and worst gap of each learned policy, and on how many instances it beats the two rules."""
    targets: list[Row] = []
    limits = {"ppo": (0.2, 0.8), "dqn": (0.3, 0.8), "direct": (0.1, 0.4)}
    cost_of = {(*_instance(row), row["system"]): row["cost"] for row in rows if row["system"] in RULES}
    for algorithm, (mean, worst) in limits.items():
        mine = [row for row in rows if row["system"] == algorithm]
        if not mine:
            continue
        gaps = np.array([row["gap_percent"] for row in mine])
        targets += [
            make_target(f"{algorithm}: mean gap, %", value=float(gaps.mean()), target=mean, at_least=False),
            make_target(f"{algorithm}: worst gap, %", value=float(gaps.max()), target=worst, at_least=False),
        ]
        for rule, share in (("base_stock", 1.0), ("capped_base_stock", _SHARE_BELOW_CAPPED)):
            known = [(row["cost"], cost_of[key]) for row in mine if (key := (*_instance(row), rule)) in cost_of]
            if not known:
                continue
            beaten = sum(cost < other for cost, other in known)
            what = f"{algorithm}: cheaper than the best {rule}, of {len(known)}"
            targets.append(make_target(what, value=float(beaten), target=share * len(known), at_least=True))
    return targets


def _instance(row: Row) -> tuple[Any, ...]:
    return row["demand"], row["penalty"], row["lead_time"], row["constraint"]


if __name__ == "__main__":
    main()
