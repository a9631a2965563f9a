"""A model store of tiny versions, for tests of what moves and deletes them."""

from datetime import date
from pathlib import Path

from cluster.artifacts import ArtifactStore
from cluster.manifest import make_manifest
from cluster.storage import FolderStorage, Storage


def make_store(place: Path | Storage, *, num_versions: int, name: str = "forecaster") -> ArtifactStore:
    """Store in a folder or a storage with so many more versions of a model."""
    store = ArtifactStore(FolderStorage(folder=place) if isinstance(place, Path) else place)
    for _ in range(num_versions):
        manifest = make_manifest(
            name, kind="lstm", seed=0, trained_until_on=date(2024, 1, 1), config={}, data_digest="d", metrics={}
        )
        with store.writing(name) as draft:
            (draft / "weights").write_text("w")
            store.publish(draft, manifest)
    return store
