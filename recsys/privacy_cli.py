"""``restock privacy``: what can be done for one customer."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from cluster.config import load_settings
from cluster.options import ConfigOption, JsonOption, SetOption

app = typer.Typer(help="Forget a customer.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Forget a customer."""


@app.command("forget")
def forget(
    user: Annotated[str, typer.Argument(help="Customer, called as the shop does.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a customer from datasets, features and recommenders, and fit the recommenders again."""
    from recsys.forget import forget_user  # here: torch takes seconds to import

    found = forget_user(load_settings(config, overrides=overrides or ()), user)
    if as_json:
        print(json.dumps(asdict(found)))
        return
    Console(highlight=False).print(
        f"forgotten: {found.orders:,} order lines are a guest's now, {found.rows:,} other rows are gone, recommenders "
        f"fitted again: {', '.join(found.recommenders) or 'none'}; restart the service, and train the sequence network "
        "anew when it may cost the time",
        soft_wrap=True,
    )
