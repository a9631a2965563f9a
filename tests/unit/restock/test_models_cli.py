"""``restock models`` on a store with real versions."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from model_store import make_store
from typer.testing import CliRunner

from cluster.artifacts import ArtifactStore
from cluster.config import load_settings
from cluster.errors import ArtifactError, ConflictError
from cluster.schema import OPEN_ORDERS
from restock.cli import app
from serve.plans.runs import make_inputs, open_run
from serve.store.database import open_database
from serve.store.stock_book import Book


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    make_store(tmp_path / "models", num_versions=2, name="policy/milk")
    return make_store(tmp_path / "models", num_versions=8)


def run(store: ArtifactStore, *arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["models", *arguments, "--set", f'home="{store.root.parent}"', "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return json.loads(result.output.splitlines()[-1])


def test_promoted_listed_and_rolled_back(store: ArtifactStore) -> None:
    for version in ("v0007", "v0008"):
        moved = run(store, "promote", "forecaster", version, "--reason", "better")
    assert (moved["previous"], moved["version"], moved["reason"]) == ("v0007", "v0008", "better")
    listed = run(store, "list", "forecaster")
    aliases = {row["version"]: row["aliases"] for row in listed["versions"]}
    assert len(aliases) == 8
    assert (aliases["v0007"], aliases["v0008"]) == ("", "champion")
    assert [move["version"] for move in listed["promotions"]] == ["v0007", "v0008"]
    assert run(store, "rollback", "forecaster", "--expected", "v0008")["version"] == "v0007"
    with pytest.raises(ConflictError):
        run(store, "rollback", "forecaster", "--expected", "v0008")


def test_prune_says_first_and_deletes_when_told(store: ArtifactStore) -> None:
    store.promote("forecaster", "v0001")
    dry = run(store, "prune", "--newest", "2")
    going = [row["version"] for row in dry["versions"] if not row["kept_because"]]
    assert going == ["v0002", "v0003", "v0004", "v0005", "v0006"]
    assert len(store.versions("forecaster")) == 8
    assert all(row["num_bytes"] > 0 for row in dry["versions"])
    run(store, "prune", "forecaster", "--newest", "1", "--delete")
    assert store.versions("forecaster") == ["v0001", "v0008"]
    assert store.versions("policy/milk") == ["v0001", "v0002"]


def test_versions_that_a_plan_run_was_computed_from_stay(store: ArtifactStore) -> None:
    settings = load_settings(overrides=[f'home="{store.root.parent}"'])
    database = open_database(settings)
    book = Book(counted_on=None, stock=None, open_orders=OPEN_ORDERS.empty_table(), num_decisions={}, snoozed_until={})
    sources = {"models": {"forecaster": "v0003", "policy/milk": "v0001"}}
    inputs = make_inputs(on_date=date(2024, 1, 1), sources=sources, series=[(("a", "b"), False)], book=book)
    open_run(database, inputs, actor="ada")
    database.close()
    run(store, "prune", "--newest", "1", "--delete")
    assert store.versions("forecaster") == ["v0003", "v0008"]
    assert store.versions("policy/milk") == ["v0001", "v0002"]


def test_an_unknown_model_is_named(store: ArtifactStore) -> None:
    for verb in (("list", "ghost"), ("prune", "ghost"), ("promote", "ghost", "v0001"), ("rollback", "ghost")):
        with pytest.raises(ArtifactError, match="ghost"):
            run(store, *verb)


def test_tables_for_people(store: ArtifactStore) -> None:
    store.promote("forecaster", "v0002", by="ada", reason="first")
    home = ["--set", f'home="{store.root.parent}"']
    listed = CliRunner().invoke(app, ["models", "list", *home], terminal_width=200)
    assert listed.exit_code == 0
    assert "moves of the aliases" in listed.output
    pruned = CliRunner().invoke(app, ["models", "prune", *home])
    assert "2 of 10 versions" in pruned.output
