"""Storage in an S3-compatible object store (the extra ``s3``): Amazon's, MinIO, Ceph, Cloudflare R2.

::

    URL/models/forecaster/aliases.json          a document: changed by conditional puts (If-Match)
        models/forecaster/v0003.published       which upload is v0003, and its files; put if absent (If-None-Match)
        models/forecaster/v0003/<upload>/...    its files, uploaded before

An object store renames nothing, so that a folder appears when the small object that names its upload does. To save it
anew is another upload, and then that object put over: who reads meanwhile gets the old files or the new. What was
fetched lies in ``home`` as if it had been made there, with the name of its upload beside it, and is not fetched again.
"""

import random
import shutil
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from pydantic import BaseModel, ConfigDict

from cluster.errors import ConfigError, ConflictError, StorageError
from cluster.storage import DRAFT_AGE_S, FolderStorage, locked, new_draft

_PUBLISHED: Final = ".published"
_THREADS: Final = 8
_MOST_TRIES: Final = 100
_MOST_WAIT_S: Final = 0.2


class _Upload(BaseModel):
    """The object that makes an upload the folder of a key. ``files`` are sizes by path."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    upload: str
    files: dict[str, int]


class _GoneError(Exception):
    """An upload that another has replaced while it was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStorage:
    """Storage below an ``s3://`` URL; see :class:`cluster.storage.Storage`.

    Who may read and write is said by the environment of every machine, as for all that speaks to S3:
    ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION``, or a role of the machine.

    Parameters
    ----------
    folder
        What is fetched is kept here, by the same keys.
    endpoint
        Server, where it is not Amazon's: ``http://minio:9000``.
    """

    folder: Path
    url: str
    endpoint: str | None = None

    @property
    def place(self) -> str:
        """The URL."""
        return self.url

    def below(self, key: str) -> "ObjectStorage":
        """See :class:`~cluster.storage.Storage`."""
        return ObjectStorage(folder=self.folder / key, url=f"{self.url.rstrip('/')}/{key}", endpoint=self.endpoint)

    def children(self, key: str) -> list[str]:
        """See :class:`~cluster.storage.Storage`."""
        with self._speaking() as (obstore, store):
            objects = obstore.list_with_delimiter(store, key or None)["objects"]
        names = (Path(found["path"]).name for found in objects)
        return sorted(name.removesuffix(_PUBLISHED) for name in names if name.endswith(_PUBLISHED))

    def published(self) -> list[str]:
        """See :class:`~cluster.storage.Storage`."""
        return sorted(path.removesuffix(_PUBLISHED) for path, _ in self._listed("") if path.endswith(_PUBLISHED))

    def publish(self, draft: Path, key: str) -> bool:
        """See :class:`~cluster.storage.Storage`."""
        upload = self._upload(draft, key)
        with self._speaking() as (obstore, store):
            try:
                obstore.put(store, key + _PUBLISHED, _encode(upload), mode="create")
            except obstore.exceptions.AlreadyExistsError:
                self._delete([f"{key}/{upload.upload}/{name}" for name in upload.files])
                return False
        (draft / _PUBLISHED).write_text(upload.upload)
        self._here.replace(draft, key)
        return True

    def save(self, key: str) -> None:
        """See :class:`~cluster.storage.Storage`."""
        before = self._published(key)
        upload = self._upload(self.folder / key, key)
        with self._speaking() as (obstore, store):
            obstore.put(store, key + _PUBLISHED, _encode(upload))
        (self.folder / key / _PUBLISHED).write_text(upload.upload)
        if before is not None:
            self._delete([f"{key}/{before.upload}/{name}" for name in before.files])

    def replace(self, draft: Path, key: str) -> None:
        """See :class:`~cluster.storage.Storage`."""
        self._here.replace(draft, key)
        self.save(key)

    def fetch(self, key: str) -> Path | None:
        """See :class:`~cluster.storage.Storage`; one process of a machine fetches, the others wait for it."""
        target = self.folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(_MOST_TRIES):
            upload = self._published(key)
            if upload is None:
                return None
            if self._has(key, upload):
                return target
            with locked(_made(target.parent / ".fetching")):
                if self._has(key, upload) or self._download(upload, key):
                    return target
        raise ConflictError(f"{self.url}/{key} is replaced again and again; try once more")

    def remove(self, key: str) -> None:
        """See :class:`~cluster.storage.Storage`."""
        self._delete([key + _PUBLISHED])
        # By the library that Ray writes with: it leaves empty objects for folders, which the other cannot name.
        path, filesystem = self.for_ray(key)
        with suppress(FileNotFoundError):
            filesystem.delete_dir(path)
        self._here.remove(key)

    def sweep(self, key: str) -> None:
        """See :class:`~cluster.storage.Storage`."""
        newest, uploads = time.time() - DRAFT_AGE_S, defaultdict(list)
        for path, changed_s in self._listed(f"{key}/"):
            child, slash, rest = path.removeprefix(f"{key}/").partition("/")
            if slash:
                uploads[child, rest.partition("/")[0]].append((path, changed_s))
        for (child, upload), files in uploads.items():
            published = self._published(f"{key}/{child}")
            is_needed = published is not None and published.upload == upload
            if not is_needed and max(changed_s for _, changed_s in files) < newest:
                self._delete([path for path, _ in files])
        self._here.sweep(key)

    def size_of(self, key: str) -> int:
        """See :class:`~cluster.storage.Storage`."""
        upload = self._published(key)
        return 0 if upload is None else sum(upload.files.values())

    def read_file(self, key: str, name: str) -> bytes | None:
        """See :class:`~cluster.storage.Storage`."""
        upload = self._published(key)
        return None if upload is None else self._get(f"{key}/{upload.upload}/{name}")[0]

    def read(self, key: str) -> bytes | None:
        """See :class:`~cluster.storage.Storage`."""
        return self._get(key)[0]

    def change(self, key: str, edit: Callable[[bytes | None], bytes]) -> None:
        """See :class:`~cluster.storage.Storage`; a conditional put, again if somebody else was faster."""
        for _ in range(_MOST_TRIES):
            found, tag = self._get(key)
            edited = edit(found)
            with self._speaking() as (obstore, store):
                mode: Any = "create" if tag is None else {"e_tag": tag}
                try:
                    obstore.put(store, key, edited, mode=mode)
                except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError):
                    time.sleep(random.uniform(0, _MOST_WAIT_S))
                else:
                    return
        raise ConflictError(f"{self.url}/{key} is changed by others all the time; try once more")

    def check(self) -> None:
        """Write, and see that the server refuses what promotion needs it to refuse.

        Raises
        ------
        StorageError
            If it cannot be written, or does not know conditional puts: two promotions at once would lose one.
        """
        key = f".doctor-{uuid.uuid4().hex}"
        with self._speaking() as (obstore, store):
            refusals = (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError)
            first = obstore.put(store, key, b"1")["e_tag"]
            obstore.put(store, key, b"2", mode={"e_tag": first})
            try:
                for mode in ("create", {"e_tag": first}):
                    try:
                        obstore.put(store, key, b"3", mode=mode)
                    except refusals:
                        continue
                    raise StorageError(
                        f"{self.url}: the server takes a put whose condition does not hold (If-None-Match, If-Match); "
                        "use one that knows conditional puts, or a volume that all machines mount as home"
                    )
            finally:
                self._delete([key])

    def for_ray(self, key: str) -> tuple[str, Any]:
        """See :class:`~cluster.storage.Storage`."""
        from pyarrow.fs import FileSystem

        options = {}
        if self.endpoint is not None:
            options = {"endpoint_override": self.endpoint, "scheme": urlsplit(self.endpoint).scheme}
        asked = f"?{urlencode(options)}" if options else ""
        filesystem, path = FileSystem.from_uri(f"{self.below(key).url}{asked}")
        return path, filesystem

    @property
    def _here(self) -> FolderStorage:
        return FolderStorage(folder=self.folder)

    def _has(self, key: str, upload: _Upload) -> bool:
        marker = self.folder / key / _PUBLISHED
        return marker.exists() and marker.read_text() == upload.upload

    def _published(self, key: str) -> _Upload | None:
        found, _ = self._get(key + _PUBLISHED)
        return None if found is None else _Upload.model_validate_json(found)

    def _upload(self, folder: Path, key: str) -> _Upload:
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _PUBLISHED)
        files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
        upload = _Upload(upload=uuid.uuid4().hex, files=files)
        with self._speaking() as (obstore, store), ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda name: obstore.put(store, f"{key}/{upload.upload}/{name}", folder / name), files))
        return upload

    def _download(self, upload: _Upload, key: str) -> bool:
        """Fetch an upload into the folder of its key; False if it has been replaced meanwhile."""
        source, draft = f"{key}/{upload.upload}", _made(new_draft(self.folder / key))
        try:
            with ThreadPoolExecutor(_THREADS) as pool:
                list(pool.map(lambda name: self._download_file(f"{source}/{name}", draft / name), upload.files))
            (draft / _PUBLISHED).write_text(upload.upload)
            self._here.replace(draft, key)
        except _GoneError:
            return False
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return True

    def _download_file(self, path: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._speaking() as (obstore, store), target.open("wb") as file:
            try:
                found = obstore.get(store, path)
            except FileNotFoundError as error:
                raise _GoneError(path) from error
            for chunk in found:
                file.write(chunk)

    def _get(self, path: str) -> tuple[bytes | None, str | None]:
        """An object and its tag; None and None where there is none."""
        with self._speaking() as (obstore, store):
            try:
                found = obstore.get(store, path)
                return bytes(found.bytes()), found.meta["e_tag"]
            except FileNotFoundError:
                return None, None

    def _listed(self, prefix: str) -> list[tuple[str, float]]:
        """Path and time of every object below a prefix."""
        with self._speaking() as (obstore, store):
            return [
                (found["path"], found["last_modified"].timestamp())
                for page in obstore.list(store, prefix or None)
                for found in page
                if found["path"]
            ]

    def _delete(self, paths: Sequence[str]) -> None:
        with self._speaking() as (obstore, store):
            try:
                obstore.delete(store, list(paths))
            except FileNotFoundError:
                return  # somebody else was faster

    @contextmanager
    def _speaking(self) -> Iterator[tuple[Any, Any]]:
        """The client library and the store; what the server refuses is said as an error of ours."""
        obstore, store = _open(self.url, self.endpoint)
        try:
            yield obstore, store
        except (obstore.exceptions.BaseError, FileNotFoundError) as error:  # not found: the bucket
            raise StorageError(
                f"{self.url}: {str(error).splitlines()[0][:300]}; check storage.url and storage.endpoint, and that "
                "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION (or the machine's role) allow it"
            ) from error


@cache
def _open(url: str, endpoint: str | None) -> tuple[Any, Any]:
    try:
        import obstore
        from obstore.store import from_url
    except ImportError as error:
        raise ConfigError(
            "storage.url is set and its client is not installed; install the extra 's3', or leave it unset"
        ) from error
    is_plain = endpoint is not None and urlsplit(endpoint).scheme == "http"
    options: dict[str, Any] = {} if endpoint is None else {"endpoint": endpoint}
    return obstore, from_url(url, client_options={"allow_http": is_plain}, **options)


def _encode(upload: _Upload) -> bytes:
    return upload.model_dump_json().encode()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
