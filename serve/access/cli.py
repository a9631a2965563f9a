"""``restock tokens``: who may call the service."""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cluster.config import load_settings
from cluster.options import ConfigOption, JsonOption, SetOption
from serve.access.roles import Role

if TYPE_CHECKING:
    from serve.access.tokens import TokenBook

_ACTOR = "command line"
app = typer.Typer(help="Make, list and revoke the tokens that the service asks for.", no_args_is_help=True)


@app.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="Who or what will use it; stands in the audit.")],
    role: Annotated[Role, typer.Option("--role", help="What its owner may do (docs/security.md).")],
    days: Annotated[int, typer.Option("--days", min=1, max=3650, help="Days that it works.")] = 90,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Make a token and print it, alone on standard output: it is not stored and cannot be shown again."""
    text = _open(config, overrides).create(name, role=role, lasts=timedelta(days=days), actor=_ACTOR)
    until = (datetime.now(UTC) + timedelta(days=days)).date()
    Console(stderr=True, highlight=False).print(
        f"{name} may call as {role} until {until}. This is the only time that the token is shown:", soft_wrap=True
    )
    print(text)


@app.command("list")
def list_tokens(config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """List all tokens with their owners, roles and last uses; never the tokens."""
    tokens = _open(config, overrides).all()
    if as_json:
        print(json.dumps([asdict(token) for token in tokens], default=str))
        return
    table = Table("id", "name", "role", "state", "created", "expires", "last used")
    now = datetime.now(UTC)
    for token in tokens:
        state = "revoked" if token.revoked_at else "valid" if token.is_valid(now) else "expired"
        used = f"{token.last_used_at:%Y-%m-%d %H:%M}" if token.last_used_at else "never"
        days = (f"{token.created_at:%Y-%m-%d}", f"{token.expires_at:%Y-%m-%d}")
        table.add_row(token.token_id, token.name, token.role, state, *days, used)
    Console().print(table)


@app.command("revoke")
def revoke_token(
    name: Annotated[str, typer.Argument(help="Name or id of the token.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """End a token: a running service refuses it within `serve.token_cache_s` seconds."""
    token = _open(config, overrides).revoke(name, actor=_ACTOR)
    print(f"{token.name} ({token.token_id}) is revoked since {token.revoked_at:%Y-%m-%d %H:%M} UTC")


def _open(config: str | None, overrides: list[str] | None) -> "TokenBook":
    from serve.access.tokens import TokenBook  # here: SQLAlchemy and FastAPI take a second, and --help needs neither
    from serve.store.database import open_database

    return TokenBook(open_database(load_settings(config, overrides=overrides or ())))
