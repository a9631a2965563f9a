"""The command line: one root, each room's verbs mounted below it."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cluster.config import load_settings
from cluster.errors import RestockError
from cluster.options import ConfigOption, JsonOption, SetOption
from cluster.runtime import set_environment
from restock.reference import list_settings, make_configuration_page

app = typer.Typer(
    help="Decide, every day, how much of every product to order.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


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
    """Run a verb; a ``RestockError`` is printed and becomes an exit code, anything else is a bug and keeps its trace."""
    set_environment()
    try:
        app()
    except RestockError as error:
        Console(stderr=True, highlight=False).print(f"[bold red]{error.title}:[/] ", end="")
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from error


if __name__ == "__main__":
    main()
