"""The command line: one root, each room's verbs mounted below it."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cluster.cli import app as data_app
from cluster.config import load_settings
from cluster.dataset import open_dataset
from cluster.doctor import doctor, render_checks
from cluster.errors import RestockError
from cluster.options import ConfigOption, JsonOption, SetOption, day_of
from cluster.runtime import set_environment
from forecasting.cli import backtest_forecast, explain_series
from forecasting.drift_cli import backtest_drift
from forecasting.stream_cli import forecast_series
from recsys.bundles_cli import suggest as suggest_bundles
from restock.cost_cli import cost_command
from restock.models_cli import app as models_app
from restock.monitor_cli import monitor_command
from restock.privacy_cli import app as privacy_app
from restock.reference import list_settings, make_configuration_page
from restock.train_cli import app as train_app
from serve.access.cli import app as tokens_app
from serve.cli import serve_command
from serve.plans.cli import app as plans_app

app = typer.Typer(
    help="Decide, every day, how much of every product to order.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
backtest_app = typer.Typer(help="Judge models on periods that they have not seen.", no_args_is_help=True)
backtest_app.command("forecast")(backtest_forecast)
backtest_app.command("drift")(backtest_drift)
explain_app = typer.Typer(help="Say why a model answers what it does.", no_args_is_help=True)
explain_app.command("forecast")(explain_series)
app.add_typer(data_app, name="data")
app.add_typer(train_app, name="train")
app.add_typer(backtest_app, name="backtest")
app.add_typer(explain_app, name="explain")
app.add_typer(models_app, name="models")
app.add_typer(privacy_app, name="privacy")
app.add_typer(tokens_app, name="tokens")
app.add_typer(plans_app, name="plans")
app.command("bundles")(suggest_bundles)
app.command("forecast")(forecast_series)
app.command("cost")(cost_command)
app.command("monitor")(monitor_command)
app.command("serve")(serve_command)


@app.command("demo")
def demo(
    fast: Annotated[bool, typer.Option("--fast", help="Train less: about three minutes instead of ten.")] = False,
    no_serve: Annotated[bool, typer.Option("--no-serve", help="End after the report.")] = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the main job on a year of a real shop, then serve it until Ctrl-C."""
    from restock.demo import run_demo  # here: torch and Ray take seconds to import, and --help needs neither

    settings = load_settings(config or ("demo-fast" if fast else "demo"), overrides=overrides or ())
    summary = run_demo(settings, with_service=not no_serve, stay_up=not no_serve)
    if as_json:
        print(json.dumps(summary, default=str))


@app.command("plan")
def plan(
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="Day of the orders, YYYY-MM-DD; default: the one after history.")
    ] = None,
    stock: Annotated[Path | None, typer.Option("--stock", help="Stock snapshot of that day, CSV or Parquet.")] = None,
    open_orders: Annotated[
        Path | None, typer.Option("--open-orders", help="Orders still to come, CSV or Parquet.")
    ] = None,
    promotions: Annotated[
        Path | None,
        typer.Option("--promotions", help="Promotions that are only planned, CSV or Parquet: what 'bundles' wrote."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Plan to write, .csv or .parquet.")] = Path("plan.csv"),
    no_drivers: Annotated[
        bool, typer.Option("--no-drivers", help="Do not say what moves demand: a large shop is planned sooner.")
    ] = False,
    processes: Annotated[int, typer.Option("--processes", min=1, help="Processes that plan a large shop.")] = 1,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the order plan of a day; nothing from that day on is read."""
    from restock.planning import PlanFiles, plan_orders  # here: torch takes seconds to import

    settings = load_settings(config, overrides=overrides or ())
    files = PlanFiles(stock=stock, open_orders=open_orders, promotions=promotions)
    made = plan_orders(
        open_dataset(settings),
        settings=settings,
        as_of=day_of(as_of, option="--as-of"),
        files=files,
        with_drivers=not no_drivers,
        processes=processes,
    )
    made.write(out)
    totals = made.totals
    if as_json:
        facts = {"on_date": made.on_date, "lines": totals.num_lines, "lines_to_order": totals.num_orders}
        facts |= {"units": totals.order_qty, "value": totals.order_value, "digest": made.digest, "notes": made.notes}
        print(json.dumps(facts, default=str))
        return
    console = Console(highlight=False)
    for note in made.notes:
        console.print(f"assumed or to know: {note}", markup=False, soft_wrap=True)
    console.print(
        f"{out}: orders of {made.on_date}: {totals.num_orders:,} of {totals.num_lines:,} series, "
        f"{totals.order_qty:,.0f} units for {totals.order_value:,.2f}",
        markup=False,
        soft_wrap=True,
    )


@app.command("doctor")
def check_installation(config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Say what is wrong with this installation; exits with 1 if something is."""
    checks = doctor(load_settings(config, overrides=overrides or ()))
    if as_json:
        print(json.dumps([asdict(check) for check in checks]))
    else:
        Console().print(render_checks(checks))
    if any(check.state == "failed" for check in checks):
        raise typer.Exit(1)


@app.command("config")
def show_config(
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference page of the defaults.")] = False,
) -> None:
    """Print every setting with its value and meaning."""
    if markdown:
        print(make_configuration_page(), end="")
        return
    settings = load_settings(config, overrides=overrides or ())
    if as_json:
        print(settings.model_dump_json())
        return
    table = Table("key", "value", "meaning")
    for row in list_settings(settings):
        table.add_row(row.key, str(row.value), row.meaning)
    Console().print(table)


def main() -> None:
    """Run a verb; a ``RestockError`` is printed and becomes an exit code, anything else is a bug with its trace."""
    set_environment()
    try:
        app()
    except RestockError as error:
        Console(stderr=True, highlight=False).print(f"[bold red]{error.title}:[/] ", end="")
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from error


if __name__ == "__main__":
    main()
