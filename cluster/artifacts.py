"""The model store: versioned folders with a manifest, and the aliases that say which version serves.

::

    ROOT/<name>/v0001/manifest.json, <files of the model>
    ROOT/<name>/aliases.json        {"champion": "v0001", "challenger": "v0002", "promotions": [...]}

``name`` says what the model is for: ``forecaster``, ``recommender``, ``policy/<category>``. A version appears in one
rename when it is complete and never changes after; an alias moves in one rename too, under the model's lock
(``cluster.promotions``). ``cluster.pruning`` deletes what nothing needs.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cluster.config import Settings
from cluster.errors import ArtifactError, StaleInputError
from cluster.promotions import (
    Alias,
    Promotion,
    champions_before,
    check_expected,
    locked,
    move_alias,
    read_aliases,
    read_promotions,
)
from cluster.tracking import tell_mlflow

_VERSION = re.compile(r"v(\d{4,})")
_PACKAGES = ("cluster", "forecasting", "recsys", "rl", "serve", "restock")


class Manifest(BaseModel):
    """What a stored model is, where it came from and how good it was.

    ``trained_until_on`` is the first day that the model has **not** seen: it may decide from that day on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: str
    created_at: datetime
    seed: int
    trained_until_on: date
    config: dict[str, Any]
    config_digest: str
    data_digest: str
    code_digest: str
    metrics: dict[str, Any]
    schema_version: int = 1


def digest_of(value: Any) -> str:
    """Short stable digest of anything JSON can write; dates are written as ISO strings."""
    text = json.dumps(value, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def code_digest() -> str:
    """Digest of Restock's own source files, as installed."""
    root = Path(__file__).resolve().parent.parent
    total = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            total.update(path.relative_to(root).as_posix().encode())
            total.update(path.read_bytes())
    return total.hexdigest()[:16]


def make_manifest(
    name: str,
    *,
    kind: str,
    seed: int,
    trained_until_on: date,
    config: dict[str, Any],
    data_digest: str,
    metrics: dict[str, Any],
) -> Manifest:
    """Manifest of a model made now by this code."""
    return Manifest(
        name=name,
        kind=kind,
        created_at=datetime.now(UTC),
        seed=seed,
        trained_until_on=trained_until_on,
        config=config,
        config_digest=digest_of(config),
        data_digest=data_digest,
        code_digest=code_digest(),
        metrics=metrics,
    )


class StoredVersion:
    """One complete version: its folder and its manifest."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @property
    def version(self) -> str:
        """``v0001`` and so on; grows with every write."""
        return self.folder.name


class ArtifactStore:
    """Reads and writes versions below ``root``; the folder is made on the first write.

    Parameters
    ----------
    on_move
        Called with a model's name after one of its aliases has moved.
    """

    def __init__(self, root: Path, *, on_move: Callable[[str], object] = lambda name: None) -> None:
        self.root = root
        self._on_move = on_move

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield an empty folder beside the store's own; drop it unless :meth:`publish` took it."""
        self._folder(name).mkdir(parents=True, exist_ok=True)
        draft = self._folder(name) / f".draft-{os.getpid()}-{datetime.now(UTC).timestamp():.6f}"
        draft.mkdir()
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def publish(self, draft: Path, manifest: Manifest) -> StoredVersion:
        """Turn a draft into the next version of ``manifest.name``, in one rename."""
        (draft / "manifest.json").write_text(manifest.model_dump_json(indent=2) + "\n")
        numbers = [int(version[1:]) for version in self.versions(manifest.name)]
        number = max(numbers, default=0) + 1
        while True:
            target = self._folder(manifest.name) / f"v{number:04d}"
            try:
                draft.rename(target)
            except OSError:
                # Somebody else published this number between the listing and the rename.
                if not target.exists():
                    raise
                number += 1
            else:
                return StoredVersion(target, manifest)

    def replace(self, name: str, version: str, *, write: Callable[[Path], None]) -> None:
        """Put other files in the place of a version's, under its manifest: for data that must not be kept.

        Parameters
        ----------
        write
            Writes the files into an empty folder; it may still read the old ones.
        """
        stored = self.load(name, version)
        with self.writing(name) as draft, self.locked(name):
            write(draft)
            shutil.copy2(stored.folder / "manifest.json", draft / "manifest.json")
            old = draft.with_name(f"{draft.name}-old")
            stored.folder.rename(old)
            draft.rename(stored.folder)
            shutil.rmtree(old)

    def versions(self, name: str) -> list[str]:
        """Complete versions of a model, oldest first."""
        if not self._folder(name).is_dir():
            return []
        found = [path.name for path in self._folder(name).iterdir() if _VERSION.fullmatch(path.name)]
        return sorted(found, key=lambda version: int(version[1:]))

    def names(self, prefix: str = "") -> list[str]:
        """Models that have at least one version, in order, e.g. all below ``policy/``."""
        if not self.root.is_dir():
            return []
        folders = {path.parent.parent for path in self.root.glob("**/v*/manifest.json")}
        found = sorted(folder.relative_to(self.root).as_posix() for folder in folders)
        return [name for name in found if name.startswith(prefix)]

    def load(self, name: str, version: str = "champion") -> StoredVersion:
        """Version of a model, by number (``v0002``) or alias.

        Raises
        ------
        ArtifactError
            If there is none, or its manifest cannot be read.
        """
        number = self.aliases(name).get(version, version)
        folder = self._folder(name) / number
        if not folder.is_dir():
            raise ArtifactError(
                f"no {version} of model '{name}' in {self.root}; train it with 'restock train' or name another version"
            )
        try:
            manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
        except (OSError, ValidationError) as error:
            raise ArtifactError(f"{folder}/manifest.json cannot be read ({error}); train the model again") from error
        return StoredVersion(folder, manifest)

    def load_as_of(self, name: str, day: date) -> StoredVersion:
        """Champion if it has seen nothing from ``day`` on, else the newest version that has not.

        Raises
        ------
        ArtifactError
            If the model has no version at all.
        StaleInputError
            If every version has seen that day.
        """
        versions = self.versions(name)
        if not versions:
            return self.load(name)
        champion = self.aliases(name).get("champion")
        for version in ([champion] if champion else []) + versions[::-1]:
            stored = self.load(name, version)
            if stored.manifest.trained_until_on <= day:
                return stored
        raise StaleInputError(
            f"every version of model '{name}' has seen history from {day} on and would know that day's future; "
            f"run 'restock train all --until {day}', or plan for a later day"
        )

    def aliases(self, name: str) -> dict[str, str]:
        """Which version each alias of a model points to."""
        return read_aliases(self._folder(name))

    def promotions(self, name: str) -> tuple[Promotion, ...]:
        """Every move of a model's aliases, oldest first: who, when, from where, to where and why."""
        return read_promotions(self._folder(name))

    def promote(
        self,
        name: str,
        version: str,
        *,
        alias: Alias = "champion",
        by: str | None = None,
        reason: str = "",
        expected: str | None = None,
    ) -> Promotion:
        """Point an alias at a version, given by number or by another alias, in one rename under the model's lock.

        Parameters
        ----------
        by
            Who promotes; None is the user of this process.
        expected
            Version that the alias must point to now; None takes any.

        Raises
        ------
        ArtifactError
            If there is no such version, or its manifest cannot be read.
        ConflictError
            If the alias points elsewhere than ``expected``.
        """
        with self.locked(name) as folder:
            check_expected(folder, alias, expected=expected)
            number = self.load(name, version).version
            move = move_alias(folder, alias, version=number, kind="promote", by=by, reason=reason)
        self._on_move(name)
        return move

    def roll_back(
        self, name: str, *, by: str | None = None, reason: str = "", expected: str | None = None
    ) -> Promotion:
        """Point champion at the version that was champion before; again, and it goes one step further back.

        Parameters are those of :meth:`promote`. Give ``expected``: of two people who roll back at once, one then gets
        a conflict instead of a second step back.

        Raises
        ------
        ArtifactError
            If no earlier champion is still stored.
        ConflictError
            If champion points elsewhere than ``expected``.
        """
        with self.locked(name) as folder:
            check_expected(folder, "champion", expected=expected)
            number = self.load(name, self.champion_before(name)).version
            move = move_alias(folder, "champion", version=number, kind="roll_back", by=by, reason=reason)
        self._on_move(name)
        return move

    def champion_before(self, name: str) -> str:
        """Version that :meth:`roll_back` goes to.

        Raises
        ------
        ArtifactError
            If no earlier champion is still stored.
        """
        stored = set(self.versions(name))
        for version in champions_before(self.promotions(name)):
            if version in stored:
                return version
        raise ArtifactError(
            f"model '{name}' has no earlier champion to go back to; use 'restock models promote' with a version"
        )

    @contextmanager
    def locked(self, name: str) -> Iterator[Path]:
        """Hold a model's lock and yield its folder: no alias moves and no version goes meanwhile.

        Raises
        ------
        ArtifactError
            If there is no such model.
        """
        folder = self._folder(name)
        if not folder.is_dir():
            raise ArtifactError(f"no model '{name}' in {self.root}; 'restock models list' names what there is")
        with locked(folder):
            yield folder

    def _folder(self, name: str) -> Path:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?", name) or ".." in name:
            raise ArtifactError(f"model name {name!r} may hold letters, digits, '_', '-', '.' and one '/'")
        return self.root / name


def open_store(settings: Settings) -> ArtifactStore:
    """Model store of ``settings.home``, which tells MLflow of promotions if the settings name a server."""
    url, root = settings.tracking.mlflow_url, settings.home / "models"
    if url is None:
        return ArtifactStore(root)
    return ArtifactStore(root, on_move=lambda name: tell_mlflow(ArtifactStore(root), name, url=url))


def publish_model(
    name: str,
    *,
    kind: str,
    settings: Settings,
    trained_until_on: date,
    data_digest: str,
    metrics: dict[str, Any],
    write: Callable[[Path], None],
) -> StoredVersion:
    """Store a model made now by this code as the next version of ``name`` in the store of ``settings.home``.

    Parameters
    ----------
    write
        Writes the model's files into an empty folder.
    """
    manifest = make_manifest(
        name,
        kind=kind,
        seed=settings.seed,
        trained_until_on=trained_until_on,
        config=settings.model_dump(mode="json"),
        data_digest=data_digest,
        metrics=metrics,
    )
    store = open_store(settings)
    with store.writing(name) as draft:
        write(draft)
        return store.publish(draft, manifest)


def slug_of(text: str) -> str:
    """Name usable as a folder and unique to the text: readable words, then a short digest.

    >>> slug_of("FLUID MILK/PRODUCTS")
    'fluid-milk-products-6dd407'
    """
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40]
    return f"{words}-{digest_of(text)[:6]}".lstrip("-")
