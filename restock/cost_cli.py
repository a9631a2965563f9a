"""``restock cost``: what ``restock train all`` will take, before it is paid for."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cluster.config import load_settings
from cluster.dataset import open_dataset
from cluster.errors import ConfigError
from cluster.options import ConfigOption, JsonOption, SetOption
from cluster.runtime import connect

if TYPE_CHECKING:
    from restock.costing import PartCost


def cost_command(
    series: Annotated[str, typer.Option("--series", help="Series of the forecaster's pilots.")] = "50,100,200",
    users: Annotated[str, typer.Option("--users", help="Users of the recommender's pilots.")] = "200,400,800",
    steps: Annotated[
        str, typer.Option("--steps", help="Series-periods of the policies' pilots.")
    ] = "20000,40000,80000",
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train small pilots of growing size and say what the whole run will take, and how far the pilots were off."""
    from restock.pilot import PilotSizes, estimate_run  # here: importing Ray takes seconds
    from restock.training import open_workbench

    settings = load_settings(config, overrides=overrides or ())
    sizes = PilotSizes(
        series=_sizes(series, option="--series"),
        users=_sizes(users, option="--users"),
        steps=_sizes(steps, option="--steps"),
    )
    bench = open_workbench(open_dataset(settings), settings=settings)
    with connect(settings.runtime):
        import ray

        parts = estimate_run(bench, sizes=sizes, has_card=ray.cluster_resources().get("GPU", 0.0) > 0)
    if as_json:
        print(json.dumps({"parts": [asdict(part) for part in parts], "cpu_hours": sum(p.cpu_hours for p in parts)}))
        return
    _show(parts)


def _sizes(text: str, *, option: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(word) for word in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{option} {text}: write whole numbers with commas between them, e.g. 50,100,200") from error
    if len(sizes) < 3 or list(sizes) != sorted(set(sizes)) or sizes[0] < 1:
        raise ConfigError(f"{option} {text}: three sizes or more are needed, each larger than the one before")
    return sizes


def _show(parts: "list[PartCost]") -> None:
    table = Table("part", "work", "runs", "CPU hours", "GPU hours", "error of the pilots", title="restock train all")
    for part in parts:
        gpu = "unknown: no card here" if part.gpu_hours is None else f"{part.gpu_hours:.2f}"
        work = f"{part.work:,.0f} {part.unit}"
        table.add_row(part.name, work, str(part.runs), f"{part.cpu_hours:.2f}", gpu, f"{part.error:+.0%}")
    console = Console(highlight=False)
    console.print(table)
    console.print(f"in all {sum(part.cpu_hours for part in parts):.2f} CPU hours; trials that stop early take less")
