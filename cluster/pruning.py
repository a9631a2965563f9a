"""Which stored versions nothing needs any more, and deleting them.

A version is kept while an alias points to it, a run names it, it is one of the latest champions (a roll-back goes
there), or it is among the newest. Everything else may go, and with it the drafts that killed trainings left behind.
"""

import shutil
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cluster.artifacts import ArtifactStore
from cluster.promotions import champions_before

_DRAFT_AGE_S: Final = 24 * 3600
"""A draft that nothing has touched for a day belongs to no living process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """What stays beside aliases: so many newest versions, so many earlier champions, and those that runs name.

    Parameters
    ----------
    used
        Model name -> versions that runs name.
    """

    newest: int = 5
    champions: int = 3
    used: Mapping[str, Collection[str]]

    def __post_init__(self) -> None:
        if self.newest < 1 or self.champions < 0:
            raise ValueError(f"keep at least the newest version and no negative number: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One version: why it is kept, or an empty reason if nothing needs it. ``num_bytes`` is its size on disk."""

    name: str
    version: str
    kept_because: str
    num_bytes: int


def judge_versions(store: ArtifactStore, name: str, *, keep: Keep) -> list[Verdict]:
    """What would stay of a model's versions and what would go, oldest first; nothing is changed."""
    versions = store.versions(name)
    reasons: dict[str, str] = dict.fromkeys(versions[-keep.newest :], f"among the newest {keep.newest}")
    reasons |= dict.fromkeys(keep.used.get(name, ()), "named by a run")
    earlier = champions_before(store.promotions(name))
    reasons |= dict.fromkeys(earlier[: keep.champions], "champion before")
    reasons |= {version: alias for alias, version in store.aliases(name).items()}
    return [
        Verdict(
            name=name,
            version=version,
            kept_because=reasons.get(version, ""),
            num_bytes=_size_of(store.root / name / version),
        )
        for version in versions
    ]


def prune(store: ArtifactStore, name: str, *, keep: Keep) -> list[Verdict]:
    """Delete the versions that nothing needs, under the model's lock; return the verdicts that were carried out.

    A version leaves the list of versions in one rename before its files go, so that nobody reads half of one.
    """
    with store.locked(name) as folder:
        verdicts = judge_versions(store, name, keep=keep)
        for verdict in verdicts:
            if not verdict.kept_because:
                doomed = (folder / verdict.version).rename(folder / f".draft-{verdict.version}-pruned")
                shutil.rmtree(doomed)
        for draft in old_drafts(folder):
            shutil.rmtree(draft, ignore_errors=True)
    return verdicts


def old_drafts(folder: Path) -> list[Path]:
    """Drafts in a model's folder that nothing has touched for a day."""
    newest = time.time() - _DRAFT_AGE_S
    return [path for path in sorted(folder.glob(".draft-*")) if _touched_at(path) < newest]


def _touched_at(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
