"""``restock monitor``: what is watched after the launch, for a scheduler to run every day."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from prometheus_client import CollectorRegistry, push_to_gateway, write_to_textfile
from rich.console import Console
from rich.table import Table

from cluster.config import load_settings
from cluster.dataset import open_dataset
from cluster.errors import ConfigError
from cluster.options import ConfigOption, JsonOption, SetOption, UntilOption, day_of

if TYPE_CHECKING:
    from restock.monitor import Watch

_PUSH_TIMEOUT_S = 30.0


def monitor_command(
    textfile: Annotated[
        Path | None,
        typer.Option("--textfile", help="File to write for a node exporter's textfile collector (*.prom)."),
    ] = None,
    push: Annotated[
        str | None, typer.Option("--push", help="Pushgateway to tell, e.g. http://pushgateway:9091.")
    ] = None,
    num_series: Annotated[
        int, typer.Option("--series", min=1, help="Series that forecasts and policies are judged on.")
    ] = 2_000,
    config: ConfigOption = None,
    overrides: SetOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare demand, forecasts and policies since training with what they were; docs/monitoring.md says what to do."""
    from restock.monitor import watch  # here: torch takes seconds to import
    from restock.monitor_metrics import fill_registry

    settings = load_settings(config, overrides=overrides or ())
    watched = watch(
        open_dataset(settings), settings=settings, until=day_of(until, option="--until"), num_series=num_series
    )
    registry = fill_registry(watched)
    if textfile is not None:
        _write(registry, textfile)
    if push is not None:
        _push(registry, push, shop=settings.data.name)
    if as_json:
        print(json.dumps({"readings": _rows(watched), "missing": watched.missing}))
        return
    _show(watched)


def _write(registry: CollectorRegistry, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(path), registry)  # renamed into place whole
    except OSError as error:
        raise ConfigError(
            f"--textfile {path}: cannot be written ({error.strerror}); name a file in a writable folder"
        ) from error


def _push(registry: CollectorRegistry, url: str, *, shop: str) -> None:
    try:
        push_to_gateway(
            url, job="restock-monitor", registry=registry, grouping_key={"shop": shop}, timeout=_PUSH_TIMEOUT_S
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--push {url}: no Pushgateway takes the metrics there ({error}); check the address, or use --textfile"
        ) from error


def _rows(watched: "Watch") -> list[dict[str, Any]]:
    return [
        {"metric": one.metric.name, **dict(zip(one.metric.labels, one.labels, strict=True)), "value": one.value}
        for one in watched.readings
    ]


def _show(watched: "Watch") -> None:
    console = Console(highlight=False)
    table = Table("metric", "of", "value")
    for one in watched.readings:
        table.add_row(one.metric.name, ", ".join(one.labels), f"{one.value:.3g}")
    console.print(table)
    for part, reason in watched.missing.items():
        console.print(f"{part}: {reason}", markup=False, soft_wrap=True)
