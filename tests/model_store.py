"""A model store of tiny versions, for tests of what moves and deletes them."""

from datetime import date
from pathlib import Path

from cluster.artifacts import ArtifactStore, make_manifest


def make_store(root: Path, *, num_versions: int, name: str = "forecaster") -> ArtifactStore:
    """Store below ``root`` with so many more versions of a model."""
    store = ArtifactStore(root)
    for _ in range(num_versions):
        manifest = make_manifest(
            name, kind="lstm", seed=0, trained_until_on=date(2024, 1, 1), config={}, data_digest="d", metrics={}
        )
        with store.writing(name) as draft:
            (draft / "weights").write_text("w")
            store.publish(draft, manifest)
    return store
