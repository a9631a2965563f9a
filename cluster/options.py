"""Command-line options that every verb shares, declared once so that they read and behave alike."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from cluster.errors import ConfigError

ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        help="TOML file, or the name of a shipped one: demo, laptop, gpu, cluster.",
        show_default=False,
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


def day_of(text: str | None, *, option: str) -> date | None:
    """Day that an option names, None if it was not given.

    Raises
    ------
    ConfigError
        If it is not a date; the message names the option.
    """
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{option} {text}: not a date; write it as YYYY-MM-DD") from error
