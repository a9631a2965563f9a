"""Every setting, its default and what it means, read from the settings tree itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from cluster.config import Settings

_HEAD = """# Configuration

One TOML file, read once: `restock VERB --config FILE --set section.key=value`. `--set` wins over the file, the file
over the defaults below. `cluster/configs/` ships `laptop`, `gpu` and `cluster`, which have the same keys and differ in
numbers and places, and `demo` and `demo-fast`; give one by name. The resolved tree is stored in the manifest of every
model. This page is `restock config --markdown`.

| key | default | meaning |
|---|---|---|
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingRow:
    """One leaf of the settings tree."""

    key: str
    value: Any
    meaning: str


def list_settings(settings: Settings) -> list[SettingRow]:
    """Leaves of the tree in order, with the values of ``settings``."""
    return list(_leaves(settings, prefix=""))


def _leaves(section: BaseModel, *, prefix: str) -> Iterator[SettingRow]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, prefix=f"{prefix}{name}.")
        else:
            yield SettingRow(key=f"{prefix}{name}", value=value, meaning=field.description or _words(name))


def _words(name: str) -> str:
    return name.replace("_", " ")


def make_configuration_page() -> str:
    """``docs/configuration.md``: the defaults, as Markdown."""
    lines = [f"| `{row.key}` | `{_short(row.value)}` | {row.meaning} |" for row in list_settings(Settings())]
    return _HEAD + "\n".join(lines) + "\n\n" + _TABLE_SOURCE


def _short(value: Any) -> str:
    if value is None or value is PydanticUndefined:
        return "none"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    return str(value)


_TABLE_SOURCE = """`data.tables` holds one section per table, e.g. `[data.tables.orders]`, with `uri` or `sql_url` and
`query`, and the mapping `columns` and `constants`; see [Bring your own data](data.md).
"""
