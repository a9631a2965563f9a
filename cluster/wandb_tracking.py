"""Every model told to Weights & Biases, where ``tracking.wandb_project`` names a project (the extra ``wandb``).

A version of the model store becomes a run of one fixed id (its settings, its numbers) with an artifact of type
``model`` (its manifest), which carries the aliases; telling a version again goes on in the same run. The account is
that of ``WANDB_API_KEY``; with ``WANDB_MODE=offline`` runs are written below the home folder, and ``wandb sync`` sends
them later. Which versions were told, with which aliases, is kept beside the model: offline there is nobody to ask. See
:mod:`cluster.tracking`.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cluster.errors import ConfigError
from cluster.tracked import leaves_of, numbers_of, registry_name, warn_not_told

if TYPE_CHECKING:
    from cluster.artifacts import ArtifactStore, StoredVersion

_TIMEOUT_S: Final = 30


def tell_wandb(store: "ArtifactStore", name: str, *, project: str) -> int:
    """Tell a project the versions of a model that it does not know, and where the aliases point.

    Returns
    -------
    How many versions it was told; 0 with a warning in the log if it does not answer.

    Raises
    ------
    ConfigError
        If wandb is not installed.
    """
    wandb = _wandb()
    told: dict[str, list[str]] = json.loads(store.storage.read(f"{name}/wandb.json") or b"{}")
    wanted: dict[str, list[str]] = {version: [] for version in store.versions(name)}
    for alias, version in sorted(store.aliases(name).items()):
        wanted[version].append(alias)
    changed = {version: aliases for version, aliases in wanted.items() if told.get(version) != aliases}
    try:
        for version, aliases in changed.items():
            _tell_version(wandb, store.load(name, version), aliases=aliases, project=project, folder=store.root.parent)
    except (wandb.errors.Error, OSError) as error:
        warn_not_told("W&B", name, error)
        return 0
    store.storage.change(f"{name}/wandb.json", lambda _: json.dumps(wanted).encode())
    return len(changed.keys() - told.keys())


def _tell_version(wandb: Any, stored: "StoredVersion", *, aliases: list[str], project: str, folder: Path) -> None:
    manifest, title = stored.manifest, registry_name(stored.manifest.name)
    run = wandb.init(
        project=project,
        id=f"{title}-{stored.version}-{manifest.config_digest}",
        resume="allow",
        name=f"{title} {stored.version}",
        group=title,
        job_type=manifest.kind,
        dir=str(folder),
        config=dict(leaves_of(manifest.config)),
        # What the machine does is watched elsewhere; nothing of its code or output is anybody's business.
        settings=wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
            init_timeout=_TIMEOUT_S,
        ),
    )
    run.summary.update(dict(numbers_of(manifest.metrics)))
    facts = manifest.model_dump(mode="json", include={"kind", "trained_until_on", "data_digest", "code_digest"})
    artifact = wandb.Artifact(title, type="model", metadata={"version": stored.version, **facts})
    artifact.add_file(str(stored.folder / "manifest.json"))
    run.log_artifact(artifact, aliases=[stored.version, *aliases])
    run.finish()


def _wandb() -> Any:
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        import wandb
    except ImportError as error:
        raise ConfigError(
            "tracking.wandb_project is set and wandb is not installed; install the extra 'wandb', or leave it unset"
        ) from error
    return wandb
