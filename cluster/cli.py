"""``restock data``: load a shop's tables, and check them."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cluster.config import Settings, load_settings
from cluster.dataset import Dataset, open_dataset
from cluster.describe import describe_tables
from cluster.feature_store import publish_features
from cluster.loading import check_tables, load_dataset
from cluster.options import ConfigOption, JsonOption, SetOption, UntilOption, day_of
from cluster.quality import QualityReport

app = typer.Typer(help="Load a shop's tables and check them.", no_args_is_help=True, rich_markup_mode=None)


@app.command("load")
def load(config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Read, check, clean and shard the configured tables; a rerun on the same input does nothing."""
    settings = load_settings(config, overrides=overrides or ())
    dataset = load_dataset(settings)
    if as_json:
        print(json.dumps(describe_dataset(dataset)))
        return
    console = Console()
    show_report(dataset.report, console=console)
    console.print(_summary(dataset, settings), highlight=False, markup=False)


@app.command("check")
def check(
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    quarantine: Annotated[
        Path | None,
        typer.Option("--quarantine", help="New folder for the rows that break a rule.", show_default=False),
    ] = None,
) -> None:
    """Print every rule that the configured tables break, with counts; nothing is loaded."""
    settings = load_settings(config, overrides=overrides or ())
    report = check_tables(settings, quarantine=quarantine)
    if as_json:
        print(json.dumps(report.to_dict()))
        return
    show_report(report, console=Console())


@app.command("tables")
def tables() -> None:
    """Print every table and column that a shop may give, as Markdown."""
    print(describe_tables(), end="")


@app.command("features")
def features(
    config: ConfigOption = None, overrides: SetOption = None, until: UntilOption = None, as_json: JsonOption = False
) -> None:
    """Compute user and item features from history before a day, normalise them, and store both as a version."""
    settings = load_settings(config, overrides=overrides or ())
    dataset = open_dataset(settings)
    end = dataset.period_until(day_of(until, option="--until"))
    stored = publish_features(dataset, panel=dataset.panel(until=end, selection_end=end), period=end)
    facts = {"version": stored.version, "folder": str(stored.folder), **stored.manifest.metrics}
    if as_json:
        print(json.dumps(facts))
        return
    rows = ", ".join(f"{name}: {part['rows']:,} rows" for name, part in stored.manifest.metrics.items())
    Console().print(f"features {stored.version} until {stored.manifest.trained_until_on} ({rows}): {stored.folder}")


def describe_dataset(dataset: Dataset) -> dict[str, object]:
    """A dataset in JSON: what it is, where it lies, and its report."""
    return {
        "name": dataset.settings.data.name,
        "digest": dataset.digest,
        "folder": str(dataset.folder),
        "series": dataset.num_series,
        "periods": dataset.num_periods,
        "period_days": dataset.calendar.period_days,
        "start_on": dataset.calendar.start_on.isoformat(),
        "end_on": dataset.calendar.date_on(dataset.num_periods).isoformat(),
        **dataset.report.to_dict(),
    }


def show_report(report: QualityReport, *, console: Console) -> None:
    """Print where the rows of every table went, every broken rule, and what was decided."""
    tables = Table(title="Rows")
    for heading in ("table", "in", "kept", "merged", "quarantined", "flagged"):
        tables.add_column(heading, justify="left" if heading == "table" else "right")
    for counts in report.tables:
        numbers = (counts.rows_in, counts.rows_kept, counts.rows_merged, counts.rows_quarantined, counts.rows_flagged)
        tables.add_row(counts.table, *(f"{number:,}" for number in numbers))
    console.print(tables)
    rules = Table("table", "rule", "reason", title="Rules that rows break")
    rules.add_column("rows", justify="right")
    for rule in report.rules:
        rules.add_row(rule.table, rule.rule, rule.reason, f"{rule.rows:,}")
    if report.rules:
        console.print(rules)
    else:
        console.print("No row breaks a rule.")
    for note in report.notes:
        console.print(f"- {note}", highlight=False, markup=False)


def _summary(dataset: Dataset, settings: Settings) -> str:
    unit = "days" if dataset.calendar.period_days == 1 else "weeks"
    quarantined = sum(counts.rows_quarantined for counts in dataset.report.tables)
    where = f"\nQuarantined rows: {dataset.quarantine_folder}" if quarantined else ""
    return (
        f"{dataset.num_series:,} series x {dataset.num_periods} {unit} from {dataset.calendar.start_on}\n"
        f"Dataset '{settings.data.name}', version {dataset.digest}: {dataset.folder}{where}"
    )
