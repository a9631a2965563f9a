"""Addresses of SQL databases as they are written in settings, with secrets from the environment."""

import os
import re

import sqlalchemy
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from cluster.errors import ConfigError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PASSWORD = re.compile(r"(://[^:/@]*:)[^@]*@")


def read_url(text: str, *, key: str) -> tuple[sqlalchemy.URL, list[str]]:
    """URL with ``${NAME}`` replaced by that environment variable, and the secrets that came in by it.

    Parameters
    ----------
    key
        The setting, for messages.

    Raises
    ------
    ConfigError
        If a variable is not set, the text is no URL, or its driver is not installed.
    """
    secrets: list[str] = []

    def value_of(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise ConfigError(f"{key}: the environment has no variable {match[1]}; set it, secrets are read from there")
        secrets.append(os.environ[match[1]])
        return secrets[-1]

    filled = _VARIABLE.sub(value_of, text)
    try:
        url = sqlalchemy.make_url(filled)
        dialect = url.get_dialect()
        dialect.import_dbapi()
        dialect().create_connect_args(url)
    except (ArgumentError, NoSuchModuleError, ImportError):
        kind = filled.partition(":")[0] if "://" in filled else "no scheme"
        raise ConfigError(
            f"{key}: not a usable SQLAlchemy URL ({kind}); write it as "
            "postgresql+psycopg://user:${PASSWORD}@host/name and install the driver"
        ) from None
    return url, [secret for secret in secrets if secret]


def shown_url(text: str) -> str:
    """The URL as it was written, with the names of variables and not their values; a literal password is hidden."""
    return _PASSWORD.sub(r"\1***@", text)
