"""``restock plans``: the life of a plan without HTTP, and the same plan as over HTTP."""

import csv
import json
from pathlib import Path

import pytest
from serving_home import AFTER_ON, ITEMS, Home
from typer.testing import CliRunner, Result

from cluster.config import Settings
from cluster.errors import PlanningError, RestockError
from serve.plans import cli as plans_cli
from serve.store.database import open_database
from serve.store.stock_book import Count, Counted, take_count


@pytest.fixture
def settings(home: Home, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    serve = home.settings.serve.model_copy(update={"database_url": database_url})
    settings = home.settings.model_copy(update={"serve": serve})
    monkeypatch.setattr(plans_cli, "load_settings", lambda *_, **__: settings)
    database = open_database(settings)
    stock = [Counted(item_id=item, location_id="main", on_hand_qty=1.0) for item in ITEMS]
    with database.writing() as session:
        count = Count(counted_on=AFTER_ON, stock=stock, open_orders=None, is_complete=True)
        take_count(session, count, actor="test", source="test")
    database.close()
    return settings


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(plans_cli.app, list(arguments))
    if isinstance(result.exception, RestockError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def test_a_plan_is_made_shown_approved_and_exported(settings: Settings, tmp_path: Path) -> None:
    made = json.loads(run("make", "--json").stdout)
    run_id = made["run_id"]
    assert (made["state"], made["num_planned"], made["counted_on"] is not None) == ("done", len(ITEMS), True)
    assert json.loads(run("make", "--json").stdout)["run_id"] == run_id
    assert [row["run_id"] for row in json.loads(run("list", "--json").stdout)["runs"]] == [run_id]
    assert run_id in run("list").stdout
    lines = json.loads(run("show", run_id, "--json").stdout)["lines"]
    ordering = [line for line in lines if line["order_qty"]]
    assert ordering
    numbers = [line["line_id"].rpartition(".")[2] for line in ordering]
    options = [part for number in numbers for part in ("--line", number)]
    assert len(json.loads(run("approve", run_id, *options, "--json").stdout)["approved"]) == len(ordering)
    assert "refused" in run("approve", run_id, "--line", numbers[0], code=6).stdout
    out = tmp_path / "orders.csv"
    exported = run("export", run_id, "--out", str(out)).stdout
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert {row["line_id"] for row in rows} == {line["line_id"] for line in ordering}
    export_id = exported.rpartition("(")[2].rstrip(")\n")
    again = tmp_path / "again.csv"
    run("export", run_id, "--out", str(again), "--again", export_id)
    assert again.read_bytes() == out.read_bytes()


def test_what_cannot_be_done_is_said(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(RestockError, match="no run 'nothing'"):
        run("show", "nothing")
    with pytest.raises(RestockError, match="no such mark"):
        run("show", "nothing", "--mark", "urgent")
    with pytest.raises(PlanningError, match="change the file's suffix"):
        run("export", "nothing", "--out", str(tmp_path / "orders.xlsx"))
    run_id = json.loads(run("make", "--json").stdout)["run_id"]
    with pytest.raises(RestockError, match="has no line 99"):
        run("approve", run_id, "--line", "99")
    with pytest.raises(RestockError, match="waits to be exported"):
        run("export", run_id, "--out", str(tmp_path / "orders.csv"))
