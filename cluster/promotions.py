"""Which version an alias points to, who moved it there and why: one file per model, changed under one lock.

::

    ROOT/<name>/aliases.json   {"champion": "v0002", "challenger": "v0003", "promotions": [...]}
    ROOT/<name>/.lock          locked while the file above changes or versions go

Aliases and their history are one file, so that a single rename changes both: after a crash neither is ahead of the
other. The lock is ``flock``; on NFS the kernel turns it into a lock of the server, so that processes of several
machines exclude each other too.
"""

import fcntl
import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from cluster.errors import ArtifactError, ConflictError

Alias = Literal["champion", "challenger"]
_FILE = "aliases.json"


class Promotion(BaseModel):
    """One move of an alias. ``previous`` is what it pointed to before, None at first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alias: Alias
    version: str
    previous: str | None
    kind: Literal["promote", "roll_back"]
    by: str
    at: datetime
    reason: str


class _Aliases(BaseModel):
    """The file: what each alias points to, and every move in the order it was made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    champion: str | None = None
    challenger: str | None = None
    promotions: tuple[Promotion, ...] = ()

    @property
    def current(self) -> dict[str, str]:
        named = {"champion": self.champion, "challenger": self.challenger}
        return {alias: version for alias, version in named.items() if version is not None}

    def moved(self, promotion: Promotion) -> "_Aliases":
        return self.model_copy(update={promotion.alias: promotion.version, "promotions": (*self.promotions, promotion)})


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a model's folder: nobody else moves its aliases or deletes its versions meanwhile."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_aliases(folder: Path) -> dict[str, str]:
    """Which version each alias of the model in ``folder`` points to."""
    return _read(folder).current


def read_promotions(folder: Path) -> tuple[Promotion, ...]:
    """Every move of the model's aliases, oldest first."""
    return _read(folder).promotions


def move_alias(
    folder: Path,
    alias: Alias,
    *,
    version: str,
    kind: Literal["promote", "roll_back"],
    by: str | None,
    reason: str,
) -> Promotion:
    """Point an alias at a version and keep who did it, when and why, in one rename; call it with the lock held.

    Parameters
    ----------
    by
        Who; None is the user of this process.
    """
    aliases = _read(folder)
    promotion = Promotion(
        alias=alias,
        version=version,
        previous=aliases.current.get(alias),
        kind=kind,
        by=by or _this_user(),
        at=datetime.now(UTC),
        reason=reason,
    )
    beside = folder / f"{_FILE}.{os.getpid()}.tmp"
    beside.write_text(aliases.moved(promotion).model_dump_json(indent=2) + "\n")
    beside.replace(folder / _FILE)
    return promotion


def check_expected(folder: Path, alias: Alias, *, expected: str | None) -> None:
    """Refuse to move an alias that is not where the caller saw it; None expects nothing.

    Raises
    ------
    ConflictError
        If somebody else has moved it.
    """
    found = read_aliases(folder).get(alias)
    if expected is not None and found != expected:
        raise ConflictError(
            f"{alias} of {folder.name} is {found or 'not set'}, not {expected}: somebody else moved it; look again "
            "with 'restock models list' and repeat if it is still wanted"
        )


def champions_before(promotions: tuple[Promotion, ...]) -> list[str]:
    """Champions that a roll-back can return to, the latest first; the champion of today is not among them.

    A promotion is a step forward and a roll-back undoes one, so that two roll-backs go two steps back and not to and
    fro.
    """
    steps: list[str] = []
    for promotion in promotions:
        if promotion.alias != "champion":
            continue
        if promotion.kind == "promote":
            steps += [version for version in (promotion.previous,) if version is not None and not steps]
            steps.append(promotion.version)
        else:
            while steps and steps[-1] != promotion.version:
                steps.pop()
    earlier = [version for version in steps[::-1] if version != (steps[-1] if steps else None)]
    return list(dict.fromkeys(earlier))


def _read(folder: Path) -> _Aliases:
    path = folder / _FILE
    try:
        return _Aliases.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _Aliases()
    except (OSError, ValidationError) as error:
        raise ArtifactError(
            f"{path} cannot be read ({error}); restore it from a backup, or delete it and promote a version again"
        ) from error


def _this_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # A container may run as a number without a name.
        return f"uid {os.getuid()}"
