"""The command line on a weekly shop that is known by its mapping file only."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from datetime import datetime
from urllib.request import urlopen

import polars as pl
import pytest
from conftest import TRAINED_UNTIL, write_shop

from cluster.artifacts import ArtifactStore
from cluster.storage import FolderStorage

pytestmark = pytest.mark.e2e


def write_stock(path, *, day, on_hand=5, items=12):
    frame = pl.DataFrame(
        {
            "item_id": [f"A{item:02d}" for item in range(items)],
            "on_hand_qty": [on_hand] * items,
            "snapshot_on": [day] * items,
        }
    )
    frame.write_csv(path)
    return str(path)


@pytest.fixture
def plan(restock, trained_shop, tmp_path):
    def run(*arguments, day=TRAINED_UNTIL, config=trained_shop / "shop.toml", out="plan.csv"):
        ran = restock("plan", "--config", str(config), "--as-of", day, "--out", str(tmp_path / out), *arguments)
        return ran, tmp_path / out

    return run


def test_models_are_published_with_what_they_have_seen(trained_shop):
    store = ArtifactStore(FolderStorage(folder=trained_shop / "home" / "models"))
    assert {"forecaster", "recommender", "policy/default"} < set(store.names())
    for name in store.names():
        manifest = store.load(name).manifest
        assert manifest.seed == 3
        assert manifest.trained_until_on.isoformat() <= TRAINED_UNTIL
        assert manifest.config["data"]["name"] == "bakery"


def test_a_plan_has_a_line_a_ledger_and_a_reason_for_every_series(plan, tmp_path):
    stock = write_stock(tmp_path / "stock.csv", day=TRAINED_UNTIL)
    ran, out = plan("--stock", stock)
    assert ran.code == 0, ran.err
    lines = pl.read_csv(out)
    assert lines.height == 12
    assert (lines["on_hand_qty"] == 5).all()
    ledger = lines.select(pl.sum_horizontal(pl.selectors.matches(r"^ledger_.*_qty$")))
    assert (ledger.to_series() == lines["order_qty"]).all()
    assert (lines["reason"].str.len_chars() > 20).all()
    assert lines["order_qty"].sum() > 0
    assert "assumed" in ran.out


def test_what_is_on_order_is_not_ordered_again(plan, tmp_path):
    stock = write_stock(tmp_path / "stock.csv", day=TRAINED_UNTIL)
    coming = pl.DataFrame({"item_id": ["A05"], "open_qty": [500], "expected_on": ["2024-04-08"]})
    coming.write_csv(tmp_path / "open.csv")
    (_, without), (ran, with_it) = (
        plan("--stock", stock, out="a.csv"),
        plan("--stock", stock, "--open-orders", str(tmp_path / "open.csv"), out="b.csv"),
    )
    assert ran.code == 0, ran.err
    before, after = (pl.read_csv(path).filter(pl.col("item_id") == "A05") for path in (without, with_it))
    assert before["order_qty"].item() > 0
    assert (after["order_qty"].item(), after["on_order_qty"].item()) == (0, 500)


def test_nothing_from_the_day_on_is_read(plan, restock, trained_shop, tmp_path):
    other = tmp_path / "other"
    write_shop(other, change_after=datetime.fromisoformat(TRAINED_UNTIL))
    assert restock("data", "load", "--config", str(other / "shop.toml")).code == 0
    shutil.copytree(trained_shop / "home" / "models", other / "home" / "models")
    stock = write_stock(tmp_path / "stock.csv", day=TRAINED_UNTIL)
    _, ours = plan("--stock", stock, out="ours.csv")
    ran, theirs = plan("--stock", stock, config=other / "shop.toml", out="theirs.csv")
    assert ran.code == 0, ran.err
    assert ours.read_bytes() == theirs.read_bytes()


def test_a_day_that_the_models_have_seen_is_refused(plan, tmp_path):
    ran, out = plan("--stock", write_stock(tmp_path / "stock.csv", day="2024-02-05"), day="2024-02-05")
    assert ran.code == 5
    assert "restock train all --until 2024-02-05" in ran.err
    assert not out.exists()


def test_a_snapshot_of_another_day_is_refused(plan, tmp_path):
    ran, out = plan("--stock", write_stock(tmp_path / "old.csv", day="2024-03-25"))
    assert ran.code == 5
    assert "old.csv" in ran.err
    assert "2024-03-25" in ran.err
    assert not out.exists()


def test_a_later_day_is_planned_from_its_own_history(plan, tmp_path):
    ran, out = plan("--stock", write_stock(tmp_path / "stock.csv", day="2024-04-22"), day="2024-04-22", out="p.parquet")
    assert ran.code == 0, ran.err
    assert pl.read_parquet(out)["order_on"].unique().cast(pl.String).to_list() == ["2024-04-22"]


def test_loading_again_does_nothing(restock, trained_shop):
    first, second = (restock("data", "load", "--json", "--config", str(trained_shop / "shop.toml")) for _ in range(2))
    assert first.code == second.code == 0
    assert json.loads(first.out.splitlines()[-1]) == json.loads(second.out.splitlines()[-1])


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["data", "load", "--set", "data.tables.orders.uri=nowhere.csv"], 3, "nowhere.csv"),
        (["data", "load", "--set", "data.frequncy=W"], 2, "data.frequncy"),
        (["data", "load", "--set", "data.tables.orders.columns.order_id=Rechnung"], 3, "Rechnung"),
        (["data", "load", "--config", "no-such.toml"], 2, "no-such.toml"),
        (["train", "all", "--until", "2023-01-30"], 3, "history"),
        (["train", "all", "--until", "soon"], 2, "YYYY-MM-DD"),
        (["plan", "--stock", "nothing.csv"], 3, "nothing.csv"),
        (["plan", "--out", "plan.xlsx"], 5, ".csv or .parquet"),
        (["serve", "--set", "home=/nonexistent/home"], 3, "restock data load"),
    ],
)
def test_bad_input_is_named_without_a_trace(restock, trained_shop, arguments, code, says):
    given = arguments if "--config" in arguments else [*arguments, "--config", str(trained_shop / "shop.toml")]
    ran = restock(*given)
    assert ran.code == code, ran.err
    assert says in ran.err
    assert "Traceback" not in ran.err


def test_the_service_answers_until_ctrl_c(trained_shop):
    command = [sys.executable, "-u", "-m", "restock.cli", "serve", "--config", str(trained_shop / "shop.toml")]
    # A Ray of its own: the tests' Ray must not see this service come and go.
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    process = subprocess.Popen(
        [*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        url = None
        for line in process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                url = found.group()
                break
        assert url, process.stderr.read()
        with urlopen(f"{url}/readyz", timeout=60) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=90) == 0
        assert "Traceback" not in process.stderr.read()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_help_lists_the_verbs(restock):
    ran = restock("--help")
    assert ran.code == 0
    for verb in ("demo", "data", "train", "backtest", "explain", "plan", "serve", "doctor", "config"):
        assert verb in ran.out
