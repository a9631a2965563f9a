"""What every benchmark prints: a table for people, or one JSON object as the last line."""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

Row = Mapping[str, Any]


def make_parser(description: str) -> argparse.ArgumentParser:
    """Parser with the options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--quick", action="store_true", help="a form of under a minute")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def make_target(what: str, *, value: float, target: float, at_least: bool) -> dict[str, Any]:
    """One claim, and whether this run met it."""
    return {
        "what": what,
        "value": value,
        "target": target,
        "met": value >= target if at_least else value <= target,
    }


def report(
    name: str,
    results: Sequence[Row],
    *,
    targets: Sequence[Row],
    arguments: argparse.Namespace,
    device: str = "cpu",
    facts: Row | None = None,
) -> None:
    """Print the results in the form asked for; ``facts`` go into the JSON, their ``notes`` under the tables."""
    output = {
        "benchmark": name,
        "version": version("restock"),
        "seed": arguments.seed,
        "quick": arguments.quick,
        "machine": {
            "cores": os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "device": device,
            "load": round(os.getloadavg()[0], 2),
        },
        **(facts or {}),
        "results": list(results),
        "targets": list(targets),
    }
    if arguments.json:
        print(json.dumps(output, default=str))
        return
    console = Console()
    console.print(_table(name, results))
    if targets:
        console.print(_table("targets", targets))
    for note in (facts or {}).get("notes", ()):
        console.print(note, markup=False, highlight=False)


def _table(title: str, rows: Sequence[Row]) -> Table:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    return table


def _cell(value: object) -> str:
    return "" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value)
