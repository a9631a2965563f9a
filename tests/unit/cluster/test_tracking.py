"""What an MLflow server is told, on a real one: MLflow's own store over SQLite, without its web server."""

import logging
from datetime import date
from pathlib import Path

import pytest
from model_store import make_store

from cluster.artifacts import open_store, publish_model
from cluster.config import Settings, load_settings
from cluster.errors import ConfigError
from cluster.mlflow_tracking import VERSION_TAG, tell_mlflow
from cluster.tracked import registry_name

mlflow = pytest.importorskip("mlflow")
FORECASTER, POLICY = "forecaster", "policy/milk"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    make_store(tmp_path / "models", num_versions=2)
    make_store(tmp_path / "models", num_versions=1, name=POLICY)
    return load_settings(overrides=[f'home="{tmp_path}"', f'tracking.mlflow_url="sqlite:///{tmp_path}/mlflow.db"'])


@pytest.fixture(autouse=True)
def artifacts_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over SQLite, MLflow keeps artifacts in the working folder."""
    monkeypatch.chdir(tmp_path)


def aliases(settings: Settings, name: str) -> dict[str, str]:
    """Alias -> our version, as MLflow's registry has it."""
    client = mlflow.MlflowClient(settings.tracking.mlflow_url, settings.tracking.mlflow_url)
    title = registry_name(name)
    pointing = client.get_registered_model(title).aliases
    return {alias: client.get_model_version(title, number).tags[VERSION_TAG] for alias, number in pointing.items()}


def test_promotions_and_roll_backs_reach_the_registry(settings: Settings) -> None:
    store = open_store(settings)
    store.promote(FORECASTER, "v0001")
    store.promote(FORECASTER, "v0002")
    store.promote(POLICY, "v0001", alias="challenger")
    assert aliases(settings, FORECASTER) == {"champion": "v0002"}
    assert aliases(settings, POLICY) == {"challenger": "v0001"}
    store.roll_back(FORECASTER)
    assert aliases(settings, FORECASTER) == {"champion": "v0001"}


def test_a_version_is_a_run_with_settings_numbers_digests_and_manifest(settings: Settings) -> None:
    store = open_store(settings)
    url = settings.tracking.mlflow_url or ""
    metrics = {"test": [{"ndcg": 0.25, "model": "blend"}, {"ndcg": 0.5}], "promised": {"bias (%)": -1, "none": None}}
    publish_model(
        FORECASTER,
        kind="blend",
        settings=settings,
        trained_until_on=date(2024, 2, 1),
        data_digest="data",
        metrics=metrics,
        write=lambda folder: None,
    )
    assert tell_mlflow(store, FORECASTER, url=url) == 3
    assert tell_mlflow(store, FORECASTER, url=url) == 0  # told once
    client = mlflow.MlflowClient(url, url)
    (found,) = [one for one in client.search_model_versions("") if one.tags[VERSION_TAG] == "v0003"]
    run = client.get_run(found.run_id)
    assert run.data.metrics == {"test.0.ndcg": 0.25, "test.1.ndcg": 0.5, "promised.bias ___": -1}
    assert run.data.params["forecast.epochs"] == str(settings.forecast.epochs)
    manifest = store.load(FORECASTER, "v0003").manifest
    assert run.data.tags["restock.data_digest"] == manifest.data_digest
    assert run.data.tags["restock.code_digest"] == manifest.code_digest
    assert run.info.status == "FINISHED"
    assert [one.path for one in client.list_artifacts(found.run_id)] == ["manifest.json"]


def test_a_server_that_is_down_costs_a_warning_and_no_promotion(
    settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracking = settings.tracking.model_copy(update={"mlflow_url": "http://127.0.0.1:9"})
    store = open_store(settings.model_copy(update={"tracking": tracking}))
    with caplog.at_level(logging.WARNING, logger="restock.tracking"):
        assert store.promote(FORECASTER, "v0001").version == "v0001"
    assert "MLflow was not told of forecaster" in caplog.text
    assert store.aliases(FORECASTER) == {"champion": "v0001"}


def test_without_mlflow_the_extra_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(ConfigError, match="extra 'mlflow'"):
        tell_mlflow(open_store(settings), FORECASTER, url="sqlite://")
