"""What the application says before it starts, and of what stopped it."""

import socket
from typing import Any

import pytest
from serving_home import CATEGORIES, Home, make_home, publish_policy

from cluster.config import load_settings
from cluster.errors import ArtifactError, ConfigError, DataError
from cluster.manifest import slug_of
from serve.app import _check_gpus, build, failure_of, start
from serve.cli import Follower, example_calls
from serve.deployments.stored import device_of
from serve.proxy import check_proxy
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


class Moving:
    """A service whose champions move; every second release of it fails."""

    def __init__(self) -> None:
        self.found, self.released = {"forecaster": {"version": "v0001"}}, 0

    def champions(self) -> dict[str, dict[str, str]]:
        return self.found

    def refresh(self) -> None:
        self.released += 1
        if self.released == 2:
            raise ArtifactError("v0003 cannot be read")


def test_moved_champions_are_released_once_and_failures_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    service = Moving()
    follower = Follower(service)  # type: ignore[arg-type]
    for version in ("v0001", "v0002", "v0002", "v0003", "v0003", "v0002"):
        service.found = {"forecaster": {"version": version}}
        follower.look()
    assert service.released == 3
    assert "do not serve: v0003 cannot be read" in capsys.readouterr().out


def test_a_proxy_that_came_too_late_is_said(home: Home) -> None:
    serving = home.settings.serve.model_copy(update={"proxy": "haproxy"})
    with pytest.raises(ConfigError, match="RAY_SERVE_ENABLE_HA_PROXY=1"):
        check_proxy(serving, is_haproxy=False)
    check_proxy(serving, is_haproxy=True)


def test_autoscaling_goes_into_the_deployment_that_it_names(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(
        overrides=[
            f'home="{home.settings.home}"',
            "serve.num_replicas=2",
            "serve.autoscaling.forecaster.max_replicas=5",
            "serve.autoscaling.forecaster.target_ongoing_requests=3",
        ]
    )
    versions = serving_versions(home.settings)
    made = {deployment.name: deployment for deployment in deployments_of(build(settings, versions, code="x"))}
    assert made["forecaster"].version == "x"
    scale = made["forecaster"]._deployment_config.autoscaling_config
    assert (scale.min_replicas, scale.max_replicas, scale.target_ongoing_requests) == (1, 5, 3)
    assert {name: each.num_replicas for name, each in made.items() if name != "forecaster"} == dict.fromkeys(
        ("ingress", "planner", "policy", "recommender"), 2
    )
    serving = settings.serve.model_copy(update={"layout": "fused"})
    fused = deployments_of(build(settings.model_copy(update={"serve": serving}), versions, code="x"))
    assert [(deployment.name, deployment.user_config) for deployment in fused] == [("ingress", versions)]


def test_cards_go_to_the_replicas_that_have_a_share(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = ("serve.gpus_per_replica.forecaster=0.5", "serve.gpus_per_replica.recommender=0.25")
    settings = load_settings(overrides=[f'home="{home.settings.home}"', "serve.num_cpus_per_replica=2", *shares])
    versions = serving_versions(home.settings)

    def asked(layout: str) -> dict[str, tuple[float, float]]:
        serving = settings.serve.model_copy(update={"layout": layout})
        made = deployments_of(build(settings.model_copy(update={"serve": serving}), versions, code="x"))
        options = {deployment.name: deployment.ray_actor_options for deployment in made}
        return {name: (each["num_cpus"], each["num_gpus"]) for name, each in options.items()}

    without = dict.fromkeys(("ingress", "planner", "policy"), (2, 0))
    assert asked("composed") == without | {"forecaster": (2, 0.5), "recommender": (2, 0.25)}
    assert asked("fused") == {"ingress": (2, 0.75)}
    for seen, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr("torch.cuda.is_available", lambda seen=seen: seen)
        assert device_of(settings, "forecaster") == device
        assert device_of(home.settings, "forecaster") == "cpu"


def test_cards_that_a_local_ray_has_not_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 2.0})
    with pytest.raises(ConfigError, match=r"gpus_per_replica asks for a card .* runtime\.num_gpus"):
        _check_gpus(load_settings(overrides=["serve.gpus_per_replica.forecaster=1"]))
    _check_gpus(load_settings())


def deployments_of(application: Any) -> list[Any]:
    """Deployments of an application, each once."""
    node = application._bound_deployment
    found = {node.name: node}
    for value in [*node.init_args, *node.init_kwargs.values()]:
        for inner in value.values() if isinstance(value, dict) else [value]:
            if hasattr(inner, "_bound_deployment"):
                found |= {each.name: each for each in deployments_of(inner)}
    return list(found.values())


def test_examples_call_routes_that_exist(home: Home) -> None:
    calls = example_calls("http://127.0.0.1:1", settings=home.settings)
    assert all(call.startswith("curl -s ") for call in calls)
    assert {"/v1/recommendations", "/v1/order-plans"} <= {
        path for call in calls for path in ("/v1/recommendations", "/v1/order-plans") if path in call
    }
