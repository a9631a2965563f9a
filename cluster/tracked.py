"""How a stored model is called and described to trackers, which allow no slashes and no trees."""

import logging
import re
from collections.abc import Iterator
from typing import Any, Final

# Keys of these characters are taken by all.
_OTHER: Final = re.compile(r"[^\w./ -]")
_log = logging.getLogger("restock.tracking")


def registry_name(name: str) -> str:
    """A model's name in a registry, which allows no slash.

    >>> registry_name("policy/fluid-milk-6dd407")
    'policy.fluid-milk-6dd407'
    """
    return name.replace("/", ".")


def leaves_of(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings or metrics by dotted keys; of lists, numbered; of tables of rows, too."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        if isinstance(value, dict) or (isinstance(value, list | tuple) and any(isinstance(one, dict) for one in value)):
            yield from leaves_of(value, f"{prefix}{key}.")
        else:
            yield _OTHER.sub("_", f"{prefix}{key}"), value


def numbers_of(tree: Any) -> Iterator[tuple[str, float]]:
    """The leaves that are numbers; yes and no are none."""
    for key, value in leaves_of(tree):
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield key, float(value)


def warn_not_told(tracker: str, name: str, error: Exception) -> None:
    """Say that a tracker did not answer, and what tells it later."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    _log.warning("%s was not told of %s (%s); 'restock models sync' tells it later", tracker, name, reason)
