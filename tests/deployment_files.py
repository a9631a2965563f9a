"""The files of cluster/deploy, read once, and what several tests ask of them."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
import yaml

from restock.cli import app

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "cluster" / "deploy"
KUBERAY = sorted((DEPLOY / "kuberay").glob("*.yaml"))
IMAGE = "restock:0.1.0"


def read_yaml(path: Path) -> dict[str, Any]:
    """The one document of a file."""
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


def pod_templates(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every pod template of a resource."""
    spec = document["spec"]
    if document["kind"] == "CronJob":
        yield spec["jobTemplate"]["spec"]["template"]
    for cluster in (spec, spec.get("rayClusterSpec"), spec.get("rayClusterConfig")):
        if cluster and "headGroupSpec" in cluster:
            yield cluster["headGroupSpec"]["template"]
            yield from (group["template"] for group in cluster["workerGroupSpecs"])


def containers(template: dict[str, Any]) -> list[dict[str, Any]]:
    """Containers of a pod, those that run first among them."""
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def check_command(words: list[str] | str) -> None:
    """Fail unless the command line takes these words: the verb exists, and every option and value is one of its own."""
    parts = shlex.split(words) if isinstance(words, str) else list(words)
    assert parts[0] == "restock", parts
    command: Any = typer.main.get_command(app)
    context = command.make_context("restock", parts[1:], resilient_parsing=False)
    while hasattr(command, "commands"):
        rest = [*context._protected_args, *context.args]
        name, command, arguments = command.resolve_command(context, rest)
        context = command.make_context(name, arguments, parent=context)
