"""The compose file and the image, as far as they can be judged without Docker."""

import fnmatch
import re
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from compose_spec import PyCompose
from deployment_files import DEPLOY, IMAGE, ROOT, check_command, read_yaml

from benchmarks.hosts import image_environment

TEXT = (DEPLOY / "compose.yaml").read_text()
COMPOSE = read_yaml(DEPLOY / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def parse(text: str) -> Any:
    """As Compose reads it: variables are put in first, aliases and merge keys are resolved."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    text = re.sub(r"\$\{\w+:\?[^}]*\}", "given", text)
    return PyCompose.from_yaml(yaml.safe_dump(yaml.safe_load(text)))


def test_the_file_is_what_the_compose_specification_allows() -> None:
    assert set(parse(TEXT).service_names()) == set(SERVICES)


@pytest.mark.parametrize(("word", "misspelt"), [("depends_on", "depend_on"), ("healthcheck", "health_check")])
def test_a_misspelt_field_is_found(word: str, misspelt: str) -> None:
    with pytest.raises(ValueError, match=misspelt):
        parse(TEXT.replace(word, misspelt))


def test_what_is_published_is_published_on_loopback() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_secrets_come_from_the_environment_and_are_required() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"KEY|PASSWORD|TOKEN|SECRET|URL", name):
                assert re.search(r"\$\{[A-Z_]+:\?.+\}", value), name


@pytest.mark.parametrize("name", ["restock", "monitor"])
def test_our_containers_run_commands_that_exist_as_nobody(name: str) -> None:
    service = SERVICES[name]
    assert service["image"] == IMAGE
    assert service["user"] == "1000:1000"
    assert service["read_only"] is True
    command = service["command"]
    if command[0] == "bash":
        (command,) = re.findall(r"restock [^;]+", command[-1])
    check_command(command)


def test_files_that_are_mounted_are_there_and_volumes_are_declared() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":/")[0]
            source = re.sub(r"^\$\{\w+:-(.+)\}$", r"\1", source)
            assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], volume


# The image


def copied() -> list[str]:
    return [
        word
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, flags=re.MULTILINE)
        for word in line.split()[:-1]
    ]


def test_the_image_holds_what_is_installed_and_nothing_else() -> None:
    kept = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in copied():
        assert (ROOT / source).exists(), source
        assert source in kept, f"{source} is left out of the build by Dockerfile.dockerignore"
    packages = re.search(r"packages = \[(.+)\]", (ROOT / "pyproject.toml").read_text().split("wheel]")[1])
    assert packages is not None
    assert set(re.findall(r'"(\w+)"', packages[1])) <= set(copied())
    assert not any(fnmatch.fnmatch("tests", pattern) for pattern in kept)


def test_the_image_runs_as_nobody_from_its_last_stage_on() -> None:
    last = DOCKERFILE.rsplit("\nFROM ", 1)[1]
    users = re.findall(r"^USER (.+)$", last, flags=re.MULTILINE)
    assert users == ["1000:1000"]
    # The operator's probes call wget, LightGBM loads OpenMP.
    assert {"wget", "libgomp1"} <= set(last.split())
    assert not re.search(r"^ENTRYPOINT", DOCKERFILE, flags=re.MULTILINE)


def test_grafana_finds_its_datasource_and_dashboards_where_they_are_mounted() -> None:
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    provisioning = DEPLOY / "grafana" / "provisioning"
    (provider,) = read_yaml(provisioning / "dashboards" / "restock.yaml")["providers"]
    assert provider["options"]["path"] == mounts["./grafana/dashboards"]
    (source,) = read_yaml(provisioning / "datasources" / "prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in SERVICES


def test_prometheus_scrapes_services_that_run() -> None:
    config = read_yaml(DEPLOY / "prometheus" / "prometheus.yml")
    for job in config["scrape_configs"]:
        for static in job["static_configs"]:
            assert all(target.split(":")[0] in SERVICES for target in static["targets"])
    for name in config["rule_files"]:
        assert Path(DEPLOY / "prometheus" / name).is_file()


def test_ray_knows_what_the_image_tells_it_about_lost_hosts() -> None:
    """It would ignore a misspelt name in silence."""
    told = image_environment()
    assert {name.split("_")[1] for name in told} == {"health", "grpc"}
    known = (Path(ray.__file__).parent / "core" / "src" / "ray" / "gcs" / "gcs_server").read_bytes()
    for name, value in told.items():
        assert name.removeprefix("RAY_").encode() + b"\0" in known, name
        assert int(value) > 0
