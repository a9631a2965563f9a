"""Access tokens: what one looks like, and the book that remembers them without being able to show them.

::

    rst_5f0c9a1be233_<64 hexadecimal digits of secret><8 of checksum>

The prefix lets scanners of repositories find a token that was published, the checksum tells a slip of the keyboard from
a guess without asking the database. Stored is an HMAC of the whole under a salt of its own: the secret has 256 bits, so
that a slow hash would protect nothing more.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from cluster.errors import ConflictError, DataError, RestockError
from serve.access.roles import Role
from serve.store.audit import Change, record
from serve.store.database import Database, insert_first
from serve.store.tables import TokenRow

_FORM: Final = re.compile(r"rst_([0-9a-f]{12})_[0-9a-f]{64}([0-9a-f]{8})")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
# How far behind last_used_at may be: a write per request would be a write too many.
_USE_IS_NEWS: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is known of one token; never the token."""

    token_id: str
    name: str
    role: Role
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None

    def is_valid(self, now: datetime) -> bool:
        """Whether it opens anything at this moment."""
        return self.revoked_at is None and now < self.expires_at


def token_id_of(text: str) -> str | None:
    """The id in a token's text; None for what is no token, or was copied with a slip."""
    found = _FORM.fullmatch(text)
    if found is None or not hmac.compare_digest(_checksum(text[:-8]), found[2]):
        return None
    return found[1]


class TokenBook:
    """Makes, finds, lists and revokes tokens; what is made and revoked is in the audit."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = database
        self._clock = clock

    def create(self, name: str, *, role: Role, lasts: timedelta, actor: str) -> str:
        """Make a token and return its text, which is not kept: this is the only time that it can be read.

        Parameters
        ----------
        name
            Stands in the audit for what is done with this token, so that it is never given again.
        actor
            Who makes it.

        Raises
        ------
        DataError
            If the name is not one.
        ConflictError
            If there is, or ever was, a token of that name.
        """
        if not _NAME.fullmatch(name):
            raise DataError(f"token name {name!r}: use up to 64 letters and digits, and . _ @ - between them")
        text, salt, now = _make_text(), secrets.token_bytes(16), self._clock()
        row: dict[str, object] = {"token_id": token_id_of(text), "name": name, "role": role.value, "salt": salt}
        row |= {"digest": _digest(salt, text), "created_at": now, "expires_at": now + lasts}
        after = {"role": role.value, "expires_at": (now + lasts).isoformat()}
        with self._database.writing() as session:
            if not insert_first(session, TokenRow, row):
                raise ConflictError(f"token name {name!r} is taken, if only by a revoked one; choose another")
            _record_change(session, "create", name, after=after, actor=actor)
        return text

    def find(self, text: str) -> Token | None:
        """The valid token of this text; None for any other text."""
        token_id = token_id_of(text)
        if token_id is None:
            return None
        with self._database.reading() as session:
            row = session.get(TokenRow, token_id)
        # An unknown id costs the same work as a known one.
        salt, digest = (row.salt, row.digest) if row is not None else (b"", b"")
        is_same = hmac.compare_digest(_digest(salt, text), digest)
        if row is None or not is_same or not _token(row).is_valid(self._clock()):
            return None
        return _token(row)

    def note_use(self, token: Token) -> None:
        """Write down that a token is used now, where that is news."""
        now = self._clock()
        if token.last_used_at is not None and now - token.last_used_at <= _USE_IS_NEWS:
            return
        # A database that cannot be written does not close the door to a token that it has just confirmed.
        with suppress(RestockError), self._database.writing() as session:
            session.execute(update(TokenRow).where(TokenRow.token_id == token.token_id).values(last_used_at=now))

    def all(self) -> tuple[Token, ...]:
        """All tokens, the revoked and expired ones too, in the order in which they were made."""
        with self._database.reading() as session:
            rows = session.scalars(select(TokenRow).order_by(TokenRow.created_at, TokenRow.token_id)).all()
        return tuple(map(_token, rows))

    def revoke(self, name: str, *, actor: str) -> Token:
        """End a token, by its name or id; one that was revoked before stays as it was.

        Raises
        ------
        DataError
            If there is no such token.
        """
        with self._database.writing() as session:
            row = session.scalar(select(TokenRow).where((TokenRow.name == name) | (TokenRow.token_id == name)))
            if row is None:
                raise DataError(f"no token is called {name!r}; 'restock tokens list' names them all")
            if row.revoked_at is None:
                row.revoked_at = self._clock()
                _record_change(session, "revoke", row.name, after={}, actor=actor)
            return _token(row)


def _make_text() -> str:
    text = f"rst_{secrets.token_hex(6)}_{secrets.token_hex(32)}"
    return text + _checksum(text)


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _digest(salt: bytes, text: str) -> bytes:
    return hmac.new(salt, text.encode(), hashlib.sha256).digest()


def _record_change(session: Session, action: str, name: str, *, after: dict[str, str], actor: str) -> None:
    record(session, [Change(action=action, subject="token", subject_id=name, after=dict(after))], actor=actor)


def _token(row: TokenRow) -> Token:
    return Token(
        token_id=row.token_id,
        name=row.name,
        role=Role(row.role),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
