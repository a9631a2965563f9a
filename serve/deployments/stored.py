"""What a stored model version may be asked for, and what clients may know of it."""

from datetime import date
from typing import Literal

from cluster.artifacts import StoredVersion
from cluster.config import Settings
from cluster.errors import StaleInputError
from serve.answers import ServedModelInfo


def describe(stored: StoredVersion) -> ServedModelInfo:
    """Name, version, kind and dates of a stored version; nothing of its insides."""
    manifest = stored.manifest
    return ServedModelInfo(
        name=manifest.name,
        version=stored.version,
        kind=manifest.kind,
        created_at=manifest.created_at,
        trained_until_on=manifest.trained_until_on,
    )


def device_of(settings: Settings, name: Literal["forecaster", "recommender"]) -> str:
    """Where a replica's network answers from: the card that ``serve.gpus_per_replica`` gives it, if torch sees one."""
    import torch  # here: only replicas with a network pay for its import

    return "cuda" if settings.serve.gpus_per_replica.get(name) and torch.cuda.is_available() else "cpu"


def check_unseen(stored: StoredVersion, *, as_of: date) -> None:
    """Refuse to answer for days that a model has seen.

    Raises
    ------
    StaleInputError
        If the request stands on a day before the end of the model's training.
    """
    manifest = stored.manifest
    if as_of < manifest.trained_until_on:
        raise StaleInputError(
            f"the served model '{manifest.name}' has seen history up to {manifest.trained_until_on}, the request is as "
            f"of {as_of}: its answer would not be honest; ask as of {manifest.trained_until_on} or later"
        )
