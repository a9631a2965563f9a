"""Real history: every textbook rule, every learned policy and the promoted mix over rolling windows.

What serves in a window is chosen before it: forecasters are fitted, rules tuned, policies trained and the mix chosen on
earlier periods only. Runs on the product's datasets, or on any long-format table of units per period, with costs per
unit and period. A run that was interrupted goes on where it was when the same command is given again.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.frame import make_parser, report
from benchmarks.panels import CONFIGS, ReplayInput, check_arguments, load_dataset_input, load_table_input
from benchmarks.replay_report import make_facts, make_outcome, make_rows, make_targets
from benchmarks.rolling_study import RollingStudy
from cluster.errors import DataError, RestockError
from cluster.manifest import code_digest, digest_of
from cluster.progress import stage
from cluster.runtime import set_environment
from rl.rolling import RollingPlan, plan_rolling

_FULL = ("forecast.epochs=3", "forecast.refit_epochs=1", "forecast.windows_per_series=24")
_QUICK = (
    "data.max_series=60",
    "forecast.epochs=1",
    "forecast.refit_epochs=1",
    "forecast.windows_per_series=8",
    "forecast.hidden=16",
    "policy.budget_steps_ppo=60000",
    "policy.budget_steps_dqn=40000",
    "policy.budget_steps_direct=120000",
    "policy.evaluations=4",
)
_QUICK_WINDOWS = 2
_WINDOW_DAYS = 56
_LEAST_AHEAD_DAYS = 14
_INTERRUPTED = 130


def main() -> int:
    """Run, and exit with the code of the error, if any."""
    set_environment()
    try:
        run(_parse())
    except RestockError as error:
        Console(stderr=True, highlight=False).print(f"[bold red]{error.title}:[/] ", end="")
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Interrupted: what is finished is kept, the same command goes on from there.", file=sys.stderr)
        return _INTERRUPTED
    return 0


def run(arguments: argparse.Namespace) -> None:
    """Load, study window by window, report."""
    check_arguments(arguments)
    root = Path(arguments.work or Path(tempfile.gettempdir()) / "restock-replay").absolute()
    given, plan = _load(arguments, root=root)
    study = RollingStudy(
        given, plan, retrain_every=arguments.retrain_every, work=root / _digest(given, plan, arguments)
    )
    with stage("Forecast every period", total=len(plan.fits)) as running:
        study.forecast(running)
    with stage("Replay the candidates of the rules over every block", total=len(plan.blocks)) as running:
        for block in plan.blocks:
            study.block_costs(block)
            running.advance()
    windows = []
    with stage("Train and replay, window by window", total=len(plan.windows)) as running:
        for window in plan.windows:
            windows.append(study.judge(window, running))
            running.advance()
    outcome = make_outcome(study, windows)
    rows = make_rows(study, outcome)
    facts = make_facts(study, outcome, retrain_every=arguments.retrain_every)
    report("replay", rows, targets=make_targets(rows), arguments=arguments, facts=facts)


def _parse() -> argparse.Namespace:
    parser = make_parser(__doc__ or "")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--dataset", choices=sorted(CONFIGS), help="a dataset of the product (default complete-journey)"
    )
    source.add_argument("--csv", help="a CSV or Parquet file with one row per series and period")
    for name in ("id", "time", "target"):
        parser.add_argument(f"--{name}", metavar="COLUMN")
    parser.add_argument("--category", metavar="COLUMN", help="what the mix chooses by; default: one for all")
    parser.add_argument("--freq", choices=("D", "W"), default="D", help="a period is a day or a week")
    parser.add_argument("--lead-time", metavar="N|COLUMN", help="periods until an order is on the shelf")
    parser.add_argument("--review-period", metavar="N|COLUMN", help="periods between two orders")
    parser.add_argument("--holding", metavar="X|COLUMN", help="cost per unit on the shelf at the end of a period")
    parser.add_argument("--penalty", metavar="X|COLUMN", help="cost per unit of demand not met")
    parser.add_argument("--fixed", metavar="X|COLUMN", default="0", help="cost per order line")
    parser.add_argument("--windows", type=int, help="windows to judge on (default 6)")
    parser.add_argument("--horizon", type=int, help="periods of a window (default 8 weeks)")
    parser.add_argument("--retrain-every", type=int, default=2, help="windows that a learned policy serves in")
    parser.add_argument("--work", help="folder that keeps finished parts")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="a setting")
    return parser.parse_args()


def _load(arguments: argparse.Namespace, *, root: Path) -> tuple[ReplayInput, RollingPlan]:
    sets = [*_FULL, *(_QUICK if arguments.quick else ()), *arguments.sets]
    num_windows = arguments.windows or (_QUICK_WINDOWS if arguments.quick else 6)
    days = 7 if arguments.csv and arguments.freq == "W" else 1
    horizon = arguments.horizon or _WINDOW_DAYS // days

    def plan_of(num_periods: int) -> RollingPlan:
        return plan_rolling(num_periods, num_windows=num_windows, horizon=horizon, period_days=days)

    if arguments.csv:
        given = load_table_input(arguments, home=root, sets=sets)
    else:
        name = arguments.dataset or "complete-journey"
        given = load_dataset_input(name, home=root, first_window=lambda periods: plan_of(periods).windows[0], sets=sets)
    plan = plan_of(given.panel.num_periods)
    return _with_horizon(given, horizon=horizon), plan


def _with_horizon(given: ReplayInput, *, horizon: int) -> ReplayInput:
    """Forecasts as far ahead as orders look, which is all that is asked of them."""
    terms = given.make_terms(given.panel)
    interval = int(terms.protection_interval_S.max())
    if interval > horizon:
        raise DataError(
            f"lead time + review period is {interval} periods, a window has {horizon}: no order would arrive in it; "
            "raise --horizon"
        )
    ahead = max(interval + int(terms.review_period_S.max()), _LEAST_AHEAD_DAYS // given.panel.calendar.period_days, 2)
    forecast = given.settings.forecast.model_copy(update={"horizon": ahead})
    return replace(given, settings=given.settings.model_copy(update={"forecast": forecast}))


def _digest(given: ReplayInput, plan: RollingPlan, arguments: argparse.Namespace) -> str:
    settings: dict[str, Any] = given.settings.model_dump(mode="json", exclude={"home"})
    return digest_of([given.digest, str(plan), arguments.retrain_every, settings, code_digest()])


if __name__ == "__main__":
    sys.exit(main())
