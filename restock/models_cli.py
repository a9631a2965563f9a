"""``restock models``: which versions are stored and served, moving the aliases, deleting what nothing needs."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from cluster.artifacts import ArtifactStore, open_store
from cluster.config import Settings, load_settings
from cluster.errors import ArtifactError, ConfigError
from cluster.options import ConfigOption, JsonOption, SetOption
from cluster.promotions import Alias, Promotion
from cluster.pruning import Keep, Verdict, judge_versions, prune
from cluster.tracking import trackers_of

app = typer.Typer(
    help="List stored models, promote a version, roll back, delete what nothing needs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
NameArgument = Annotated[str, typer.Argument(help="Model: forecaster, recommender, policy/<category> ...")]
OneOrAllArgument = Annotated[
    str | None, typer.Argument(help="Model, or the start of several names; default: all.", show_default=False)
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept in the history.")]
ExpectedOption = Annotated[
    str | None,
    typer.Option("--expected", help="Refuse if the alias does not point to this version now.", show_default=False),
]


@app.command("list")
def list_models(
    name: OneOrAllArgument = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print every stored version with its aliases, and the moves of the aliases."""
    store = _open(config, overrides)
    names = _names(store, name)
    versions = [row for one in names for row in _version_rows(store, one)]
    moves = [{"name": one} | move.model_dump(mode="json") for one in names for move in store.promotions(one)]
    if as_json:
        print(json.dumps({"versions": versions, "promotions": moves}))
        return
    _show(versions, title="versions")
    if moves:
        _show(moves, title="moves of the aliases")


@app.command("promote")
def promote(
    name: NameArgument,
    version: Annotated[str, typer.Argument(help="v0002, or an alias: challenger.")],
    alias: Annotated[Alias, typer.Option("--alias", help="Which alias to move.")] = "champion",
    reason: ReasonOption = "",
    expected: ExpectedOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Point an alias at a stored version."""
    store = _open(config, overrides)
    _tell(name, store.promote(name, version, alias=alias, reason=reason, expected=expected), as_json=as_json)


@app.command("rollback")
def roll_back(
    name: NameArgument,
    reason: ReasonOption = "",
    expected: ExpectedOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Point champion at the version that was champion before; again, and it goes one step further back."""
    _tell(name, _open(config, overrides).roll_back(name, reason=reason, expected=expected), as_json=as_json)


@app.command("sync")
def sync(name: OneOrAllArgument = None, config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Tell the trackers of [tracking] every version that they do not know, and the aliases."""
    settings = load_settings(config, overrides=overrides or ())
    trackers = trackers_of(settings.tracking)
    if not trackers:
        raise ConfigError(
            "neither tracking.mlflow_url nor tracking.wandb_project is set: there is nobody to tell; "
            "name one in the config"
        )
    store = open_store(settings)
    for one in _names(store, name):
        told = [tracker(store, one) for tracker in trackers]
        print(f"{one}: {' and '.join(map(str, told))} versions told")


@app.command("prune")
def prune_models(
    name: OneOrAllArgument = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete; without it, only say what would go.")] = False,
    newest: Annotated[int, typer.Option("--newest", min=1, help="Newest versions that stay.")] = 5,
    champions: Annotated[int, typer.Option("--champions", min=0, help="Earlier champions that stay.")] = 3,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which versions no alias, run or roll-back needs, and with --delete delete them."""
    settings = load_settings(config, overrides=overrides or ())
    store = open_store(settings)
    keep = Keep(newest=newest, champions=champions, used=_used_by_runs(settings))
    act: Callable[..., list[Verdict]] = prune if delete else judge_versions
    verdicts = [verdict for one in _names(store, name) for verdict in act(store, one, keep=keep)]
    doomed = [verdict for verdict in verdicts if not verdict.kept_because]
    if as_json:
        print(json.dumps({"deleted": delete, "versions": [asdict(verdict) for verdict in verdicts]}))
        return
    _show([asdict(verdict) for verdict in verdicts], title="versions")
    size_mb = sum(verdict.num_bytes for verdict in doomed) / 1e6
    done = "deleted" if delete else "would go with --delete"
    Console(highlight=False).print(f"{len(doomed)} of {len(verdicts)} versions, {size_mb:,.1f} MB: {done}")


def _open(config: str | None, overrides: list[str] | None) -> ArtifactStore:
    return open_store(load_settings(config, overrides=overrides or ()))


def _used_by_runs(settings: Settings) -> dict[str, set[str]]:
    """Versions that stored plan runs were computed from: whoever asks why a line was proposed needs them."""
    from serve.store.database import open_database  # here: 'models list' needs no database
    from serve.store.tables import PlanRun

    if settings.serve.database_url is None and not (settings.home / "restock.db").exists():
        return {}
    used: dict[str, set[str]] = {}
    database = open_database(settings)
    try:
        with database.reading() as session:
            for sources in session.scalars(select(PlanRun.sources)):
                for name, version in sources.get("models", {}).items():
                    used.setdefault(name, set()).add(version)
    finally:
        database.close()
    return used


def _names(store: ArtifactStore, prefix: str | None) -> list[str]:
    names = store.names(prefix or "")
    if not names:
        raise ArtifactError(f"no model {prefix or ''} in {store.storage.place}; train one with 'restock train'")
    return names


def _version_rows(store: ArtifactStore, name: str) -> list[dict[str, Any]]:
    pointing: dict[str, list[str]] = {}
    for alias, version in store.aliases(name).items():
        pointing.setdefault(version, []).append(alias)
    rows = []
    for version in store.versions(name):
        manifest = store.manifest(name, version)
        rows.append(
            {
                "name": name,
                "version": version,
                "aliases": ", ".join(sorted(pointing.get(version, []))),
                "kind": manifest.kind,
                "created_at": manifest.created_at.isoformat(timespec="seconds"),
                "trained_until_on": manifest.trained_until_on.isoformat(),
                "data_digest": manifest.data_digest,
                "code_digest": manifest.code_digest,
            }
        )
    return rows


def _tell(name: str, move: Promotion, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"name": name} | move.model_dump(mode="json")))
        return
    Console(highlight=False).print(
        f"{move.alias} of {name}: {move.previous or 'none'} -> {move.version}, by {move.by}; a running service "
        "takes it at its next refresh",
        markup=False,
        soft_wrap=True,
    )


def _show(rows: list[dict[str, Any]], *, title: str) -> None:
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*(str("-" if value in (None, "") else value) for value in row.values()))
    Console(highlight=False).print(table)
