"""``restock plans``: stored plans without HTTP, by the same functions and in the same database as the service."""

import asyncio
import getpass
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from cluster.config import Settings, load_settings
from cluster.errors import ConfigError, PlanningError
from cluster.options import ConfigOption, JsonOption, OutOption, SetOption, day_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_LOOK_S = 0.2
app = typer.Typer(help="Make, list, show, approve and export stored order plans.", no_args_is_help=True)
RunArgument = Annotated[str, typer.Argument(help="Name of the run, as 'restock plans list' shows it.")]


@app.command("make")
def make_plan(
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="Day of the orders, YYYY-MM-DD; default: the one after history.")
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Plan every series and keep the plan; with the same inputs it is the same plan, here and over HTTP."""
    settings = load_settings(config, overrides=overrides or ())
    run = asyncio.run(_make(settings, as_of=as_of))
    if as_json:
        print(json.dumps(run))
        return
    totals = run["totals"]
    for note in run["notes"]:
        _say(f"assumed or to know: {note}")
    _say(
        f"{run['run_id']}: {totals['num_orders']:,} of {totals['num_lines']:,} lines order "
        f"{totals['order_qty']:,.0f} units for {totals['order_value']:,.2f}"
    )


@app.command("list")
def list_plans(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Most runs, newest first.")] = 20,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """List stored plans, newest first."""
    from serve.plans.queries import list_runs  # here: SQLAlchemy takes a second, and --help does not need it

    page = _read(config, overrides, lambda session: list_runs(session, state=None, limit=limit, after=None))
    if as_json:
        print(json.dumps(page))
        return
    # A name is there to be copied: never cut, whatever the width.
    name = Column("run", no_wrap=True, min_width=max((len(run["run_id"]) for run in page["runs"]), default=0))
    table = Table(name, "orders of", "state", "planned", "by", "asked at")
    for run in page["runs"]:
        planned = f"{run['num_planned']:,} of {run['num_series']:,}"
        table.add_row(run["run_id"], run["on_date"], run["state"], planned, run["created_by"], run["created_at"][:16])
    Console().print(table)


@app.command("show")
def show_plan(
    run_id: RunArgument,
    mark: Annotated[
        str | None, typer.Option("--mark", help="Only stockout_risk, overstock, over_budget or new_item.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Most lines, most money at risk first.")] = 20,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a plan's lines, those with most money at risk first, and why each orders what it does."""
    from serve.plans.queries import LineFilter, Mark, list_lines

    if mark is not None and mark not in list(Mark):
        raise ConfigError(f"--mark {mark}: no such mark; take one of {', '.join(Mark)}")
    wanted = LineFilter(mark=None if mark is None else Mark(mark))
    page = _read(config, overrides, lambda session: list_lines(session, run_id, wanted, limit=limit, after=None))
    if as_json:
        print(json.dumps(page))
        return
    table = Table("line", "item", "state", "order", "value", "at risk", "marks", "why")
    for line in page["lines"]:
        numbers = (f"{line['order_qty']:g}", f"{line['order_value']:,.2f}", f"{line['money_at_risk']:,.2f}")
        item = f"{line['item_id']} at {line['location_id']}"
        marks = ", ".join(line["marks"])
        table.add_row(line["line_id"].rpartition(".")[2], item, line["state"], *numbers, marks, line["reason"])
    Console().print(table)


@app.command("approve")
def approve_plan(
    run_id: RunArgument,
    lines: Annotated[
        list[int] | None,
        typer.Option("--line", help="Number of a line; may be repeated. Default: all proposed lines without a mark."),
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Approve lines of a plan: they are on order from now on. A marked line is approved only by its number."""
    from serve.plans.approvals import approve_all
    from serve.plans.queries import lines_to_approve
    from serve.store.database import open_database

    database = open_database(load_settings(config, overrides=overrides or ()))
    with database.reading() as session:
        wanted = lines_to_approve(session, run_id, positions=lines)
    approved, refused = approve_all(database, wanted, actor=getpass.getuser())
    if as_json:
        print(json.dumps({"approved": approved, "refused": {row.line_id: row.detail for row in refused}}))
    else:
        for row in refused:
            _say(f"refused: {row.detail}")
        _say(f"{run_id}: {len(approved):,} lines approved, {len(refused):,} refused")
    if refused:
        raise typer.Exit(6)


@app.command("export")
def export_plan(
    run_id: RunArgument,
    out: OutOption,
    again: Annotated[
        str | None, typer.Option("--again", help="Name of an export that was made already: write its file again.")
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Hand over a plan's approved lines, each once, as .csv, .parquet or .json."""
    from serve.plans.exports import FORMATS, export_approved, read_export
    from serve.store.database import open_database

    form = out.suffix.lower().lstrip(".")
    if form not in FORMATS:
        raise PlanningError(f"{out}: an export is written as .csv, .parquet or .json; change the file's suffix")
    database = open_database(load_settings(config, overrides=overrides or ()))
    with database.writing() as session:
        export_id = again or export_approved(session, run_id, actor=getpass.getuser()).export_id
        table = read_export(session, export_id)
    _write(out, FORMATS[form][1](table), export_id=export_id)
    _say(f"{out}: {table.num_rows:,} orders ({export_id})")


async def _make(settings: Settings, *, as_of: str | None) -> dict[str, Any]:
    from serve.layout import LocalReplicas
    from serve.plans.asking import ask_for_plan
    from serve.plans.foreman import Foreman
    from serve.plans.queries import show_run
    from serve.releases import serving_versions
    from serve.store.database import open_database

    replicas, database = LocalReplicas(settings), open_database(settings)
    await replicas.reconfigure(serving_versions(settings))
    day, services = day_of(as_of, option="--as-of"), replicas.services
    run_id, _ = await ask_for_plan(
        services, database, settings=settings, as_of=day, series=None, actor=getpass.getuser()
    )
    foreman = Foreman(database, services.planner, settings=settings.plan)
    foreman.start()
    try:
        while True:
            with database.reading() as session:
                run = show_run(session, run_id)
            if run["state"] not in ("queued", "running"):
                break
            await asyncio.sleep(_LOOK_S)
    finally:
        await foreman.stop()
    if run["state"] != "done":
        raise PlanningError(f"run {run_id} is {run['state']}: {run['failure'] or 'somebody ended it'}")
    return run


def _read(config: str | None, overrides: list[str] | None, query: "Callable[[Session], dict[str, Any]]") -> Any:
    from serve.store.database import open_database

    with open_database(load_settings(config, overrides=overrides or ())).reading() as session:
        return query(session)


def _write(out: Path, content: bytes, *, export_id: str) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(content)
    except OSError as error:
        raise PlanningError(
            f"{out}: cannot be written ({error.strerror}); the lines are exported, write their file elsewhere with "
            f"--again {export_id}"
        ) from error


def _say(text: str) -> None:
    Console(highlight=False).print(text, markup=False, soft_wrap=True)
