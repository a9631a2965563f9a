import json
from contextlib import nullcontext

import pytest
from small_shop import make_orders
from typer.testing import CliRunner

from cluster import cli
from cluster.errors import ConfigError
from cluster.shards import run_here


@pytest.fixture
def options(tmp_path, monkeypatch):
    monkeypatch.setattr("cluster.loading.run_on_ray", run_here)
    monkeypatch.setattr("cluster.loading.connect", lambda settings: nullcontext())
    orders = make_orders(num_days=40)
    orders[:3].vstack(orders).write_csv(tmp_path / "orders.csv")
    with (tmp_path / "orders.csv").open("a") as file:
        file.write("x,,u,2024-01-05 00:00:00,0,1\n")
    (tmp_path / "shop.toml").write_text(
        f'home = "{tmp_path}/home"\n[data.tables.orders]\nuri = "{tmp_path}/orders.csv"\n'
    )
    return ["--config", str(tmp_path / "shop.toml"), "--set", "data.num_shards=2"]


def run(*arguments):
    return CliRunner().invoke(cli.app, [*arguments], catch_exceptions=False, env={"COLUMNS": "200"})


def test_load_prints_every_broken_rule_and_where_the_rows_went(options):
    said = run("load", *options).stdout
    assert "item_id_given" in said
    assert "sold_qty_not_zero" in said
    row = next(line for line in said.splitlines() if line.startswith("│ orders") and "124" in line)
    assert [cell.strip() for cell in row.split("│")[1:7]] == ["orders", "124", "120", "3", "1", "0"]
    assert "3 series x 40 days from 2024-01-01" in said
    assert "quarantine" in said


def test_load_as_json_is_one_object(options):
    said = run("load", *options, "--json").stdout
    tree = json.loads(said.splitlines()[-1])
    assert tree["tables"][0]["rows_in"] == 124
    assert (tree["series"], tree["periods"], tree["end_on"]) == (3, 40, "2024-02-10")
    assert {rule["rule"] for rule in tree["rules"]} == {"item_id_given", "sold_qty_not_zero"}


def test_check_loads_nothing_and_hands_the_bad_rows_out(options, tmp_path):
    tree = json.loads(run("check", *options, "--json", "--quarantine", str(tmp_path / "bad")).stdout.splitlines()[-1])
    assert tree["tables"][0]["rows_quarantined"] == 1
    assert len(list((tmp_path / "bad" / "orders").iterdir())) == 1
    assert not list((tmp_path / "home" / "datasets" / "shop").iterdir())
    assert "Rules that rows break" in run("check", *options).stdout


def test_check_of_a_loaded_shop_shows_its_report(options):
    loaded = json.loads(run("load", *options, "--json").stdout.splitlines()[-1])
    checked = json.loads(run("check", *options, "--json").stdout.splitlines()[-1])
    assert checked["rules"] == loaded["rules"]


def test_a_quarantine_folder_that_is_there_is_not_mixed_with(options, tmp_path):
    (tmp_path / "bad").mkdir()
    with pytest.raises(ConfigError, match="--quarantine .*bad: exists"):
        run("check", *options, "--quarantine", str(tmp_path / "bad"))


def test_a_wrong_key_is_named(options):
    with pytest.raises(ConfigError, match=r"data\.num_shard: Extra inputs"):
        run("load", *options, "--set", "data.num_shard=3")
    with pytest.raises(ConfigError, match="no such time zone: Mars/Olympus"):
        run("load", *options, "--set", "data.timezone=Mars/Olympus")
