"""What clients may know of the models that answer."""

from cluster.artifacts import StoredVersion
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
