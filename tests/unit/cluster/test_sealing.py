"""Files that only a key opens."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.errors import ConfigError, DataError
from cluster.sealing import KEYS_VARIABLE, make_export_key, open_file, reseal_file, seal, seal_file, unseal, write_whole
from restock.cli import app

CONTENT = b"item_id,order_qty\nmilk,12\n"


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    key = make_export_key()
    monkeypatch.setenv(KEYS_VARIABLE, key)
    return key


@pytest.mark.usefixtures("key")
def test_a_file_is_replaced_by_one_that_shows_nothing_and_opens_whole(tmp_path: Path) -> None:
    plain = tmp_path / "plan.csv"
    plain.write_bytes(CONTENT)
    sealed = seal_file(plain)
    assert sealed == tmp_path / "plan.csv.sealed"
    assert not plain.exists()
    assert b"milk" not in sealed.read_bytes()
    assert sealed.stat().st_mode & 0o777 == 0o600
    open_file(sealed, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == CONTENT


@pytest.mark.usefixtures("key")
def test_a_changed_file_does_not_open() -> None:
    sealed = bytearray(seal(CONTENT))
    sealed[40] ^= 1
    with pytest.raises(DataError, match="plan: no key .* opens it, or it was changed"):
        unseal(bytes(sealed), source="plan")


def test_keys_change_without_a_gap(tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.sealed"
    write_whole(path, seal(CONTENT))
    new = make_export_key()
    monkeypatch.setenv(KEYS_VARIABLE, f"{new} {key}")
    assert unseal(path.read_bytes(), source="plan") == CONTENT
    reseal_file(path)
    monkeypatch.setenv(KEYS_VARIABLE, new)
    assert unseal(path.read_bytes(), source="plan") == CONTENT
    monkeypatch.setenv(KEYS_VARIABLE, key)
    with pytest.raises(DataError, match="no key"):
        unseal(path.read_bytes(), source="plan")


@pytest.mark.parametrize(("given", "said"), [("", "is not set"), ("short", "one of its 1 keys is none")])
def test_a_missing_or_wrong_key_is_said_before_anything_is_written(
    given: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, given)
    plain = tmp_path / "plan.csv"
    plain.write_bytes(CONTENT)
    with pytest.raises(ConfigError, match=said):
        seal_file(plain)
    assert list(tmp_path.iterdir()) == [plain]


def test_the_verbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = CliRunner()
    monkeypatch.setenv(KEYS_VARIABLE, runner.invoke(app, ["privacy", "export-key"]).output.strip())
    (tmp_path / "plan.csv").write_bytes(CONTENT)
    for arguments in (
        ["seal", str(tmp_path / "plan.csv")],
        ["reseal", str(tmp_path / "plan.csv.sealed")],
        ["open", str(tmp_path / "plan.csv.sealed"), "--out", str(tmp_path / "plain.csv")],
    ):
        result = runner.invoke(app, ["privacy", *arguments])
        assert result.exit_code == 0, result.output
    assert (tmp_path / "plain.csv").read_bytes() == CONTENT
    with pytest.raises(DataError, match="nowhere"):
        runner.invoke(app, ["privacy", "seal", str(tmp_path / "nowhere")], catch_exceptions=False)
