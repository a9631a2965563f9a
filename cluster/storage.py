"""Where datasets, models and checkpoints are kept: the home folder itself, or an object store behind it.

Everything is read and written in folders of ``home`` on the machine at hand. With :class:`FolderStorage` that folder is
the storage: one machine's disk, or a volume that all mount. With :class:`~cluster.object_storage.ObjectStorage` each
machine has a ``home`` of its own and the storage holds what outlives it. Keys are paths below ``home``, such as
``models/forecaster/v0001``.

Three things are atomic in both, and promotion, loads and resumed runs stand on them alone: a folder appears whole
(:meth:`Storage.publish`), one of several who publish under one key wins, and a small document changes by reading,
editing and writing it as one step (:meth:`Storage.change`).
"""

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from cluster.config import Settings

DRAFT_AGE_S: Final = 24 * 3600
"""A draft that nothing has touched for a day belongs to no living process."""
_DRAFT: Final = ".draft-"


class Storage(Protocol):
    """Folders that appear whole and documents that change in one step, below one folder."""

    @property
    def folder(self) -> Path:
        """Where what is fetched lies on this machine."""
        ...

    @property
    def place(self) -> str:
        """What to call it in a message."""
        ...

    def below(self, key: str) -> "Storage":
        """The same storage, seen from a folder of it."""
        ...

    def children(self, key: str) -> list[str]:
        """Names of the published folders directly below a key, in order."""
        ...

    def published(self) -> list[str]:
        """Every published folder, in order."""
        ...

    def publish(self, draft: Path, key: str) -> bool:
        """Take a draft's files as the folder of this key, whole or not at all; False if there is one already."""
        ...

    def save(self, key: str) -> None:
        """Keep what this machine's folder of the key holds now, in the place of what was kept."""
        ...

    def replace(self, draft: Path, key: str) -> None:
        """Put a draft's files in the place of a published folder's."""
        ...

    def fetch(self, key: str) -> Path | None:
        """The machine's folder of the key, as it was last published or saved; None where there is none."""
        ...

    def remove(self, key: str) -> None:
        """Drop a folder and all that lies below it; nobody sees half of it."""
        ...

    def sweep(self, key: str) -> None:
        """Drop what writers that died a day ago have left below a key."""
        ...

    def size_of(self, key: str) -> int:
        """Bytes of a published folder."""
        ...

    def read_file(self, key: str, name: str) -> bytes | None:
        """One small file of a published folder, without the others; None where there is none."""
        ...

    def read(self, key: str) -> bytes | None:
        """A document; None where there is none."""
        ...

    def change(self, key: str, edit: Callable[[bytes | None], bytes]) -> None:
        """Edit a document in one step; ``edit`` may be called again if somebody else was faster, and may raise."""
        ...

    def for_ray(self, key: str) -> tuple[str, Any]:
        """``storage_path`` and ``storage_filesystem`` by which Ray keeps checkpoints below a key."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderStorage:
    """The folder is the storage: a disk, or a volume that every machine mounts at the same path.

    Renames publish and ``flock`` guards documents; on NFS the kernel turns it into a lock of the server, so that
    processes of several machines exclude each other too.
    """

    folder: Path

    @property
    def place(self) -> str:
        """The path."""
        return str(self.folder)

    def below(self, key: str) -> "FolderStorage":
        """See :class:`Storage`."""
        return FolderStorage(folder=self.folder / key)

    def children(self, key: str) -> list[str]:
        """See :class:`Storage`."""
        place = self.folder / key
        if not place.is_dir():
            return []
        return sorted(path.name for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))

    def published(self) -> list[str]:
        """Every folder: what is none of a publisher's is told apart by its name."""
        found = (path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_dir())
        return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))

    def publish(self, draft: Path, key: str) -> bool:
        """See :class:`Storage`; one rename."""
        target = self.folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.rename(target)
        except OSError:
            # Somebody else has published this key.
            if not target.exists():
                raise
            return False
        return True

    def save(self, key: str) -> None:
        """Nothing to do: what lies here is kept here."""

    def replace(self, draft: Path, key: str) -> None:
        """See :class:`Storage`; two renames under the lock of the folder above."""
        target = self.folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        old = new_draft(target)
        with locked(target.parent):
            if target.exists():
                target.rename(old)
            draft.rename(target)
        shutil.rmtree(old, ignore_errors=True)

    def fetch(self, key: str) -> Path | None:
        """See :class:`Storage`."""
        target = self.folder / key
        return target if target.is_dir() else None

    def remove(self, key: str) -> None:
        """See :class:`Storage`; gone in one rename before its files go."""
        doomed = new_draft(self.folder / key)
        try:
            (self.folder / key).rename(doomed)
        except FileNotFoundError:
            return
        shutil.rmtree(doomed)

    def sweep(self, key: str) -> None:
        """See :class:`Storage`."""
        newest = time.time() - DRAFT_AGE_S
        for draft in (self.folder / key).glob(f"{_DRAFT}*"):
            if max(path.stat().st_mtime for path in (draft, *draft.rglob("*"))) < newest:
                shutil.rmtree(draft, ignore_errors=True)

    def size_of(self, key: str) -> int:
        """See :class:`Storage`."""
        return sum(path.stat().st_size for path in (self.folder / key).rglob("*") if path.is_file())

    def read_file(self, key: str, name: str) -> bytes | None:
        """See :class:`Storage`."""
        return self.read(f"{key}/{name}")

    def read(self, key: str) -> bytes | None:
        """See :class:`Storage`."""
        try:
            return (self.folder / key).read_bytes()
        except FileNotFoundError:
            return None

    def change(self, key: str, edit: Callable[[bytes | None], bytes]) -> None:
        """See :class:`Storage`; one rename under the lock of the folder above."""
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent):
            beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            beside.write_bytes(edit(self.read(key)))
            beside.replace(path)

    def for_ray(self, key: str) -> tuple[str, Any]:
        """See :class:`Storage`."""
        return str((self.folder / key).resolve()), None


def open_storage(settings: "Settings") -> Storage:
    """Storage of the settings: ``storage.url`` if one is named, else ``home``."""
    home = settings.home.absolute()  # tasks of other processes work there too
    if settings.storage.url is None:
        return FolderStorage(folder=home)
    from cluster.object_storage import ObjectStorage  # here: needs an extra

    return ObjectStorage(folder=home, url=settings.storage.url, endpoint=settings.storage.endpoint)


def new_draft(target: Path) -> Path:
    """A name beside a folder that nobody else has."""
    return target.with_name(f"{_DRAFT}{target.name}-{uuid.uuid4().hex}")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder against other processes of this machine, and of others that mount it."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
