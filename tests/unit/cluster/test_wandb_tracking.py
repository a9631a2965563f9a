"""What Weights & Biases is told, in the runs that its own client writes offline."""

import json
import struct
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from model_store import make_store

from cluster.artifacts import open_store, publish_model
from cluster.config import Settings, load_settings
from cluster.errors import ConfigError
from cluster.wandb_tracking import tell_wandb

wandb = pytest.importorskip("wandb")
_BLOCK = 32_768
_HEADER = struct.Struct("<IHB")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("WANDB_MODE", "offline")
    return load_settings(overrides=[f'home="{tmp_path}"', "tracking.wandb_project=a-shop"])


def test_a_promotion_writes_a_run_with_settings_numbers_and_aliases(settings: Settings) -> None:
    publish_model(
        "policy/milk",
        kind="ppo",
        settings=settings,
        trained_until_on=date(2024, 2, 1),
        data_digest="data",
        metrics={"test": [{"cost": 0.9}], "words": "none"},
        write=lambda folder: None,
    )
    store = open_store(settings)
    store.promote("policy/milk", "v0001")
    (run,) = records(settings.home, "run")
    assert (run.project, run.display_name, run.job_type) == ("a-shop", "policy.milk v0001", "ppo")
    config = {one.key: json.loads(one.value_json) for one in run.config.update}
    assert config["forecast.epochs"] == settings.forecast.epochs
    numbers = {one.key: json.loads(one.value_json) for one in updates(settings.home)}
    assert numbers["test.0.cost"] == 0.9
    assert "words" not in numbers
    (artifact,) = records(settings.home, "artifact")
    assert (artifact.type, artifact.name) == ("model", "policy.milk")
    assert set(artifact.aliases) == {"v0001", "champion", "latest"}  # the last is its client's own
    assert json.loads(artifact.metadata)["data_digest"] == "data"
    assert [entry.path for entry in artifact.manifest.contents] == ["manifest.json"]
    # Nothing has changed: nothing is told.
    assert tell_wandb(store, "policy/milk", project="a-shop") == 0
    assert len(list(records(settings.home, "run"))) == 1


def test_without_wandb_the_extra_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    store = make_store(open_store(settings).storage, num_versions=1)
    with pytest.raises(ConfigError, match="extra 'wandb'"):
        tell_wandb(store, "forecaster", project="a-shop")


def updates(home: Path) -> list[Any]:
    return [one for summary in records(home, "summary") for one in summary.update]


def records(home: Path, kind: str) -> Iterator[Any]:
    """Records of a kind in every offline run below a folder."""
    for path in sorted((home / "wandb").glob("offline-run-*/run-*.wandb")):
        for record in _finished(path):
            if record.WhichOneof("record_type") == kind:
                yield getattr(record, kind)


def _finished(path: Path) -> list[Any]:
    """All records of a run; its client's own process may close the file a little after the run has ended."""
    from wandb.proto import wandb_internal_pb2

    deadline_s = time.monotonic() + 60
    while True:
        found = [wandb_internal_pb2.Record.FromString(message) for message in _messages(path.read_bytes())]
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        assert time.monotonic() < deadline_s, f"{path} is never complete"
        time.sleep(0.1)


def _messages(data: bytes) -> Iterator[bytes]:
    """Messages of a log in LevelDB's form: blocks of chunks, each with checksum, length and place in its message."""
    place, message = len(b":W&B") + 3, b""
    while place + _HEADER.size <= len(data):
        left = _BLOCK - place % _BLOCK
        if left < _HEADER.size:
            place += left
            continue
        _, length, kind = _HEADER.unpack_from(data, place)
        place += _HEADER.size
        message += data[place : place + length]
        place += length
        if kind in (1, 4):  # whole, or the last of several
            yield message
            message = b""
