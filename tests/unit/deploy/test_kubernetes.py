"""The Kubernetes files against the schemas of those who read them, and against the code that they start."""

import importlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import ray
import yaml
from deployment_files import DEPLOY, IMAGE, KUBERAY, ROOT, check_command, containers, pod_templates, read_yaml
from jsonschema import Draft202012Validator, ValidationError
from kuberay_schema import schema_of
from pydantic import BaseModel
from pydantic import ValidationError as PydanticError
from ray.autoscaler._private.commands import _bootstrap_config
from ray.serve.schema import ServeDeploySchema

from cluster.config import load_settings
from serve.builder import BuildArguments, application
from serve.guard import Limits, proxy_environment

CLUSTER = load_settings("cluster")
SERVICE = read_yaml(DEPLOY / "kuberay" / "rayservice.yaml")
WITH_PODS = [path for path in KUBERAY if path.stem not in ("storage", "networkpolicy")]


def named(path: Path) -> str:
    return path.stem


def check_resource(document: dict[str, Any]) -> None:
    """Against KubeRay's fields, or Kubernetes' own; its pods always against the latter."""
    if document["apiVersion"] == "ray.io/v1":
        Draft202012Validator(schema_of(document["kind"])).validate(document)
    else:
        kubernetes_validate.validate(document, "1.33", strict=True)
    for template in pod_templates(document):
        pod = {"restartPolicy": "Always", **template["spec"]}
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", **template["metadata"]}, "spec": pod}
        kubernetes_validate.validate(whole, "1.33", strict=True)


@pytest.mark.parametrize("path", KUBERAY, ids=named)
def test_every_resource_fits_its_schema(path: Path) -> None:
    check_resource(read_yaml(path))


@pytest.mark.parametrize(
    ("name", "word", "misspelt"),
    [
        ("raycluster", "enableInTreeAutoscaling", "enableInTreeAutoScaling"),
        ("raycluster", "authOptions", "authOption"),
        ("rayjob-train", "shutdownAfterJobFinishes", "shutdownAfterJobFinish"),
        ("rayservice", "serveConfigV2", "serveConfig"),
        ("rayservice", "readinessProbe", "readinessProb"),
        ("cronjob-plan", "concurrencyPolicy", "concurencyPolicy"),
        ("networkpolicy", "policyTypes", "policyType"),
        ("storage", "accessModes", "accessMode"),
    ],
)
def test_a_misspelt_field_is_found(name: str, word: str, misspelt: str) -> None:
    text = (DEPLOY / "kuberay" / f"{name}.yaml").read_text()
    assert word in text
    with pytest.raises((ValidationError, kubernetes_validate.ValidationError, KeyError)):
        check_resource(yaml.safe_load(text.replace(word, misspelt)))


@pytest.mark.parametrize("path", WITH_PODS, ids=named)
def test_pods_run_one_image_as_nobody_with_secrets_by_reference(path: Path) -> None:
    for template in pod_templates(read_yaml(path)):
        assert template["metadata"]["labels"]["app.kubernetes.io/part-of"] == "restock"
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        for container in containers(template):
            assert container["image"] == IMAGE
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["resources"]["limits"] == container["resources"]["requests"]
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert mounts["home"] == str(CLUSTER.home)
            for variable in container["env"]:
                if re.search(r"KEY|TOKEN|PASSWORD|URL|SECRET", variable["name"]):
                    assert "secretKeyRef" in variable["valueFrom"], variable["name"]


def test_versions_are_those_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"restock:{version}" == IMAGE
    for path in KUBERAY:
        for found in re.findall(r'rayVersion: "(.+)"', path.read_text()):
            assert found == ray.__version__


@pytest.mark.parametrize("path", [path for path in KUBERAY if "rayVersion" in path.read_text()], ids=named)
def test_clusters_ask_for_a_token_and_scale(path: Path) -> None:
    spec = read_yaml(path)["spec"]
    cluster = spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec
    assert cluster["authOptions"] == {"mode": CLUSTER.runtime.auth, "secretName": "restock-ray-token"}
    assert cluster["enableInTreeAutoscaling"] is True
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    # The autoscaler runs in the head's pod and asks the Kubernetes API; workers have no business there.
    assert "automountServiceAccountToken" not in cluster["headGroupSpec"]["template"]["spec"]


@pytest.mark.parametrize("name", ["raycluster", "rayjob-train"])
def test_there_are_cards_for_the_trainers(name: str) -> None:
    spec = read_yaml(DEPLOY / "kuberay" / f"{name}.yaml")["spec"]
    (group,) = [one for one in spec.get("rayClusterSpec", spec)["workerGroupSpecs"] if one["groupName"] == "gpu"]
    assert group["maxReplicas"] >= CLUSTER.forecast.num_workers
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert any(one["key"] == "nvidia.com/gpu" for one in group["template"]["spec"]["tolerations"])


def test_what_jobs_start_is_a_command_that_exists() -> None:
    check_command(read_yaml(DEPLOY / "kuberay" / "rayjob-train.yaml")["spec"]["entrypoint"])
    for name in ("cronjob-plan", "cronjob-monitor"):
        for template in pod_templates(read_yaml(DEPLOY / "kuberay" / f"{name}.yaml")):
            for container in containers(template):
                check_command(container["args"])


def test_a_command_that_does_not_exist_would_be_found() -> None:
    for words in ("restock trian all", "restock train all --resum", "restock plan --out"):
        with pytest.raises(Exception, match=r"No such|requires an argument"):
            check_command(words)


# The service


def serve_config() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(SERVICE["spec"]["serveConfigV2"])
    return config


def unknown_keys(given: dict[str, Any], model: type[BaseModel]) -> set[str]:
    return set(given) - set(model.model_fields)


def test_serve_takes_the_config_and_knows_every_key() -> None:
    config = serve_config()
    parsed = ServeDeploySchema.model_validate(config)
    assert not unknown_keys(config, ServeDeploySchema)
    assert not unknown_keys(config["http_options"], type(parsed.http_options))
    (one,) = parsed.applications
    assert not unknown_keys(config["applications"][0], type(one))
    module, _, name = one.import_path.partition(":")
    assert getattr(importlib.import_module(module), name) is application
    arguments = BuildArguments.model_validate(one.args)
    assert arguments.config == "/etc/restock/restock.toml"


def test_a_misspelt_argument_of_the_builder_is_refused() -> None:
    with pytest.raises(PydanticError, match="revison"):
        BuildArguments.model_validate({"config": "cluster", "revison": "2"})


def test_ports_and_limits_are_those_of_the_configuration() -> None:
    options = serve_config()["http_options"]
    assert (options["host"], options["port"]) == (CLUSTER.serve.host, CLUSTER.serve.port)
    assert options["request_timeout_s"] > CLUSTER.serve.request_timeout_s
    limits = Limits(max_body_bytes=CLUSTER.serve.max_body_bytes, timeout_s=CLUSTER.serve.request_timeout_s)
    wanted = proxy_environment(limits)
    for template in pod_templates(SERVICE):
        given = {variable["name"]: variable.get("value") for variable in containers(template)[0]["env"]}
        for name, value in wanted.items():
            found = given[name]
            assert (json.loads(found) == json.loads(value)) if value.startswith("{") else found == value


def test_a_worker_is_ready_when_it_answers_and_the_head_does_not_wait_for_that() -> None:
    cluster = SERVICE["spec"]["rayClusterConfig"]
    (worker,) = cluster["workerGroupSpecs"]
    (container,) = worker["template"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": CLUSTER.serve.port}
    # The operator submits the application when the head is ready: a head that waits for it would wait for ever.
    assert "readinessProbe" not in cluster["headGroupSpec"]["template"]["spec"]["containers"][0]


def test_the_network_policy_covers_every_pod_and_opens_what_is_served() -> None:
    policy = read_yaml(DEPLOY / "kuberay" / "networkpolicy.yaml")["spec"]
    assert policy["podSelector"]["matchLabels"] == {"app.kubernetes.io/part-of": "restock"}
    opened = {port["port"] for rule in policy["ingress"] for port in rule.get("ports", ())}
    assert CLUSTER.serve.port in opened
    # Ray's own ports are open to Restock's pods and, for the dashboard alone, to the operator.
    assert not opened & {6379, 10001}
    assert all("from" in rule for rule in policy["ingress"])


# ray up


def test_ray_up_takes_its_file() -> None:
    document = read_yaml(DEPLOY / "ray-up.yaml")
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    Draft202012Validator(schema).validate(document)
    config = _bootstrap_config(document, no_config_cache=True)
    assert config["max_workers"] == len(document["provider"]["worker_ips"])
    assert document["docker"]["image"] == IMAGE
    assert "--env=RAY_AUTH_MODE=token" in document["docker"]["run_options"]
    assert f"--volume={CLUSTER.home}:{CLUSTER.home}" in document["docker"]["run_options"]
