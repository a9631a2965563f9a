"""Garbage collection never takes what an alias, a run or a roll-back needs."""

import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_store import make_store

from cluster.pruning import Keep, judge_versions, prune


def kept(verdicts):
    return {verdict.version: verdict.kept_because for verdict in verdicts if verdict.kept_because}


def test_every_reason_to_stay(tmp_path):
    store = make_store(tmp_path, num_versions=9)
    for version in ("v0001", "v0002", "v0004"):
        store.promote("forecaster", version)
    store.promote("forecaster", "v0005", alias="challenger")
    keep = Keep(newest=2, champions=1, used={"forecaster": {"v0003"}, "recommender": {"v0006"}})
    told = kept(judge_versions(store, "forecaster", keep=keep))
    assert told == {
        "v0002": "champion before",
        "v0003": "named by a run",
        "v0004": "champion",
        "v0005": "challenger",
        "v0008": "among the newest 2",
        "v0009": "among the newest 2",
    }
    assert len(store.versions("forecaster")) == 9
    assert kept(prune(store, "forecaster", keep=keep)) == told
    assert store.versions("forecaster") == sorted(told)


def test_the_next_version_does_not_take_a_deleted_number_of_the_newest(tmp_path):
    store = make_store(tmp_path, num_versions=3)
    prune(store, "forecaster", keep=Keep(newest=1, champions=0, used={}))
    assert make_store(tmp_path, num_versions=1).versions("forecaster") == ["v0003", "v0004"]


def test_only_drafts_of_dead_trainings_go(tmp_path):
    store = make_store(tmp_path, num_versions=1)
    for name, age_s in (("old", 2 * 24 * 3600), ("young", 60)):
        draft = tmp_path / "forecaster" / f".draft-{name}"
        draft.mkdir()
        (draft / "weights").write_text("w")
        for path in (draft / "weights", draft):
            os.utime(path, (time.time() - age_s,) * 2)
    prune(store, "forecaster", keep=Keep(used={}))
    assert [path.name for path in (tmp_path / "forecaster").glob(".draft-*")] == [".draft-young"]


def test_the_newest_version_always_stays():
    with pytest.raises(ValueError, match="newest"):
        Keep(newest=0, used={})


@settings(max_examples=30, deadline=None)
@given(
    moves=st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["champion", "challenger"])), max_size=8),
    used=st.sets(st.integers(1, 6)),
    newest=st.integers(1, 3),
    champions=st.integers(0, 2),
)
def test_after_pruning_aliases_load_and_runs_find_their_versions(tmp_path_factory, moves, used, newest, champions):
    store = make_store(tmp_path_factory.mktemp("store"), num_versions=6)
    for number, alias in moves:
        store.promote("forecaster", f"v{number:04d}", alias=alias)
    named = {f"v{number:04d}" for number in used}
    prune(store, "forecaster", keep=Keep(newest=newest, champions=champions, used={"forecaster": named}))
    left = set(store.versions("forecaster"))
    assert named <= left
    assert set(store.aliases("forecaster").values()) <= left
    assert "v0006" in left
    for alias in store.aliases("forecaster"):
        store.load("forecaster", alias)
    # Pruned again, nothing more goes.
    again = judge_versions(
        store, "forecaster", keep=Keep(newest=newest, champions=champions, used={"forecaster": named})
    )
    assert {verdict.version for verdict in again} == left
