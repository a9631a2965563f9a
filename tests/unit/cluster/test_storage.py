"""Both storages keep the same promises; the object store is a real server that speaks S3."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from model_store import make_store
from object_store import serve_objects

from benchmarks.order_lines import TODAY, OrderLines, shop_settings
from cluster.artifacts import ArtifactStore, open_store
from cluster.config import Settings, load_settings
from cluster.dataset import open_dataset
from cluster.doctor import _storage
from cluster.errors import ArtifactError, ConfigError, ConflictError, StorageError
from cluster.loading import load_dataset
from cluster.privacy import KEY_VARIABLE, mark_forgotten, open_user_ids
from cluster.pruning import Keep, prune
from cluster.shards import run_here
from cluster.storage import Storage, open_storage


class Machines:
    """Settings of machines that share a storage: one folder, or an object store behind folders of their own."""

    def __init__(self, root: Path, options: tuple[str, ...], *, share_home: bool) -> None:
        self._root, self._options, self._share_home = root, options, share_home

    def settings(self, name: str, *options: str) -> Settings:
        home = self._root / ("shared" if self._share_home else name)
        return load_settings(overrides=[f'home="{home}"', *self._options, *options])

    def storage(self, name: str) -> Storage:
        return open_storage(self.settings(name))

    def store(self, name: str) -> ArtifactStore:
        return open_store(self.settings(name))


@pytest.fixture(params=["folder", "objects"])
def machines(request, tmp_path, monkeypatch) -> Iterator[Machines]:
    monkeypatch.setenv(KEY_VARIABLE, "a key for all machines")
    if request.param == "folder":
        yield Machines(tmp_path, (), share_home=True)
        return
    with serve_objects(monkeypatch) as (url, endpoint):
        options = (f'storage.url="{url}/some/prefix"', f'storage.endpoint="{endpoint}"')
        yield Machines(tmp_path, options, share_home=False)


def make_draft(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def at_once(count: int, work) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_folder_appears_whole_and_one_of_two_publishers_wins(machines, tmp_path):
    first, second = machines.storage("first"), machines.storage("second")
    assert first.fetch("x/v1") is None
    assert first.publish(make_draft(tmp_path / "one", a="1", deep__b="2"), "x/v1")
    assert not second.publish(make_draft(tmp_path / "two", a="3"), "x/v1")
    folder = second.fetch("x/v1")
    assert (folder / "a").read_text() == "1"
    assert (folder / "deep" / "b").read_text() == "2"
    assert first.children("x") == second.children("x") == ["v1"]
    assert second.read_file("x/v1", "deep/b") == b"2"
    assert second.read_file("x/v1", "c") is None


def test_a_replaced_or_saved_folder_is_fetched_anew_and_loses_what_it_lost(machines, tmp_path):
    first, second = machines.storage("first"), machines.storage("second")
    first.publish(make_draft(tmp_path / "one", a="1", b="1"), "v1")
    second.fetch("v1")
    first.replace(make_draft(tmp_path / "two", a="2"), "v1")
    assert sorted(path.name for path in second.fetch("v1").iterdir() if path.name[0] != ".") == ["a"]
    (first.folder / "v1" / "c").write_text("3")
    first.save("v1")
    assert (second.fetch("v1") / "a").read_text() == "2"
    assert (second.fetch("v1") / "c").read_text() == "3"
    first.remove("v1")
    assert second.fetch("v1") is None
    assert second.children("") == []


def test_changes_of_a_document_at_once_lose_none(machines):
    def add(number: int) -> None:
        storage = machines.storage(f"machine-{number}")
        for turn in range(5):
            move = [number, turn]
            storage.change("count", lambda found, move=move: json.dumps([*json.loads(found or b"[]"), move]).encode())

    at_once(4, add)
    assert sorted(json.loads(machines.storage("another").read("count"))) == [[n, t] for n in range(4) for t in range(5)]


def test_versions_of_trainers_at_once_have_numbers_of_their_own(machines):
    at_once(4, lambda number: make_store(machines.storage(f"machine-{number}").below("models"), num_versions=2))
    store = machines.store("another")
    assert store.versions("forecaster") == [f"v{number:04d}" for number in range(1, 9)]
    assert store.names() == ["forecaster"]
    for version in store.versions("forecaster"):
        assert (store.load("forecaster", version).folder / "weights").read_text() == "w"


def test_what_one_machine_promotes_another_serves(machines):
    trainer, server = machines.store("trainer"), machines.store("server")
    make_store(trainer.storage, num_versions=3, name="policy/milk")
    trainer.promote("policy/milk", "v0002")
    assert server.load("policy/milk").version == "v0002"
    server.promote("policy/milk", "v0003", expected="v0002")
    with pytest.raises(ConflictError, match="champion of policy/milk is v0003, not v0002"):
        trainer.promote("policy/milk", "v0001", expected="v0002")
    assert trainer.roll_back("policy/milk").version == "v0002"
    assert [move.version for move in server.promotions("policy/milk")] == ["v0002", "v0003", "v0002"]


def test_pruned_versions_are_gone_everywhere_and_cannot_be_promoted(machines):
    trainer, server = machines.store("trainer"), machines.store("server")
    make_store(trainer.storage, num_versions=3)
    server.promote("forecaster", "v0002")
    server.load("forecaster", "v0001")
    verdicts = prune(trainer, "forecaster", keep=Keep(newest=1, used={}))
    assert [verdict.version for verdict in verdicts if not verdict.kept_because] == ["v0001"]
    assert server.versions("forecaster") == ["v0002", "v0003"]
    with pytest.raises(ArtifactError, match="no v0001 of model 'forecaster'"):
        server.promote("forecaster", "v0001")


def test_a_version_that_is_about_to_go_is_not_promoted(machines):
    store = make_store(machines.store("trainer").storage, num_versions=2)
    store.change_aliases("forecaster", lambda aliases: aliases.model_copy(update={"pruned": ("v0001",)}))
    with pytest.raises(ArtifactError, match="no v0001"):
        store.promote("forecaster", "v0001")


def test_a_dataset_is_loaded_here_and_opened_there(machines, tmp_path):
    OrderLines(num_rows=400).write(tmp_path / "orders")
    shop = shop_settings(tmp_path / "orders", tmp_path).data

    def settings(machine: str) -> Settings:
        return machines.settings(machine).model_copy(update={"data": shop})

    loaded = load_dataset(settings("loader"), today=TODAY, run=run_here)
    opened = open_dataset(settings("reader"))
    assert opened.digest == loaded.digest
    assert opened.table("orders").sort_by("order_id") == loaded.table("orders").sort_by("order_id")


def test_who_was_forgotten_on_one_machine_is_on_all(machines):
    here, there = machines.settings("here"), machines.settings("there")
    mark_forgotten(here, open_user_ids(here).hash_id("ada"))
    assert open_user_ids(there).forgotten == open_user_ids(here).forgotten != frozenset()


@pytest.fixture
def objects(tmp_path, monkeypatch) -> Iterator[Machines]:
    with serve_objects(monkeypatch) as (url, endpoint):
        options = (f'storage.url="{url}"', f'storage.endpoint="{endpoint}"')
        yield Machines(tmp_path, options, share_home=False)


def test_an_upload_that_never_became_a_version_is_swept_when_it_is_old(objects, tmp_path, monkeypatch):
    storage = objects.storage("one")
    storage.publish(make_draft(tmp_path / "draft", a="1"), "x/v1")
    storage._upload(make_draft(tmp_path / "lost", a="2"), "x/v2")
    storage.sweep("x")
    assert len([path for path, _ in storage._listed("x/v2/")]) == 1
    monkeypatch.setattr("cluster.object_storage.DRAFT_AGE_S", -1)
    storage.sweep("x")
    assert storage._listed("x/v2/") == []
    assert (objects.storage("two").fetch("x/v1") / "a").read_text() == "1"


def test_the_doctor_tries_the_conditions_that_promotion_stands_on(objects):
    (check,) = _storage(objects.settings("one"))
    assert check.state == "passed", check.found
    (check,) = _storage(objects.settings("one", 'storage.url="s3://another-bucket"'))
    assert check.state == "failed"
    assert "check storage.url" in check.next_step
    assert objects.storage("one")._listed("") == []


def test_a_bucket_that_is_not_there_is_an_error_of_ours(objects):
    settings = objects.settings("one", 'storage.url="s3://another-bucket"')
    with pytest.raises(StorageError, match=r"s3://another-bucket.*check storage\.url"):
        open_storage(settings).change("x", lambda found: b"1")


def test_a_key_of_one_home_is_refused_where_machines_have_their_own(objects, monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=KEY_VARIABLE):
        open_user_ids(objects.settings("one"))


def test_an_endpoint_without_a_url_is_refused():
    with pytest.raises(ConfigError, match=r"set storage\.url too"):
        load_settings(overrides=['storage.endpoint="http://minio:9000"'])
