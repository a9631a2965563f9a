"""Tables of a SQL database, by SQLAlchemy URL."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet
import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from cluster.errors import DataError
from cluster.settings.data import TableSource
from cluster.sources.urls import read_url, shown_url

_BATCH_ROWS = 200_000
_CONNECT_TIMEOUT_S = 10


def fetch_table(table: str, *, source: TableSource, path: Path) -> TableSource:
    """Copy the rows of a query into a Parquet file and return the source that reads them from there.

    Values keep the types that the database gives; ids and dates are read as any file's are. The file is the only copy
    and lives as long as the load.

    Raises
    ------
    DataError
        If the database does not answer or refuses the query. Secrets of the URL are in no message.
    """
    assert source.query is not None
    query = source.query if " " in source.query.strip() else f"SELECT * FROM {source.query.strip()}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with _connect(table, source) as connection:
        _write(connection.execution_options(stream_results=True).execute(sqlalchemy.text(query)), path)
    return source.model_copy(update={"uri": str(path), "sql_url": None, "query": None})


def check_connection(table: str, *, source: TableSource) -> str:
    """Connect once and say to where; raises like :func:`fetch_table`."""
    with _connect(table, source):
        return shown_url(source.sql_url or "")


@contextmanager
def _connect(table: str, source: TableSource) -> Iterator[sqlalchemy.Connection]:
    engine, secrets = _make_engine(table, source)
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        for secret in secrets:
            reason = reason.replace(secret, "***")
        shown = shown_url(source.sql_url or "")
        raise DataError(
            f"data.tables.{table}: {shown} does not answer or refuses the query ({reason}); "
            "check the address, the password's variable and the query; 'restock doctor' tries the connection"
        ) from error
    finally:
        engine.dispose()


def _make_engine(table: str, source: TableSource) -> tuple[sqlalchemy.Engine, list[str]]:
    url, secrets = read_url(source.sql_url or "", key=f"data.tables.{table}.sql_url")
    timeout = {"connect_timeout": _CONNECT_TIMEOUT_S} if url.get_backend_name() in ("postgresql", "mysql") else {}
    return sqlalchemy.create_engine(url, connect_args=timeout), secrets


def _write(rows: sqlalchemy.CursorResult[tuple[object, ...]], path: Path) -> None:
    names = list(rows.keys())
    writer: pa.parquet.ParquetWriter | None = None
    try:
        while batch := rows.fetchmany(_BATCH_ROWS):
            part = _as_arrow(names, batch)
            writer = writer or pa.parquet.ParquetWriter(path, part.schema)
            writer.write_table(part)
        if writer is None:
            pa.parquet.write_table(pa.table({name: pa.array([], pa.string()) for name in names}), path)
    finally:
        if writer is not None:
            writer.close()


def _as_arrow(names: list[str], batch: Sequence[Sequence[object]]) -> pa.Table:
    """As text, exactly: drivers differ in what types they give, and a batch of nulls has none."""
    columns = zip(*batch, strict=True)
    return pa.table(
        {
            name: pl.Series([None if value is None else _text(value) for value in column], dtype=pl.String).to_arrow()
            for name, column in zip(names, columns, strict=True)
        }
    )


def _text(value: object) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
