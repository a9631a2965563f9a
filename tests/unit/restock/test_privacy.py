"""Users by keyed hashes, and what is left of one who asks to be forgotten: nothing."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from serving_home import ITEMS, USERS, Home, make_home, make_recommender
from sqlalchemy import select
from typer.testing import CliRunner

from cluster.config import Settings, load_settings
from cluster.dataset import open_dataset
from cluster.errors import ConfigError, DataError
from cluster.feature_store import publish_features
from cluster.loading import load_dataset
from cluster.privacy import KEY_VARIABLE, RETIRED_VARIABLE, UserIds, mark_forgotten, open_user_ids, rotate_key
from cluster.shards import run_here
from recsys.forget import forget_user
from recsys.predict import Recommender
from recsys.sessions import LiveEvent
from restock.cli import app
from serve.store.database import open_database
from serve.store.live_events import keep_events
from serve.store.tables import LiveEventRow

GONE, STAYS = USERS[3], USERS[4]


@pytest.fixture
def shop(tmp_path: Path) -> Home:
    """A shop with behaviour events, a broken event and features of its users."""
    events = pl.DataFrame(
        {
            "user_id": [GONE, STAYS, GONE, None],
            "session_id": ["1", "2", "3", "4"],
            "item_id": [ITEMS[0]] * 4,
            "occurred_at": ["2024-02-01T10:00:00Z"] * 4,
            "event_type": ["view", "view", "stole", "view"],
        }
    )
    events.write_csv(tmp_path / "events.csv")
    home = make_home(
        tmp_path / "shop",
        overrides=(f'data.tables.events.uri="{tmp_path / "events.csv"}"', "data.max_quarantine_share=0.9"),
    )
    dataset = open_dataset(home.settings)
    publish_features(dataset, panel=dataset.panel(), period=dataset.num_periods)
    return home


def everything_written(folder: Path) -> str:
    """All that is stored, as text: every value of every table, and the bytes of all other files."""
    parts = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".parquet":
            table = pq.read_table(path, partitioning=None)
            parts.append(f"{path} {table.schema.metadata} {json.dumps(table.to_pylist(), default=str)}")
        elif path.is_file():
            parts.append(path.read_bytes().decode("latin-1"))
        else:
            parts.append(path.name)
    return "\n".join(parts)


def test_no_user_is_stored_by_the_name_that_the_shop_uses(shop: Home) -> None:
    written = everything_written(shop.settings.home)
    assert not [user for user in USERS if f'"{user}"' in written]
    users = open_user_ids(shop.settings)
    assert f'"{users.hash_id(STAYS)}"' in written
    assert f'"{users.hash_id(GONE)}"' in written


def test_the_ids_of_a_forgotten_user_occur_nowhere(shop: Home) -> None:
    hashed = open_user_ids(shop.settings).hash_id(GONE)
    orders = open_dataset(shop.settings).table("orders")
    assert orders is not None
    theirs = sum(user == hashed for user in orders["user_id"].to_pylist())
    found = forget_user(shop.settings, GONE)
    # One event, the quarantined one, and the row of each of the two tables of user features.
    assert (found.orders, found.rows, found.recommenders) == (theirs, 4, ("v0001",))
    written = everything_written(shop.settings.home)
    assert hashed not in written
    assert f'"{GONE}"' not in written
    assert open_user_ids(shop.settings).hash_id(STAYS) in written
    left = open_dataset(shop.settings).table("orders")
    assert left is not None
    assert left.drop_columns("user_id").equals(orders.drop_columns("user_id"))


def test_the_recommender_is_the_one_that_never_knew_the_user(shop: Home) -> None:
    forget_user(shop.settings, GONE)
    ours = Recommender.load(shop.store.load("recommender").folder)
    never = make_recommender(shop.settings)  # The orders are a guest's by now.
    users = [*never.histories.user_ids_U.tolist(), "stranger"]
    assert open_user_ids(shop.settings).hash_id(GONE) not in users
    left, right = ours.recommend(users, k=5), never.recommend(users, k=5)
    np.testing.assert_array_equal(left.item_ids_UK, right.item_ids_UK)
    np.testing.assert_allclose(left.score_UK, right.score_UK, rtol=1e-6)


def test_a_later_load_reads_a_forgotten_user_as_a_guest(shop: Home) -> None:
    users = open_user_ids(shop.settings)
    before = open_dataset(shop.settings)
    forget_user(shop.settings, GONE)
    loaded = load_dataset(shop.settings, run=run_here)
    assert loaded.digest != before.digest
    orders, events = loaded.table("orders"), loaded.table("events")
    assert orders is not None
    assert events is not None
    known = {*orders["user_id"].to_pylist(), *events["user_id"].to_pylist()}
    assert users.hash_id(GONE) not in known
    assert users.hash_id(STAYS) in known


def test_forgetting_by_command_says_what_was_done_and_twice_is_an_error(shop: Home, tmp_path: Path) -> None:
    config = tmp_path / "shop.toml"
    config.write_text(f'home = "{shop.settings.home}"\n')
    arguments = ["privacy", "forget", GONE, "--config", str(config), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    told = json.loads(result.output.splitlines()[-1])
    assert (told["recommenders"], told["live_events"]) == (["v0001"], 0)
    assert isinstance(CliRunner().invoke(app, arguments).exception, DataError)


# The key


def settings_of(folder: Path, *overrides: str) -> Settings:
    return load_settings(overrides=[f'home="{folder}"', *overrides])


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    first, second = open_user_ids(settings_of(tmp_path)), open_user_ids(settings_of(tmp_path))
    assert first == second
    path = tmp_path / "privacy" / "user.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(first.key) == 32
    assert [file.name for file in path.parent.iterdir()] == ["user.key"]
    assert open_user_ids(settings_of(tmp_path / "other")).hash_id("a") != first.hash_id("a")


def test_the_environment_gives_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "a key of the test shop")
    assert open_user_ids(settings_of(tmp_path)).key == b"a key of the test shop"
    assert not (tmp_path / "privacy").exists()
    monkeypatch.setenv(KEY_VARIABLE, "short")
    with pytest.raises(ConfigError, match="needs 16"):
        open_user_ids(settings_of(tmp_path))


def test_the_hash_is_that_of_the_standard(tmp_path: Path) -> None:
    """RFC 4231, test case 1: the key is twenty bytes of 0x0b and the text 'Hi There'."""
    assert UserIds(key=b"\x0b" * 20).hash_id("Hi There") == "b0344c61d8db38535ca8afceaf0bf12b"


def test_guests_stay_guests_and_numbers_are_names_too() -> None:
    users = UserIds(key=b"0123456789abcdef")
    hidden = users.hide(pl.Series("u", [7, None, 8, 7]))
    assert hidden.to_list() == [users.hash_id("7"), None, users.hash_id("8"), users.hash_id("7")]


def test_plain_ids_can_be_asked_for(tmp_path: Path) -> None:
    users = open_user_ids(settings_of(tmp_path, "data.user_ids=plain"))
    assert users.hash_id("anna") == "anna"
    assert not (tmp_path / "privacy").exists()


# Another key


def test_a_new_key_gives_new_names_and_still_knows_who_was_forgotten(shop: Home) -> None:
    old = open_user_ids(shop.settings)
    forget_user(shop.settings, GONE)
    rotate_key(shop.settings)
    rotate_key(shop.settings)
    new = open_user_ids(shop.settings)
    assert new.key not in (old.key, *new.retired)
    assert new.retired[0] == old.key
    assert len(new.retired) == 2
    assert new.hash_id(STAYS) != old.hash_id(STAYS)
    assert new.fingerprint != old.fingerprint
    hidden = new.hide(pl.Series("u", [GONE, STAYS, None]))
    assert hidden.to_list() == [None, new.hash_id(STAYS), None]
    # The next load reads everything under the new names; the forgotten stay guests.
    users = set(load_dataset(shop.settings, run=run_here).table("orders")["user_id"].to_pylist())
    assert new.hash_id(STAYS) in users
    assert not users & {old.hash_id(STAYS), old.hash_id(GONE), new.hash_id(GONE)}


def test_retired_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    open_user_ids(settings_of(tmp_path))
    rotate_key(settings_of(tmp_path))
    for path in (tmp_path / "privacy").rglob("*.key"):
        assert path.stat().st_mode & 0o777 == 0o600
        assert len(path.read_bytes()) == 32
    assert (tmp_path / "privacy" / "retired").stat().st_mode & 0o777 == 0o700


def test_keys_of_the_environment_are_replaced_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path)
    monkeypatch.setenv(KEY_VARIABLE, "a key of the test shop")
    with pytest.raises(ConfigError, match=RETIRED_VARIABLE):
        rotate_key(settings)
    mark_forgotten(settings, open_user_ids(settings).hash_id("ada"))
    monkeypatch.setenv(KEY_VARIABLE, "another-key-of-the-shop")
    assert open_user_ids(settings).hide(pl.Series("u", ["ada"])).to_list() != [None]
    monkeypatch.setenv(RETIRED_VARIABLE, "a-third-one-of-the-shop the-first-one-of-the-shop")
    assert open_user_ids(settings).retired == (b"a-third-one-of-the-shop", b"the-first-one-of-the-shop")
    with pytest.raises(ConfigError, match="plain"):
        rotate_key(settings_of(tmp_path, "data.user_ids=plain"))


# Live events


def test_live_events_are_deleted_under_every_key_and_are_enough_to_be_known(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    then = open_user_ids(settings)
    rotate_key(settings)
    now = open_user_ids(settings)
    database = open_database(settings)
    seen = {name: [LiveEvent(item_id="a")] for name in (then.hash_id(GONE), now.hash_id(GONE), now.hash_id(STAYS))}
    with database.writing() as session:
        assert keep_events(session, seen, now=datetime.now(UTC)) == 3
    config = tmp_path / "shop.toml"
    config.write_text(f'home = "{settings.home}"\n')
    arguments = ["privacy", "forget", GONE, "--config", str(config), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.output.splitlines()[-1])["live_events"] == 2
    with database.reading() as session:
        assert session.scalars(select(LiveEventRow.user_id)).all() == [now.hash_id(STAYS)]
    assert open_user_ids(settings).hide(pl.Series("u", [GONE])).to_list() == [None]
    assert isinstance(CliRunner().invoke(app, arguments).exception, DataError)
