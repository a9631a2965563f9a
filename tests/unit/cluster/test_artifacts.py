import json
import threading
from datetime import date

import pytest

from cluster.artifacts import ArtifactStore
from cluster.errors import ArtifactError, StaleInputError
from cluster.manifest import digest_of, make_manifest, slug_of
from cluster.storage import FolderStorage


def publish(store, name="forecaster", text="weights", until=date(2017, 11, 6)):
    manifest = make_manifest(
        name,
        kind="lstm",
        seed=0,
        trained_until_on=until,
        config={"epochs": 3},
        data_digest="d",
        metrics={"wql": 0.5},
    )
    with store.writing(name) as draft:
        (draft / "weights.txt").write_text(text)
        return store.publish(draft, manifest)


def test_versions_grow_and_never_change(tmp_path):
    store = ArtifactStore(FolderStorage(folder=tmp_path))
    first, second = publish(store, text="a"), publish(store, text="b")
    assert [first.version, second.version] == store.versions("forecaster") == ["v0001", "v0002"]
    assert (first.folder / "weights.txt").read_text() == "a"


def test_an_alias_moves_and_is_read_back(tmp_path):
    store = ArtifactStore(FolderStorage(folder=tmp_path))
    first, second = publish(store), publish(store)
    store.promote("forecaster", first.version)
    store.promote("forecaster", second.version, alias="challenger")
    assert store.load("forecaster").version == "v0001"
    assert store.load("forecaster", "challenger").version == "v0002"
    store.promote("forecaster", second.version)
    assert store.load("forecaster").version == "v0002"


def test_an_interrupted_write_leaves_no_version(tmp_path):
    store = ArtifactStore(FolderStorage(folder=tmp_path))

    def write_half():
        with store.writing("forecaster") as draft:
            (draft / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert store.versions("forecaster") == []
    assert list((tmp_path / "forecaster").iterdir()) == []


def test_two_writers_at_once_get_two_versions(tmp_path):
    store = ArtifactStore(FolderStorage(folder=tmp_path))
    threads = [threading.Thread(target=publish, args=(store,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.versions("forecaster")) == 8


def test_a_missing_model_says_how_to_get_it(tmp_path):
    with pytest.raises(ArtifactError, match="no champion of model 'forecaster' .*restock train"):
        ArtifactStore(FolderStorage(folder=tmp_path)).load("forecaster")


def test_a_plan_of_the_past_gets_a_model_that_has_not_seen_it(tmp_path):
    store = ArtifactStore(FolderStorage(folder=tmp_path))
    old = publish(store, until=date(2017, 6, 1))
    new = publish(store, until=date(2017, 12, 1))
    store.promote("forecaster", new.version)
    assert store.load_as_of("forecaster", date(2017, 12, 1)).version == new.version
    assert store.load_as_of("forecaster", date(2017, 11, 30)).version == old.version
    with pytest.raises(StaleInputError, match="restock train all --until 2017-05-31"):
        store.load_as_of("forecaster", date(2017, 5, 31))


def test_a_damaged_manifest_is_named(tmp_path):
    store = ArtifactStore(FolderStorage(folder=tmp_path))
    stored = publish(store)
    (stored.folder / "manifest.json").write_text(json.dumps({"name": "forecaster"}))
    with pytest.raises(ArtifactError, match=r"v0001/manifest\.json cannot be read"):
        store.load("forecaster", "v0001")


@pytest.mark.parametrize("name", ["../evil", "a/b/c", "", "a b", "policy/.."])
def test_names_cannot_leave_the_store(tmp_path, name):
    with pytest.raises(ArtifactError, match="may hold letters"):
        ArtifactStore(FolderStorage(folder=tmp_path)).load(name)


def test_slugs_of_different_categories_differ():
    assert slug_of("A/B") != slug_of("A B")
    assert slug_of("日本") != slug_of("中国")


def test_a_digest_does_not_depend_on_key_order():
    assert digest_of({"a": 1, "b": date(2017, 1, 1)}) == digest_of({"b": date(2017, 1, 1), "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})
