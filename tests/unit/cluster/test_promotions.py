"""Aliases under the lock: history, roll-back, conflicts, and many processes at once."""

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_store import make_store

from cluster.errors import ArtifactError, ConflictError
from cluster.promotions import champions_before

_PROMOTE_OFTEN = """
import sys
from pathlib import Path
from cluster.artifacts import ArtifactStore
from cluster.storage import FolderStorage

store = ArtifactStore(FolderStorage(folder=Path(sys.argv[1])))
for turn in range(20):
    store.promote("forecaster", f"v{int(sys.argv[2]):04d}", by=sys.argv[2], reason=str(turn))
"""
_ROLL_BACK_ONCE = """
import sys
from pathlib import Path
from cluster.artifacts import ArtifactStore
from cluster.storage import FolderStorage
from cluster.errors import ConflictError

try:
    print(ArtifactStore(FolderStorage(folder=Path(sys.argv[1]))).roll_back("forecaster", expected="v0003").version)
except ConflictError:
    print("conflict")
"""


def run_at_once(script: str, arguments: Sequence[Sequence[str]]) -> list[str]:
    started = [
        subprocess.Popen([sys.executable, "-c", script, *given], stdout=subprocess.PIPE, text=True)
        for given in arguments
    ]
    outputs = [process.communicate(timeout=120)[0].strip() for process in started]
    assert [process.returncode for process in started] == [0] * len(started)
    return outputs


def test_processes_that_promote_at_once_lose_no_move(tmp_path):
    store = make_store(tmp_path, num_versions=3)
    run_at_once(_PROMOTE_OFTEN, [(str(tmp_path), str(number)) for number in (1, 2, 3)])
    moves = store.promotions("forecaster")
    assert len(moves) == 60
    assert [move.previous for move in moves[1:]] == [move.version for move in moves[:-1]]
    assert store.aliases("forecaster")["champion"] == moves[-1].version
    for number in ("1", "2", "3"):
        assert [move.reason for move in moves if move.by == number] == [str(turn) for turn in range(20)]


def test_of_processes_that_roll_back_at_once_one_wins(tmp_path):
    store = make_store(tmp_path, num_versions=3)
    for version in store.versions("forecaster"):
        store.promote("forecaster", version)
    outputs = run_at_once(_ROLL_BACK_ONCE, [(str(tmp_path),)] * 4)
    assert sorted(outputs) == ["conflict", "conflict", "conflict", "v0002"]
    assert store.aliases("forecaster")["champion"] == "v0002"


def test_a_move_says_who_when_from_to_and_why(tmp_path):
    store = make_store(tmp_path, num_versions=2)
    store.promote("forecaster", "v0001", by="ada", reason="first")
    store.promote("forecaster", "v0002", alias="challenger", by="ada")
    move = store.promote("forecaster", "challenger", by="grace", reason="better on replay", expected="v0001")
    assert (move.alias, move.previous, move.version, move.kind) == ("champion", "v0001", "v0002", "promote")
    assert (move.by, move.reason) == ("grace", "better on replay")
    assert [one.by for one in store.promotions("forecaster")] == ["ada", "ada", "grace"]
    assert store.aliases("forecaster") == {"champion": "v0002", "challenger": "v0002"}


def test_without_a_name_the_user_of_the_process_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("LOGNAME", "planner-job")
    assert make_store(tmp_path, num_versions=1).promote("forecaster", "v0001").by == "planner-job"


def test_roll_backs_go_step_by_step_and_promotion_starts_anew(tmp_path):
    store = make_store(tmp_path, num_versions=4)
    for version in ("v0001", "v0002", "v0003"):
        store.promote("forecaster", version)
    assert store.roll_back("forecaster").version == "v0002"
    assert store.roll_back("forecaster").version == "v0001"
    with pytest.raises(ArtifactError, match="no earlier champion"):
        store.roll_back("forecaster")
    store.promote("forecaster", "v0004")
    assert store.roll_back("forecaster").version == "v0001"


def test_a_conflict_names_what_is_there(tmp_path):
    store = make_store(tmp_path, num_versions=2)
    store.promote("forecaster", "v0001")
    with pytest.raises(ConflictError, match="champion of forecaster is v0001, not v0002"):
        store.promote("forecaster", "v0002", expected="v0002")
    assert store.aliases("forecaster") == {"champion": "v0001"}


def test_a_version_that_is_missing_or_damaged_is_never_promoted(tmp_path):
    store = make_store(tmp_path, num_versions=2)
    store.promote("forecaster", "v0001")
    (tmp_path / "forecaster" / "v0002" / "manifest.json").write_text("{}")
    for version in ("v0002", "v0009"):
        with pytest.raises(ArtifactError):
            store.promote("forecaster", version)
    assert store.load("forecaster").version == "v0001"
    assert len(store.promotions("forecaster")) == 1


def test_aliases_without_a_history_are_read_and_can_be_rolled_back_to(tmp_path):
    store = make_store(tmp_path, num_versions=2)
    (tmp_path / "forecaster" / "aliases.json").write_text(json.dumps({"champion": "v0001"}))
    assert store.promote("forecaster", "v0002").previous == "v0001"
    assert store.roll_back("forecaster").version == "v0001"


def test_a_damaged_alias_file_is_named(tmp_path):
    store = make_store(tmp_path, num_versions=1)
    (tmp_path / "forecaster" / "aliases.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"aliases\.json cannot be read"):
        store.load("forecaster")


@settings(max_examples=40, deadline=None)
@given(moves=st.lists(st.sampled_from(["v0001", "v0002", "v0003", "back"]), max_size=12))
def test_rolling_back_is_the_inverse_of_promoting(tmp_path_factory, moves):
    """Against the plainest model: a stack of champions, where a repeated one is no step."""
    store = make_store(tmp_path_factory.mktemp("store"), num_versions=3)
    stack: list[str] = []
    for move in moves:
        if move != "back":
            store.promote("forecaster", move)
            stack.append(move)
            continue
        top = stack[-1] if stack else None
        below = [version for version in stack if version != top]
        if not below:
            with pytest.raises(ArtifactError):
                store.roll_back("forecaster")
            continue
        while stack[-1] != below[-1]:
            stack.pop()
        assert store.roll_back("forecaster").version == stack[-1]
    assert store.aliases("forecaster").get("champion") == (stack[-1] if stack else None)
    assert (stack[-1] if stack else None) not in champions_before(store.promotions("forecaster"))
