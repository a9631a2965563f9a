"""Command-line options that every verb shares, declared once so that they read and behave alike."""

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config", "-c", help="TOML file, or the name of a shipped one: demo, laptop, gpu.", show_default=False
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="One setting, e.g. --set forecast.epochs=3; may be repeated.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
UntilOption = Annotated[
    str | None,
    typer.Option("--until", help="First day that is not read, YYYY-MM-DD; default: all history.", show_default=False),
]
OutOption = Annotated[Path, typer.Option("--out", help="File to write; its suffix chooses the form.")]
