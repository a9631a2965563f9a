"""``restock privacy``: what can be done for one customer, and for all: keys, and files that only a key opens."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cluster.config import load_settings
from cluster.options import ConfigOption, JsonOption, SetOption
from cluster.privacy import rotate_key
from cluster.sealing import make_export_key, open_file, reseal_file, seal_file

FilesArgument = Annotated[list[Path], typer.Argument(help="Files.")]

app = typer.Typer(
    help="Forget a customer; change keys; seal and open files.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def _group() -> None:
    """Forget a customer; change keys; seal and open files."""


@app.command("rotate-key")
def rotate(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Make a new key of user ids; the old one only recognises who was forgotten under it."""
    settings = load_settings(config, overrides=overrides or ())
    rotate_key(settings)
    print(
        "New key. Names of customers change with it, so now, in this order: 'restock data load', 'restock data "
        "features' if you use them, 'restock train recommender', restart the service, and 'restock models prune "
        "recommender --newest 1 --champions 0 --delete', since older versions still hold the old names."
    )


@app.command("export-key")
def export_key() -> None:
    """Print a new key for sealed files, to put in front of RESTOCK_EXPORT_KEYS."""
    print(make_export_key())


@app.command("seal")
def seal_files(files: FilesArgument) -> None:
    """Replace files by sealed ones under the newest key of RESTOCK_EXPORT_KEYS."""
    for path in files:
        print(seal_file(path))


@app.command("open")
def open_sealed(
    file: Annotated[Path, typer.Argument(help="Sealed file.")],
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
) -> None:
    """Write what a sealed file holds."""
    open_file(file, out)


@app.command("reseal")
def reseal(files: FilesArgument) -> None:
    """Seal sealed files anew, under the newest key: then older ones can go."""
    for path in files:
        reseal_file(path)


@app.command("forget")
def forget(
    user: Annotated[str, typer.Argument(help="Customer, called as the shop does.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a customer from live events, datasets, features and recommenders, and fit the recommenders again."""
    from recsys.forget import forget_user  # here: torch takes seconds to import
    from serve.store.live_events import forget_events

    settings = load_settings(config, overrides=overrides or ())
    # First: without the database nothing is changed, and the command can be given again.
    num_events = forget_events(settings, user)
    found = forget_user(settings, user, num_elsewhere=num_events)
    if as_json:
        print(json.dumps(asdict(found) | {"live_events": num_events}))
        return
    Console(highlight=False).print(
        f"forgotten: {found.orders:,} order lines are a guest's now, {found.rows:,} other rows and {num_events:,} live "
        f"events are gone, recommenders fitted again: {', '.join(found.recommenders) or 'none'}; restart the service, "
        "and train the sequence network anew when it may cost the time",
        soft_wrap=True,
    )
