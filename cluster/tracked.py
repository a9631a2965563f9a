"""How a stored model is called and described to trackers, which allow no slashes and no trees."""

import re
from collections.abc import Iterator
from typing import Any, Final

# Keys of these characters are taken by all.
_OTHER: Final = re.compile(r"[^\w./ -]")


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
