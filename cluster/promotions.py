"""Which version an alias points to, who moved it there and why: one document per model, changed in one step.

Aliases and their history are one document, so that both change at once: after a crash neither is ahead of the other.
Versions that are about to be deleted are named in it too, so that nobody promotes one meanwhile.
"""

import getpass
import os
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from cluster.errors import ArtifactError, ConflictError

Alias = Literal["champion", "challenger"]


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


class Aliases(BaseModel):
    """The document: what each alias points to, every move in the order it was made, and versions that are deleted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    champion: str | None = None
    challenger: str | None = None
    promotions: tuple[Promotion, ...] = ()
    pruned: tuple[str, ...] = ()

    @property
    def current(self) -> dict[str, str]:
        """Which version each alias points to."""
        named = {"champion": self.champion, "challenger": self.challenger}
        return {alias: version for alias, version in named.items() if version is not None}

    def moved(self, promotion: Promotion) -> "Aliases":
        """With one more move."""
        return self.model_copy(update={promotion.alias: promotion.version, "promotions": (*self.promotions, promotion)})

    def to_bytes(self) -> bytes:
        """As :func:`read_aliases` reads it."""
        return self.model_dump_json(indent=2).encode() + b"\n"


def read_aliases(document: bytes | None, *, where: str) -> Aliases:
    """Aliases of a model as they are stored at ``where``; of one that has none yet, if there is no document.

    Raises
    ------
    ArtifactError
        If the document is damaged.
    """
    if document is None:
        return Aliases()
    try:
        return Aliases.model_validate_json(document)
    except ValidationError as error:
        raise ArtifactError(
            f"{where} cannot be read ({error}); restore it from a backup, or delete it and promote a version again"
        ) from error


def make_move(
    aliases: Aliases,
    alias: Alias,
    *,
    version: str,
    kind: Literal["promote", "roll_back"],
    by: str | None,
    reason: str,
) -> Aliases:
    """With an alias at another version, and who moved it, when and why.

    Parameters
    ----------
    by
        Who; None is the user of this process.
    """
    return aliases.moved(
        Promotion(
            alias=alias,
            version=version,
            previous=aliases.current.get(alias),
            kind=kind,
            by=by or _this_user(),
            at=datetime.now(UTC),
            reason=reason,
        )
    )


def check_expected(aliases: Aliases, alias: Alias, *, expected: str | None, name: str) -> None:
    """Refuse to move an alias that is not where the caller saw it; None expects nothing.

    Raises
    ------
    ConflictError
        If somebody else has moved it.
    """
    found = aliases.current.get(alias)
    if expected is not None and found != expected:
        raise ConflictError(
            f"{alias} of {name} is {found or 'not set'}, not {expected}: somebody else moved it; look again "
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


def _this_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # A container may run as a number without a name.
        return f"uid {os.getuid()}"
