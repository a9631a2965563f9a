"""What the application says before it starts, and of what stopped it."""

import socket

import pytest
from serving_home import CATEGORIES, Home, make_home, publish_policy

from cluster.artifacts import slug_of
from cluster.config import load_settings
from cluster.errors import ArtifactError, ConfigError, DataError
from serve.app import failure_of, start
from serve.cli import example_calls
from serve.releases import serving_versions

REPORT = """The deployment failed to start 3 times in a row. Error:
ray::ServeReplica:restock:forecaster.initialize_and_get_metadata()
  File "/somewhere/forecasting/predict.py", line 133, in load
    raise ArtifactError(
cluster.errors.ArtifactError: forecaster in /models/v0001 cannot be read (RuntimeError: Error(s) in loading:
\tMissing key(s): "enter.weight"); name another version, or train it again
"""


def test_versions_are_those_of_the_aliases_and_the_data(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = make_home(tmp_path_factory.mktemp("own"))
    dairy = f"policy/{slug_of(CATEGORIES[0])}"
    assert publish_policy(home, dairy, cycle_service_level=0.8) == "v0002"
    (home.store.root / f"policy/{slug_of(CATEGORIES[1])}" / "aliases.json").unlink()
    versions = serving_versions(home.settings)
    assert versions["forecaster"]["version"] == "v0001"
    assert versions["policy"]["versions"] == {"policy/default": "v0001", dairy: "v0002"}
    assert versions["planner"]["data"] == versions["forecaster"]["data"]


@pytest.mark.parametrize("name", ["forecaster", "recommender", "policy/default"])
def test_a_missing_model_is_said(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    home = make_home(tmp_path_factory.mktemp("own"))
    (home.store.root / name / "aliases.json").unlink()
    with pytest.raises(ArtifactError, match=f"no champion of model '{name}'"):
        start(home.settings)


def test_a_missing_dataset_is_said(home: Home) -> None:
    data = home.settings.data.model_copy(update={"name": "elsewhere"})
    with pytest.raises(DataError, match="no dataset 'elsewhere'"):
        start(home.settings.model_copy(update={"data": data}))


def test_a_taken_port_is_said(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        serving = home.settings.serve.model_copy(update={"port": port})
        with pytest.raises(ConfigError, match=rf"serve\.port={port} cannot be used"):
            start(home.settings.model_copy(update={"serve": serving}))


@pytest.mark.parametrize("host", ["256.0.0.1", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_said(home: Home, host: str) -> None:
    serving = home.settings.serve.model_copy(update={"host": host})
    with pytest.raises(ConfigError, match=rf"serve\.host={host}"):
        start(home.settings.model_copy(update={"serve": serving}))


def test_what_stopped_a_replica_is_found_in_its_traceback() -> None:
    error = failure_of(REPORT)
    assert type(error) is ArtifactError
    assert str(error).startswith("forecaster in /models/v0001 cannot be read (RuntimeError: Error(s) in loading:")
    assert str(error).endswith("name another version, or train it again")


def test_another_reason_is_told_by_its_last_line() -> None:
    error = failure_of("Traceback\n  File x\nMemoryError: cannot allocate 7 GB")
    assert type(error) is ConfigError
    assert "MemoryError: cannot allocate 7 GB" in str(error)


def test_a_wrong_key_of_the_service_is_named() -> None:
    with pytest.raises(ConfigError, match=r"serve\.num_replica\b"):
        load_settings(overrides=["serve.num_replica=2"])


def test_examples_call_routes_that_exist(home: Home) -> None:
    calls = example_calls("http://127.0.0.1:1", settings=home.settings)
    assert all(call.startswith("curl -s ") for call in calls)
    assert {"/v1/recommendations", "/v1/order-plans"} <= {
        path for call in calls for path in ("/v1/recommendations", "/v1/order-plans") if path in call
    }
