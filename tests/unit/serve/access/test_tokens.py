"""Tokens: their text, their book, and how long an answer about one counts."""

import asyncio
import re
import sqlite3
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from cluster.config import load_settings
from cluster.errors import ConflictError, DataError
from serve.access.callers import Caller, Callers
from serve.access.roles import Role
from serve.access.tokens import Token, TokenBook, token_id_of
from serve.store.audit import history_of
from serve.store.database import Database, DatabaseDownError, open_database
from serve.store.tables import TokenRow

DAY = timedelta(days=1)


class Clock:
    """A time that a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(database: Database, clock: Clock) -> TokenBook:
    return TokenBook(database, clock=clock)


def make(book: TokenBook, name: str = "anna", *, role: Role = Role.PLANNER, lasts: timedelta = DAY) -> str:
    return book.create(name, role=role, lasts=lasts, actor="test")


def test_a_token_is_found_until_it_expires(book: TokenBook, clock: Clock) -> None:
    text = make(book)
    found = book.find(text)
    assert found is not None
    assert (found.name, found.role, found.expires_at) == ("anna", Role.PLANNER, clock.now + DAY)
    clock.now += DAY - timedelta(microseconds=1)
    assert book.find(text) is not None
    clock.now += timedelta(microseconds=1)
    assert book.find(text) is None


def test_a_revoked_token_is_not_found_and_stays_in_the_list(book: TokenBook, clock: Clock) -> None:
    text = make(book)
    clock.now += timedelta(hours=1)
    other = make(book, "bert")
    revoked_at = book.revoke("anna", actor="test").revoked_at
    assert revoked_at == clock.now
    clock.now += timedelta(hours=1)
    assert book.revoke(token_id_of(text) or "", actor="test").revoked_at == revoked_at
    assert book.find(text) is None
    assert book.find(other) is not None
    assert [token.name for token in book.all()] == ["anna", "bert"]


@pytest.mark.parametrize("name", ["", "a b", "-a", "a" * 65, "a\n", "é", "a;DROP", "../a"])
def test_names_that_would_spoil_the_audit_are_refused(book: TokenBook, name: str) -> None:
    with pytest.raises(DataError, match="use up to 64 letters"):
        make(book, name)


def test_a_name_is_given_once_for_ever(book: TokenBook) -> None:
    make(book)
    book.revoke("anna", actor="test")
    with pytest.raises(ConflictError, match="if only by a revoked one"):
        make(book)
    with pytest.raises(DataError, match="no token is called 'carl'"):
        book.revoke("carl", actor="test")


def test_nothing_of_the_secret_is_stored(tmp_path: Path) -> None:
    book = TokenBook(open_database(load_settings(overrides=[f'home="{tmp_path}"'])))
    text = make(book)
    assert book.find(text) is not None
    _, token_id, secret = text.split("_")
    connection = sqlite3.connect(tmp_path / "restock.db")
    dump = "\n".join(connection.iterdump()).lower()
    connection.close()
    assert token_id in dump
    assert secret[:16] not in dump
    assert secret[:64].encode().hex() not in dump


def test_two_tokens_of_one_secret_would_not_look_alike(book: TokenBook, database: Database) -> None:
    make(book, "anna")
    make(book, "bert")
    with database.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT salt, digest FROM access_token").all()
    assert len({row[0] for row in rows}) == len({row[1] for row in rows}) == 2
    assert {(len(bytes(row[0])), len(bytes(row[1]))) for row in rows} == {(16, 32)}


def test_making_and_revoking_are_in_the_audit(book: TokenBook, database: Database) -> None:
    make(book)
    book.revoke("anna", actor="carl")
    with database.reading() as session:
        rows = history_of(session, subject="token", subject_id="anna", limit=10)
        assert [(row.action, row.actor) for row in rows] == [("create", "test"), ("revoke", "carl")]
        assert rows[0].after["role"] == "planner"


def test_a_use_is_noted_once_a_minute(book: TokenBook, clock: Clock) -> None:
    text = make(book)
    first = clock.now

    def use() -> datetime | None:
        token = book.find(text)
        assert token is not None
        book.note_use(token)
        return book.all()[0].last_used_at

    assert use() == first
    clock.now += timedelta(seconds=50)
    assert use() == first
    clock.now += timedelta(seconds=20)
    assert use() == clock.now


@given(st.text())
def test_other_text_is_no_token(text: str) -> None:
    assert token_id_of(text) is None


@given(place=st.integers(0, 88), letter=st.sampled_from("0123456789abcdef_rst"))
def test_a_slip_of_one_letter_is_seen_without_asking(place: int, letter: str) -> None:
    text = "rst_5e74520ec299_a50773b5a3fcb476a9d027405104c6a9ebe9daf836a093352a346ff23eb8b64d63af64e5"
    assert token_id_of(text) == "5e74520ec299"
    slipped = text[:place] + letter + text[place + 1 :]
    assert token_id_of(slipped) == ("5e74520ec299" if slipped == text else None)


def test_a_forged_secret_with_a_right_checksum_is_refused(book: TokenBook) -> None:
    import zlib

    text = make(book)
    forged = text[:17] + "0" * 64
    forged += f"{zlib.crc32(forged.encode()):08x}"
    assert token_id_of(forged) == token_id_of(text)
    assert book.find(forged) is None


class Asked:
    """A book that counts its questions and can be down."""

    def __init__(self, book: TokenBook) -> None:
        self.book = book
        self.num_asked = 0
        self.is_down = False

    def find(self, text: str) -> Token | None:
        self.num_asked += 1
        if self.is_down:
            raise DatabaseDownError("the database does not answer")
        return self.book.find(text)

    def note_use(self, token: Token) -> None:
        self.book.note_use(token)


class Seconds:
    """A monotonic time that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def asked(database: Database) -> Asked:
    return Asked(TokenBook(database))


def test_an_answer_counts_for_its_seconds_and_then_a_revoked_token_is_out(asked: Asked) -> None:
    seconds = Seconds()
    callers = Callers(asked, fresh_s=5, stale_s=100, clock=seconds)
    text = make(asked.book)

    def caller() -> Caller | None:
        return asyncio.run(callers.caller_of(text))

    first = caller()
    assert first == Caller(name="anna", role=Role.PLANNER, key=token_id_of(text) or "")
    asked.book.revoke("anna", actor="test")
    seconds.now = 5.0
    assert caller() == first
    assert asked.num_asked == 1
    seconds.now = 5.1
    assert caller() is None
    assert caller() is None
    assert asked.num_asked == 2


def test_a_token_that_expires_meanwhile_is_out_at_once(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(hours=2)

    callers = Callers(asked, fresh_s=1_000, stale_s=0)
    text = make(asked.book, lasts=timedelta(hours=1))
    assert asyncio.run(callers.caller_of(text)) is not None
    monkeypatch.setattr("serve.access.callers.datetime", Later)
    assert asyncio.run(callers.caller_of(text)) is None
    assert asked.num_asked == 1


def test_while_the_database_is_down_what_it_confirmed_lately_counts(asked: Asked) -> None:
    seconds = Seconds()
    callers = Callers(asked, fresh_s=5, stale_s=100, clock=seconds)
    known, stranger = make(asked.book), make(asked.book, "bert")
    assert asyncio.run(callers.caller_of(known)) is not None
    asked.is_down = True
    seconds.now = 100
    assert asyncio.run(callers.caller_of(known)) is not None
    with pytest.raises(DatabaseDownError):
        asyncio.run(callers.caller_of(stranger))
    seconds.now = 101
    with pytest.raises(DatabaseDownError):
        asyncio.run(callers.caller_of(known))
    asked.is_down = False
    assert asyncio.run(callers.caller_of(stranger)) is not None


def test_a_request_notes_its_use_and_does_not_wait_for_other_writers(asked: Asked, database: Database) -> None:
    callers = Callers(asked, fresh_s=5, stale_s=5)
    text = make(asked.book)

    async def scenario() -> None:
        with database.writing() as session:
            session.execute(update(TokenRow).values(last_used_at=None))
            # SQLite has one writer at a time, PostgreSQL one for a row: the note must wait for this transaction.
            assert await callers.caller_of(text) is not None
        await asyncio.gather(*callers._notes)

    asyncio.run(scenario())
    assert asked.book.all()[0].last_used_at is not None


def test_text_that_is_no_token_asks_nobody(asked: Asked) -> None:
    callers = Callers(asked, fresh_s=5, stale_s=5)
    for text in ("", "rst_", "Bearer", make(asked.book)[:-1], "rst_" + "0" * 85):
        assert asyncio.run(callers.caller_of(text)) is None
    assert asked.num_asked == 0


def test_the_command_line_makes_lists_and_revokes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    from restock.cli import main

    def run(*arguments: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["restock", "tokens", *arguments, "--set", f"home={tmp_path}"])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        assert not end.value.code, err
        return out, err

    made, said = run("create", "anna", "--role", "planner", "--days", "7")
    assert re.fullmatch(r"rst_[0-9a-f]{12}_[0-9a-f]{72}\n", made)
    assert "only time" in said
    listed, _ = run("list", "--json")
    assert '"role": "planner"' in listed
    assert made.strip() not in listed
    assert "anna" in run("revoke", "anna")[0]
    assert "revoked" in run("list")[0]
