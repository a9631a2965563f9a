"""The database: SQLite in the home folder, or PostgreSQL by URL; the same statements on both.

A request writes in one transaction or not at all. On SQLite writers queue for the file (``BEGIN IMMEDIATE``), on
PostgreSQL for the rows that they touch. What the database says is told as a :class:`RestockError`: it does not answer
(:class:`DatabaseDownError`), or somebody else was first (:class:`ConflictError`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from cluster.config import Settings
from cluster.errors import ConfigError, ConflictError
from cluster.sources.urls import read_url
from serve.problems import NotReadyError
from serve.store.tables import Table

_MIGRATIONS: Final = Path(__file__).parents[1] / "migrations"
_KEY: Final = "serve.database_url"
_CONNECT_TIMEOUT_S: Final = 5
# Arbitrary, ours: one process migrates, or takes stock in, at a time.
_MIGRATION_LOCK: Final = 0x5265_7301
_BOOK_LOCK: Final = 0x5265_7302
# serialization_failure, deadlock_detected, lock_not_available
_LOST_RACE: Final = ("40001", "40P01", "55P03")


class DatabaseDownError(NotReadyError):
    """The database does not answer: nothing was written."""

    title = "Database not available"


class Database:
    """Sessions on one database; the first one brings its tables to the form that this code knows.

    Parameters
    ----------
    url
        SQLAlchemy URL of SQLite or PostgreSQL.
    timeout_s
        Longest wait for other writers.
    """

    def __init__(self, url: sqlalchemy.URL, *, timeout_s: float) -> None:
        self.engine = _make_engine(url, timeout_s=timeout_s)
        self._is_current = False

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that only reads.

        Raises
        ------
        ConfigError
            If the database was made by a newer Restock.
        DatabaseDownError
            If the database does not answer.
        """
        with _told():
            self._bring_up_to_date()
            with Session(self.engine) as session:
                yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that is committed at the end, or rolled back at an exception.

        Raises
        ------
        DatabaseDownError
            If the database does not answer: nothing was written, unless the connection broke at the very commit.
        ConflictError
            If another writer was first.
        """
        with _told():
            self._bring_up_to_date()
            with Session(self.engine.execution_options(is_write=True)) as session, session.begin():
                yield session

    def _bring_up_to_date(self) -> None:
        # Several threads may: the database lets one at a time, and the others find nothing left to do.
        if not self._is_current:
            _migrate(self.engine)
            self._is_current = True

    def close(self) -> None:
        """Close idle connections."""
        self.engine.dispose()


def open_database(settings: Settings) -> Database:
    """The database of the settings, which need not answer yet.

    Raises
    ------
    ConfigError
        If the URL cannot be used.
    """
    text = settings.serve.database_url or f"sqlite:///{(settings.home / 'restock.db').absolute()}"
    url, _ = read_url(text, key=_KEY)
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigError(f"{_KEY}: {url.get_backend_name()} is not supported; use SQLite or PostgreSQL")
    if url.get_backend_name() == "sqlite":
        _make_folder(url)
    return Database(url, timeout_s=settings.serve.database_timeout_s)


def _migrate(engine: Engine) -> None:
    """Run the steps that the database has not seen."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    head = ScriptDirectory.from_config(config).get_current_head()
    with engine.connect() as connection:
        if MigrationContext.configure(connection).get_current_revision() == head:
            return
    with engine.execution_options(is_write=True).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise ConfigError(
                f"{_KEY}: the database was made by a newer Restock ({error}; this one knows steps up to {head}); "
                "install that version, or point to another database"
            ) from error


def insert_missing(session: Session, table: type[Table], rows: Sequence[dict[str, Any]]) -> int:
    """Insert the rows whose keys are not there yet; how many."""
    if not rows:
        return 0
    key = cast(sqlalchemy.Table, table.__table__).primary_key.columns
    statement = _insert(session, table).on_conflict_do_nothing().returning(*key)
    return len(session.connection().execute(statement, list(rows)).all())


def insert_first(session: Session, table: type[Table], row: dict[str, Any]) -> bool:
    """Insert a row unless its key is there; whether it was inserted. Waits for others who insert the same key."""
    key = cast(sqlalchemy.Table, table.__table__).primary_key.columns
    statement = _insert(session, table).values(row).on_conflict_do_nothing().returning(*key)
    return session.connection().execute(statement).first() is not None


def _insert(session: Session, table: type[Table]) -> Any:
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    return (sqlite.insert if is_sqlite else postgresql.insert)(table)


def lock_book(session: Session) -> None:
    """Let one transaction at a time change stock and open orders from outside: their rows depend on one another."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(sqlalchemy.text(f"SELECT pg_advisory_xact_lock({_BOOK_LOCK})"))


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        raise _of_operational(error) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise _of_operational(error) from error
        raise


def _of_operational(error: Exception) -> DatabaseDownError | ConflictError:
    if getattr(getattr(error, "orig", None), "sqlstate", None) in _LOST_RACE:
        return ConflictError("somebody else was writing the same rows; try again")
    return DatabaseDownError("the database does not answer: nothing was written; try again in a moment")


def _make_folder(url: sqlalchemy.URL) -> None:
    if not url.database or url.database == ":memory:":
        raise ConfigError(f"{_KEY}: a database in memory is another one in every process; name a file")
    try:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{_KEY}: {url.database} cannot be written ({error.strerror}); name another file") from error


def _make_engine(url: sqlalchemy.URL, *, timeout_s: float) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = sqlalchemy.create_engine(url, connect_args={"timeout": timeout_s})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    # After the URL's own options, which stay.
    options = f"{url.query.get('options', '')} -c lock_timeout={int(timeout_s * 1000)} -c timezone=UTC"
    arguments = {"connect_timeout": _CONNECT_TIMEOUT_S, "options": options}
    # Pinged, so that a restart of the server costs no request.
    return sqlalchemy.create_engine(url, pool_pre_ping=True, pool_timeout=timeout_s, connect_args=arguments)


def _prepare_sqlite(connection: Any, _: Any) -> None:
    # The driver's own transactions begin too late: see _begin_sqlite.
    connection.isolation_level = None
    # FULL: what was acknowledged survives a power cut, not only a crash.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes its turn at once: one that read first and wrote later could be refused in between.
    is_write = connection.get_execution_options().get("is_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")
