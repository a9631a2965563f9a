"""Users by keyed hashes: nothing that Restock stores names a customer as the shop does.

The key is ``RESTOCK_USER_KEY``, or a file in the home folder that is made at first use. Without the key nobody can tell
which hash is whose, not even by trying all the shop's ids; with another key the same history gives other hashes, so
that a key is kept as long as models and datasets are.

A key that may have leaked is replaced (:func:`rotate_key`): history is loaded anew and the recommender trained anew,
and then nothing that is stored can be read with the old one. That is kept all the same, since those who were forgotten
under it are known by it alone: ``RESTOCK_RETIRED_USER_KEYS`` (with spaces between them), or a file.

::

    HOME/privacy/user.key     32 random bytes, readable by its owner only
                 retired/     keys that were replaced
                 forgotten    one line per user who asked to be forgotten: a hash of the hash, found nowhere else

Where ``storage.url`` names an object store, ``forgotten`` is kept there, and keys are those of the environment.
"""

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from cluster.config import Settings
from cluster.errors import ConfigError
from cluster.storage import open_storage

KEY_VARIABLE: Final = "RESTOCK_USER_KEY"
RETIRED_VARIABLE: Final = "RESTOCK_RETIRED_USER_KEYS"
_FORGOTTEN: Final = "privacy/forgotten"
_MIN_KEY: Final = 16
_HASH_CHARACTERS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class UserIds:
    """How users are called in datasets, models and the service.

    Parameters
    ----------
    key
        Of the hash; empty where ``data.user_ids`` is ``"plain"``: then users are called as the shop does.
    forgotten
        Marks of the users whose rows are read as those of guests.
    retired
        Keys that were replaced: marks may have been made with them.
    """

    key: bytes
    forgotten: frozenset[str] = frozenset()
    retired: tuple[bytes, ...] = ()

    def hash_id(self, user_id: str) -> str:
        """Name of a user: 128 bits of HMAC-SHA-256 as hexadecimal digits."""
        if not self.key:
            return user_id
        return hmac.new(self.key, user_id.encode(), hashlib.sha256).hexdigest()[:_HASH_CHARACTERS]

    def names_of(self, user_id: str) -> tuple[str, ...]:
        """Names of a user under the key and under those that were replaced."""
        return tuple(UserIds(key=key).hash_id(user_id) for key in (self.key, *self.retired))

    def mark_of(self, hashed_id: str) -> str:
        """What stands for a forgotten user; the hash cannot be told from it."""
        return hmac.new(self.key, b"forgotten:" + hashed_id.encode(), hashlib.sha256).hexdigest()

    def hide(self, user_ids: pl.Series) -> pl.Series:
        """Names of users in a column as it was read; null for guests and for users who were forgotten."""
        text = user_ids.cast(pl.String, strict=False)
        if not self.key and not self.forgotten:
            return text
        different = [user_id for user_id in text.unique().to_list() if user_id is not None]
        names = {user_id: self.hash_id(user_id) for user_id in different}
        if self.forgotten:
            names = {user_id: name for user_id, name in names.items() if not self._is_forgotten(user_id)}
        return text.replace_strict(names, default=None, return_dtype=pl.String).alias(user_ids.name)

    def _is_forgotten(self, user_id: str) -> bool:
        keys = (self.key, *self.retired)
        then = (UserIds(key=key) for key in keys)
        return any(ids.mark_of(ids.hash_id(user_id)) in self.forgotten for ids in then)

    @property
    def fingerprint(self) -> str:
        """Digest that changes with the key and with every user who is forgotten; tells nothing of either."""
        content = "\n".join(["key", *sorted(self.forgotten)])
        return hmac.new(self.key, content.encode(), hashlib.sha256).hexdigest()[:16]


def open_user_ids(settings: Settings) -> UserIds:
    """Names of users under these settings; a key is made if there is none.

    Raises
    ------
    ConfigError
        If the key of the environment is too short, or that of the home folder cannot be read or made; or if there is
        none in the environment and ``storage.url`` names an object store, which keeps no keys.
    """
    forgotten = frozenset((open_storage(settings).read(_FORGOTTEN) or b"").decode().split())
    if settings.data.user_ids == "plain":
        return UserIds(key=b"", forgotten=forgotten)
    given = os.environ.get(KEY_VARIABLE)
    if given is not None:
        if len(given) < _MIN_KEY:
            raise ConfigError(
                f"{KEY_VARIABLE} has {len(given)} characters, a key needs {_MIN_KEY}; choose a longer one"
            )
        retired = tuple(text.encode() for text in os.environ.get(RETIRED_VARIABLE, "").split())
        return UserIds(key=given.encode(), forgotten=forgotten, retired=retired)
    if settings.storage.url is not None:
        raise ConfigError(
            f"storage.url is set, so that machines have homes of their own, and a key of one home would be none of the "
            f"others'; set {KEY_VARIABLE} on all of them, or data.user_ids=plain"
        )
    retired = tuple(path.read_bytes() for path in sorted((_folder(settings) / "retired").glob("*.key")))
    return UserIds(key=_key_of(_folder(settings) / "user.key"), forgotten=forgotten, retired=retired)


def rotate_key(settings: Settings) -> None:
    """Replace the key of the home folder by a new one and keep the old one among the retired.

    Raises
    ------
    ConfigError
        If the key is not one of the home folder: then whoever keeps it replaces it.
    """
    if settings.data.user_ids == "plain":
        raise ConfigError("data.user_ids=plain: users have no hashes, so there is no key to replace")
    if KEY_VARIABLE in os.environ:
        raise ConfigError(
            f"{KEY_VARIABLE} gives the key, not the home folder; move its value behind the others in "
            f"{RETIRED_VARIABLE} and give it a new one"
        )
    path = _folder(settings) / "user.key"
    _key_of(path)
    retired = _folder(settings) / "retired"
    retired.mkdir(mode=0o700, exist_ok=True)
    number = len(list(retired.glob("*.key"))) + 1
    # A link and then one rename: at no moment is there no key, or the old one nowhere.
    os.link(path, retired / f"{number:04d}.key")
    beside = path.with_suffix(f".{os.getpid()}")
    _write_new_key(beside)
    beside.replace(path)


def mark_forgotten(settings: Settings, hashed_id: str) -> None:
    """Remember that a user is to be read as a guest from now on, without remembering who it is."""
    mark = open_user_ids(settings).mark_of(hashed_id)

    def add(document: bytes | None) -> bytes:
        return "".join(f"{one}\n" for one in sorted({*(document or b"").decode().split(), mark})).encode()

    open_storage(settings).change(_FORGOTTEN, add)


def _folder(settings: Settings) -> Path:
    return settings.home / "privacy"


def _key_of(path: Path) -> bytes:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make_key(path)
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path}: the key of user ids cannot be read or made ({error.strerror}); set {KEY_VARIABLE}, or home to a "
            "folder that can be written"
        ) from error


def _make_key(path: Path) -> None:
    beside = path.with_suffix(f".{os.getpid()}")
    _write_new_key(beside)
    try:
        os.link(beside, path)  # Fails if another process was first: then its key counts.
    except FileExistsError:
        pass
    finally:
        beside.unlink()


def _write_new_key(path: Path) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(32))
