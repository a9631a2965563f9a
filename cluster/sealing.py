"""Encryption of exported files at rest: a name that ends in ``.sealed`` holds what only a key opens.

Fernet of the ``cryptography`` package (the extra ``sealed``): AES-128-CBC under an HMAC-SHA-256, so that a file that
was changed does not open. ``RESTOCK_EXPORT_KEYS`` holds the keys, the newest first, with spaces between them: the first
one seals, all of them open. To change keys, put a new one in front, ``restock privacy reseal`` every file, and drop the
old. A file is held in memory while it is sealed or opened.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cluster.errors import ConfigError, DataError

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

SUFFIX: Final = ".sealed"
KEYS_VARIABLE: Final = "RESTOCK_EXPORT_KEYS"


def make_export_key() -> str:
    """A new key, to be kept where secrets are."""
    try:
        from cryptography.fernet import Fernet
    except ImportError as error:
        raise _missing() from error
    return Fernet.generate_key().decode()


def seal(content: bytes) -> bytes:
    """Encrypt under the newest key.

    Raises
    ------
    ConfigError
        If there is no key, or what the environment holds is none.
    """
    return _keys().encrypt(content)


def unseal(content: bytes, *, source: str) -> bytes:
    """Decrypt with whichever key fits.

    Raises
    ------
    DataError
        If none does, or the content was changed; ``source`` is named.
    ConfigError
        As :func:`seal`.
    """
    keys = _keys()
    from cryptography.fernet import InvalidToken

    try:
        return keys.decrypt(content)
    except InvalidToken as error:
        raise DataError(
            f"{source}: no key of {KEYS_VARIABLE} opens it, or it was changed; add the key that it was sealed with"
        ) from error


def seal_file(path: Path) -> Path:
    """Replace a file by its sealed form, which has ``.sealed`` behind its name; return that.

    Raises
    ------
    DataError
        If it cannot be read or written.
    ConfigError
        As :func:`seal`.
    """
    sealed = path.with_name(path.name + SUFFIX)
    write_whole(sealed, seal(_read(path)))
    path.unlink()
    return sealed


def open_file(path: Path, out: Path) -> None:
    """Write what a sealed file holds; raises as :func:`unseal` and :func:`seal_file`."""
    write_whole(out, unseal(_read(path), source=str(path)))


def reseal_file(path: Path) -> None:
    """Seal a sealed file anew, under the newest key; raises as :func:`unseal` and :func:`seal_file`."""
    write_whole(path, seal(unseal(_read(path), source=str(path))))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, readable by its owner only.

    Raises
    ------
    DataError
        If it cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
        aside.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from error
    finally:
        aside.unlink(missing_ok=True)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def _keys() -> "MultiFernet":
    try:
        from cryptography.fernet import Fernet, MultiFernet
    except ImportError as error:
        raise _missing() from error
    texts = os.environ.get(KEYS_VARIABLE, "").split()
    if not texts:
        raise ConfigError(f"{KEYS_VARIABLE} is not set; 'restock privacy export-key' makes a key for it")
    try:
        return MultiFernet([Fernet(text) for text in texts])
    except ValueError as error:
        raise ConfigError(
            f"{KEYS_VARIABLE}: one of its {len(texts)} keys is none; 'restock privacy export-key' makes one"
        ) from error


def _missing() -> ConfigError:
    return ConfigError("sealed files need the package cryptography; install the extra 'sealed'")
