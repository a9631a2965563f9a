"""``restock train``: each model, or all of them with the replay and the gate."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cluster.config import load_settings
from cluster.dataset import open_dataset
from cluster.options import ConfigOption, JsonOption, SetOption, UntilOption, day_of
from cluster.runtime import connect
from forecasting.cli import train_forecaster
from recsys.cli import train_recommender

if TYPE_CHECKING:
    from restock.training import PolicyOutcome, Workbench

ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Keep what an interrupted run with the same inputs has finished.")
]

app = typer.Typer(
    help="Train models on loaded history, judge them on its held-out end, and publish them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("forecaster")(train_forecaster)
app.command("recommender")(train_recommender)


@app.command("policies")
def train_policies_command(
    config: ConfigOption = None,
    overrides: SetOption = None,
    until: UntilOption = None,
    resume: ResumeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Tune textbook rules, train policies per category, replay all of them, publish what the gate lets through."""
    from restock.training import find_forecasters, train_policies  # here: importing Ray takes seconds

    bench = _open(config, overrides, until)
    with connect(bench.settings.runtime):
        outcome = train_policies(bench, find_forecasters(bench), resume=resume)
    _show_outcome(outcome, as_json=as_json)


@app.command("all")
def train_all(
    config: ConfigOption = None,
    overrides: SetOption = None,
    until: UntilOption = None,
    resume: ResumeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train forecaster, recommender and policies, in this order."""
    from restock.training import find_forecasters, train_forecasters, train_policies, train_recommender

    bench = _open(config, overrides, until)
    with connect(bench.settings.runtime):
        forecasters = find_forecasters(bench) if resume else train_forecasters(bench)
        train_recommender(bench)
        outcome = train_policies(bench, forecasters, resume=resume)
    _show_outcome(outcome, as_json=as_json)


def _open(config: str | None, overrides: list[str] | None, until: str | None) -> "Workbench":
    from restock.training import open_workbench

    settings = load_settings(config, overrides=overrides or ())
    return open_workbench(open_dataset(settings), settings=settings, until=day_of(until, option="--until"))


def _show_outcome(outcome: "PolicyOutcome", *, as_json: bool) -> None:
    study = outcome.study
    rows = [
        {"category": category, "serves": decision.policy_name, "reason": decision.reason}
        for category, decision in study.decisions.items()
    ]
    if as_json:
        reports = {category: report.to_dict() for category, report in study.reports.items()}
        print(json.dumps({"decisions": rows, "reports": reports, "assumed": outcome.assumed}, default=str))
        return
    console = Console(highlight=False)
    for line in outcome.assumed:
        console.print(f"assumed: {line}", markup=False, soft_wrap=True)
    console.print(_table(rows))


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("category", "serves", "why", title="What serves")
    for row in rows:
        table.add_row(row["category"], row["serves"], row["reason"])
    return table
