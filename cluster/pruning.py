"""Which stored versions nothing needs any more, and deleting them.

A version is kept while an alias points to it, a run names it, it is one of the latest champions (a roll-back goes
there), or it is among the newest. Everything else may go, and with it the drafts that killed trainings left behind.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cluster.artifacts import ArtifactStore
from cluster.promotions import Aliases, champions_before


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
    return _judge(store, name, keep=keep, aliases=store.stored_aliases(name))


def prune(store: ArtifactStore, name: str, *, keep: Keep) -> list[Verdict]:
    """Delete the versions that nothing needs; return the verdicts that were carried out.

    They are named beside the aliases first, so that nobody promotes one while its files go.
    """
    verdicts: list[Verdict] = []

    def judge(aliases: Aliases) -> Aliases:
        verdicts[:] = _judge(store, name, keep=keep, aliases=aliases)
        doomed = {verdict.version for verdict in verdicts if not verdict.kept_because}
        return aliases.model_copy(update={"pruned": tuple(sorted({*aliases.pruned, *doomed}))})

    store.change_aliases(name, judge)
    for verdict in verdicts:
        if not verdict.kept_because:
            store.storage.remove(f"{name}/{verdict.version}")
    store.storage.sweep(name)
    return verdicts


def _judge(store: ArtifactStore, name: str, *, keep: Keep, aliases: Aliases) -> list[Verdict]:
    versions = store.versions(name)
    reasons: dict[str, str] = dict.fromkeys(versions[-keep.newest :], f"among the newest {keep.newest}")
    reasons |= dict.fromkeys(keep.used.get(name, ()), "named by a run")
    earlier = champions_before(aliases.promotions)
    reasons |= dict.fromkeys(earlier[: keep.champions], "champion before")
    reasons |= {version: alias for alias, version in aliases.current.items()}
    return [
        Verdict(
            name=name,
            version=version,
            kept_because=reasons.get(version, ""),
            num_bytes=store.storage.size_of(f"{name}/{version}"),
        )
        for version in versions
    ]
