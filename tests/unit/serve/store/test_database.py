"""The database: its tables, its migrations, and what is said when it does not answer."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from databases import running_postgres
from planned_shop import Shop, count_stock
from sqlalchemy import func, select

from cluster.config import Settings, load_settings
from cluster.errors import ConfigError
from serve.store.database import Database, DatabaseDownError, open_database
from serve.store.tables import PlanRun, Stock, Table


def settings_of(url: str, *more: str) -> Settings:
    return load_settings(overrides=[f'serve.database_url="{url}"', *more])


def test_migrations_make_the_tables_that_the_code_knows(database: Database) -> None:
    with database.reading() as session:
        assert compare_metadata(MigrationContext.configure(session.connection()), Table.metadata) == []


def test_processes_that_start_together_migrate_once(database_url: str) -> None:
    def start(_: int) -> int | None:
        database = open_database(settings_of(database_url))
        with database.reading() as session:
            num_runs = session.scalar(select(func.count()).select_from(PlanRun))
        database.close()
        return num_runs

    with ThreadPoolExecutor(8) as starting:
        assert list(starting.map(start, range(8))) == [0] * 8


def test_a_database_of_a_newer_version_is_refused(database: Database, database_url: str) -> None:
    with database.writing() as session:
        session.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = '9999'"))
    older = open_database(settings_of(database_url))
    with pytest.raises(ConfigError, match="made by a newer Restock"), older.reading():
        pass
    older.close()


def test_by_default_it_is_a_file_in_the_home_folder(tmp_path: Path) -> None:
    database = open_database(load_settings(overrides=[f'home="{tmp_path / "new"}"']))
    with database.reading():
        database.close()
    assert (tmp_path / "new" / "restock.db").is_file()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql+pymysql://host/name", "not a usable SQLAlchemy URL"),
        ("sqlite://", "in memory"),
        ("no url", "not a usable SQLAlchemy URL"),
        ("postgresql+psycopg://user:${NO_SUCH_VARIABLE}@host/name", "no variable NO_SUCH_VARIABLE"),
        ("sqlite:////proc/nowhere/restock.db", "cannot be written"),
    ],
)
def test_an_address_that_cannot_be_used_is_named(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"serve.database_url.*{message}"):
        open_database(settings_of(url))


def test_a_server_that_is_not_there_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    database = open_database(settings_of("postgresql+psycopg://user:${SECRET}@127.0.0.1:1/name"))
    with pytest.raises(DatabaseDownError, match="does not answer") as caught, database.reading():
        pass
    assert "hunter2" not in str(caught.value)


def test_what_was_written_survives_a_crash_of_the_server_and_the_rest_is_refused() -> None:
    with running_postgres() as server:
        database = open_database(settings_of(server.new_schema()))
        count_stock(database, Shop(num_series=2), on_hand_qty=4)
        server.stop()
        with pytest.raises(DatabaseDownError, match="nothing was written"):
            count_stock(database, Shop(num_series=2), on_hand_qty=5)
        with pytest.raises(DatabaseDownError), database.reading() as session:
            session.scalars(select(Stock)).all()
        server.start()
        with database.reading() as session:
            assert [row.on_hand_qty for row in session.scalars(select(Stock))] == [4, 4]
        count_stock(database, Shop(num_series=2), on_hand_qty=5)
        database.close()


def test_a_writer_that_waits_too_long_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'restock.db'}"
    database = open_database(settings_of(url, "serve.database_timeout_s=0.1"))
    with database.reading():
        pass
    other = sqlalchemy.create_engine(url)
    with other.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseDownError):
            count_stock(database, Shop(num_series=1))
        with database.reading() as session:
            assert session.scalars(select(Stock)).all() == []
    other.dispose()
    database.close()
