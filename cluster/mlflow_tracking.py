"""Every model told to an MLflow server, where ``tracking.mlflow_url`` names one (the extra ``mlflow``).

A version of the model store becomes a run (its settings as parameters, its numbers as metrics, its manifest as an
artifact) and a version of MLflow's registry, which has the same aliases. See :mod:`cluster.tracking`.
"""

import os
from typing import TYPE_CHECKING, Final

from cluster.errors import ConfigError
from cluster.tracked import leaves_of, numbers_of, registry_name, warn_not_told

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from cluster.artifacts import ArtifactStore, StoredVersion

VERSION_TAG: Final = "restock.version"
# MLflow takes so many parameters at once.
_BATCH: Final = 100
# Read by MLflow when it is imported: its own defaults wait minutes for a server that is down.
_ENVIRONMENT: Final = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


def tell_mlflow(store: "ArtifactStore", name: str, *, url: str) -> int:
    """Tell an MLflow server the versions of a model that it does not know, and where the aliases point.

    Returns
    -------
    How many versions it was told; 0 with a warning in the log if it does not answer.

    Raises
    ------
    ConfigError
        If MLflow is not installed.
    """
    client = _client(url)
    from mlflow.exceptions import MlflowException

    try:
        return _tell(client, store, name)
    except (MlflowException, OSError) as error:
        warn_not_told("MLflow", name, error)
        return 0


def _tell(client: "MlflowClient", store: "ArtifactStore", name: str) -> int:
    title = registry_name(name)
    if not client.search_registered_models(f"name='{title}'"):
        client.create_registered_model(title)
    known = {one.tags.get(VERSION_TAG): one.version for one in client.search_model_versions(f"name='{title}'")}
    told = [version for version in store.versions(name) if version not in known]
    for version in told:
        known[version] = _tell_version(client, store.load(name, version), title=title)
    for alias, version in store.aliases(name).items():
        client.set_registered_model_alias(title, alias, known[version])
    return len(told)


def _tell_version(client: "MlflowClient", stored: "StoredVersion", *, title: str) -> str:
    manifest = stored.manifest
    found = client.get_experiment_by_name(f"restock {title}")
    experiment_id = found.experiment_id if found is not None else client.create_experiment(f"restock {title}")
    tags = {
        VERSION_TAG: stored.version,
        "restock.kind": manifest.kind,
        "restock.trained_until_on": manifest.trained_until_on.isoformat(),
        "restock.config_digest": manifest.config_digest,
        "restock.data_digest": manifest.data_digest,
        "restock.code_digest": manifest.code_digest,
    }
    run = client.create_run(experiment_id, run_name=f"{title} {stored.version}", tags=tags)
    _tell_numbers(client, run.info.run_id, stored)
    client.log_artifact(run.info.run_id, str(stored.folder / "manifest.json"))
    version = client.create_model_version(title, source=run.info.artifact_uri, run_id=run.info.run_id, tags=tags)
    client.set_terminated(run.info.run_id)
    return str(version.version)


def _tell_numbers(client: "MlflowClient", run_id: str, stored: "StoredVersion") -> None:
    from mlflow.entities import Metric, Param

    manifest = stored.manifest
    at = int(manifest.created_at.timestamp() * 1000)
    params = [Param(key, str(value)) for key, value in leaves_of(manifest.config)]
    metrics = [Metric(key, value, at, 0) for key, value in numbers_of(manifest.metrics)]
    for start in range(0, max(len(params), len(metrics)), _BATCH):
        client.log_batch(run_id, metrics[start : start + _BATCH], params[start : start + _BATCH])


def _client(url: str) -> "MlflowClient":
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise ConfigError(
            "tracking.mlflow_url is set and MLflow is not installed; install the extra 'mlflow', or leave it unset"
        ) from error
    return MlflowClient(tracking_uri=url, registry_uri=url)
