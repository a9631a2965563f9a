"""The model store: versioned folders with a manifest, and the aliases that say which version serves.

::

    ROOT/<name>/v0001/manifest.json, <files of the model>
    ROOT/<name>/aliases.json        {"champion": "v0001", "challenger": "v0002", "promotions": [...]}

``name`` says what the model is for: ``forecaster``, ``recommender``, ``policy/<category>``. A version appears when it
is complete and never changes after; an alias moves in one step (``cluster.promotions``). ``cluster.pruning`` deletes
what nothing needs. What makes both atomic, on a disk and in an object store, is :mod:`cluster.storage`.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cluster.config import Settings
from cluster.errors import ArtifactError, StaleInputError
from cluster.manifest import Manifest, make_manifest
from cluster.promotions import Alias, Aliases, Promotion, champions_before, check_expected, make_move, read_aliases
from cluster.storage import Storage, new_draft, open_storage
from cluster.tracking import trackers_of

_VERSION = re.compile(r"v(\d{4,})")
_MODELS = "models"
_MANIFEST = "manifest.json"


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
    """Reads and writes versions in a storage.

    Parameters
    ----------
    on_move
        Called with a model's name after one of its aliases has moved.
    """

    def __init__(self, storage: Storage, *, on_move: Callable[[str], object] = lambda name: None) -> None:
        self.storage = storage
        self._on_move = on_move

    @property
    def root(self) -> Path:
        """Where versions lie on this machine."""
        return self.storage.folder

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield an empty folder of this machine; drop it unless :meth:`publish` took it."""
        draft = new_draft(self.root / _checked(name) / "version")
        draft.mkdir(parents=True)
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def publish(self, draft: Path, manifest: Manifest) -> StoredVersion:
        """Turn a draft into the next version of ``manifest.name``, whole or not at all."""
        (draft / _MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
        name = _checked(manifest.name)
        number = max((int(version[1:]) for version in self.versions(name)), default=0) + 1
        # Somebody else may publish a number between the listing and our turn.
        while not self.storage.publish(draft, f"{name}/v{number:04d}"):
            number += 1
        return StoredVersion(self.root / name / f"v{number:04d}", manifest)

    def replace(self, name: str, version: str, *, write: Callable[[Path], None]) -> None:
        """Put other files in the place of a version's, under its manifest: for data that must not be kept.

        Parameters
        ----------
        write
            Writes the files into an empty folder; it may still read the old ones.
        """
        stored = self.load(name, version)
        with self.writing(name) as draft:
            write(draft)
            shutil.copy2(stored.folder / _MANIFEST, draft / _MANIFEST)
            self.storage.replace(draft, f"{name}/{stored.version}")

    def versions(self, name: str) -> list[str]:
        """Complete versions of a model, oldest first."""
        found = [child for child in self.storage.children(_checked(name)) if _VERSION.fullmatch(child)]
        return sorted(found, key=lambda version: int(version[1:]))

    def names(self, prefix: str = "") -> list[str]:
        """Models that have at least one version, in order, e.g. all below ``policy/``."""
        stored = (key.rpartition("/") for key in self.storage.published())
        found = {name for name, _, version in stored if _VERSION.fullmatch(version)}
        return sorted(name for name in found if name.startswith(prefix))

    def load(self, name: str, version: str = "champion") -> StoredVersion:
        """Version of a model on this machine, by number (``v0002``) or alias.

        Raises
        ------
        ArtifactError
            If there is none, or its manifest cannot be read.
        """
        number, manifest = self._find(name, version, aliases=self.aliases(name))
        folder = self.storage.fetch(f"{name}/{number}")
        if folder is None:
            raise self._missing(name, version)
        return StoredVersion(folder, manifest)

    def manifest(self, name: str, version: str) -> Manifest:
        """What a version is, without its files; raises as :meth:`load`."""
        return self._find(name, version, aliases=self.aliases(name))[1]

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
            if self.manifest(name, version).trained_until_on <= day:
                return self.load(name, version)
        raise StaleInputError(
            f"every version of model '{name}' has seen history from {day} on and would know that day's future; "
            f"run 'restock train all --until {day}', or plan for a later day"
        )

    def aliases(self, name: str) -> dict[str, str]:
        """Which version each alias of a model points to."""
        return self.stored_aliases(name).current

    def promotions(self, name: str) -> tuple[Promotion, ...]:
        """Every move of a model's aliases, oldest first: who, when, from where, to where and why."""
        return self.stored_aliases(name).promotions

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
        """Point an alias at a version, given by number or by another alias, in one step.

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

        def move(aliases: Aliases) -> Aliases:
            check_expected(aliases, alias, expected=expected, name=name)
            number, _ = self._find(name, version, aliases=aliases.current)
            if number in aliases.pruned:
                raise self._missing(name, version)
            return make_move(aliases, alias, version=number, kind="promote", by=by, reason=reason)

        return self._move(name, move)

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

        def move(aliases: Aliases) -> Aliases:
            check_expected(aliases, "champion", expected=expected, name=name)
            number, _ = self._find(name, self._before(name, aliases), aliases={})
            return make_move(aliases, "champion", version=number, kind="roll_back", by=by, reason=reason)

        return self._move(name, move)

    def champion_before(self, name: str) -> str:
        """Version that :meth:`roll_back` goes to.

        Raises
        ------
        ArtifactError
            If no earlier champion is still stored.
        """
        return self._before(name, self.stored_aliases(name))

    def change_aliases(self, name: str, edit: Callable[[Aliases], Aliases]) -> Aliases:
        """Change what is kept of a model's aliases, in one step, and return it.

        Raises
        ------
        ArtifactError
            If there is no such model.
        """
        if not self.versions(name):
            raise ArtifactError(f"no model '{name}' in {self.storage.place}; 'restock models list' names what there is")
        changed = Aliases()

        def change(document: bytes | None) -> bytes:
            nonlocal changed
            changed = edit(read_aliases(document, where=self._place_of_aliases(name)))
            return changed.to_bytes()

        self.storage.change(f"{name}/aliases.json", change)
        return changed

    def _move(self, name: str, move: Callable[[Aliases], Aliases]) -> Promotion:
        moved = self.change_aliases(name, move).promotions[-1]
        self._on_move(name)
        return moved

    def stored_aliases(self, name: str) -> Aliases:
        """What is kept of a model's aliases."""
        document = self.storage.read(f"{_checked(name)}/aliases.json")
        return read_aliases(document, where=self._place_of_aliases(name))

    def _place_of_aliases(self, name: str) -> str:
        return f"{self.storage.place}/{name}/aliases.json"

    def _before(self, name: str, aliases: Aliases) -> str:
        stored = set(self.versions(name)) - set(aliases.pruned)
        for version in champions_before(aliases.promotions):
            if version in stored:
                return version
        raise ArtifactError(
            f"model '{name}' has no earlier champion to go back to; use 'restock models promote' with a version"
        )

    def _find(self, name: str, version: str, *, aliases: Mapping[str, str]) -> tuple[str, Manifest]:
        """Number and manifest of a version that is named by number or alias."""
        number = aliases.get(version, version)
        is_number = _VERSION.fullmatch(number) is not None
        written = self.storage.read_file(f"{_checked(name)}/{number}", _MANIFEST) if is_number else None
        if written is None:
            raise self._missing(name, version)
        try:
            return number, Manifest.model_validate_json(written)
        except ValidationError as error:
            where = f"{self.storage.place}/{name}/{number}/{_MANIFEST}"
            raise ArtifactError(f"{where} cannot be read ({error}); train the model again") from error

    def _missing(self, name: str, version: str) -> ArtifactError:
        return ArtifactError(
            f"no {version} of model '{name}' in {self.storage.place}; train it with 'restock train' or name another "
            "version"
        )


def open_store(settings: Settings) -> ArtifactStore:
    """Model store of the settings, which tells their trackers of promotions."""
    storage, trackers = open_storage(settings).below(_MODELS), trackers_of(settings.tracking)

    def tell(name: str) -> None:
        for tracker in trackers:
            tracker(ArtifactStore(storage), name)

    return ArtifactStore(storage, on_move=tell)


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
    """Store a model made now by this code as the next version of ``name`` in the store of the settings.

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


def _checked(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?", name) or ".." in name:
        raise ArtifactError(f"model name {name!r} may hold letters, digits, '_', '-', '.' and one '/'")
    return name
