"""Saves and loads any policy: textbook rules as JSON, learned ones as an ONNX graph beside its facts."""

import json
from pathlib import Path
from typing import Any

from cluster.errors import ArtifactError
from rl.policies.classical import ClassicalPolicy, policy_from_dict
from rl.policies.exported import FACTS_FILE, ExportedPolicy


def save_policy(policy: ClassicalPolicy | ExportedPolicy, folder: Path) -> None:
    """Write a policy into a folder, which is made if missing."""
    if isinstance(policy, ExportedPolicy):
        policy.save(folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"kind": "classical", "parameters": policy.to_dict()}
    beside = folder / f".{FACTS_FILE}.tmp"
    beside.write_text(json.dumps(facts, indent=2) + "\n")
    beside.replace(folder / FACTS_FILE)


def load_policy(folder: Path) -> ClassicalPolicy | ExportedPolicy:
    """Read a policy that :func:`save_policy` wrote.

    Raises
    ------
    ArtifactError
        If there is none, or a file is damaged or of another format.
    """
    path = folder / FACTS_FILE
    try:
        facts: dict[str, Any] = json.loads(path.read_bytes())
        kind = facts["kind"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path}: no policy can be read there ({error!r}); train it again with 'restock train policies'"
        ) from error
    if kind == "exported":
        return ExportedPolicy.load(folder)
    if kind == "classical" and isinstance(facts.get("parameters"), dict):
        return policy_from_dict(facts["parameters"])
    raise ArtifactError(
        f"{path}: a policy of kind {kind!r} is unknown to this version; train it again with 'restock train policies'"
    )
