"""CSV and Parquet files, from a path, a glob, a folder or any fsspec URI."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import fsspec
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from fsspec.implementations.local import LocalFileSystem

from cluster.errors import DataError, QualityError, SchemaError
from cluster.privacy import UserIds
from cluster.quality import RuleContext, check_rows
from cluster.schema import TABLES, Col
from cluster.settings.data import TableSource
from cluster.sources.mapping import Mapped, as_table, check_table_name, map_columns, map_rows

# Rows handled at once: bounds memory, and keeps tasks long enough to be worth starting.
CHUNK_ROWS: Final = 1_000_000
_CSV_BLOCK_BYTES: Final = 32 << 20
_CSV_SUFFIXES: Final = (".csv", ".csv.gz", ".txt", ".tsv")
_PARQUET_SUFFIXES: Final = (".parquet", ".pq")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A part of one file that one task reads; ``row_groups`` is empty for a CSV, which is read as a whole."""

    table: str
    uri: str
    source: TableSource
    row_groups: tuple[int, ...] = ()
    first_row: int = 1

    @property
    def is_parquet(self) -> bool:
        """Whether the file is Parquet, by its suffix."""
        return self.uri.lower().endswith(_PARQUET_SUFFIXES)


def digest_files(files: Sequence[str]) -> str:
    """Digest of the content of local files; of remote ones, of what their store says instead (size, version, time)."""
    total = hashlib.sha256()
    with ThreadPoolExecutor() as pool:
        for name, content in pool.map(_name_and_digest, files):
            total.update(name.encode())
            total.update(content)
    return total.hexdigest()


def _name_and_digest(file: str) -> tuple[str, bytes]:
    filesystem, path = fsspec.core.url_to_fs(file)
    if not isinstance(filesystem, LocalFileSystem):
        return Path(path).name, str(filesystem.checksum(path)).encode()
    with Path(path).open("rb") as content:
        return Path(path).name, hashlib.file_digest(content, "blake2b").digest()


def find_files(table: str, *, source: TableSource) -> list[str]:
    """Every file of a source, in order.

    Raises
    ------
    DataError
        If there is none, the place does not answer, or a file is of a kind that we do not read.
    """
    key = f"data.tables.{table}.uri"
    assert source.uri is not None
    try:
        filesystem, path = fsspec.core.url_to_fs(source.uri)
        if filesystem.isdir(path):
            suffixes = (*_CSV_SUFFIXES, *_PARQUET_SUFFIXES)
            found = [one for one in filesystem.find(path) if one.lower().endswith(suffixes)]
        elif any(letter in path for letter in "*?["):
            found = list(filesystem.glob(path))
        else:
            found = [path] if filesystem.exists(path) else []
    except ImportError as error:
        raise DataError(f"{key}={source.uri}: {error}; install the package for this kind of address") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{key}={source.uri}: cannot be listed ({error}); check the address and access") from error
    if not found:
        raise DataError(f"{key}={source.uri}: no such file; check the path (relative ones start at {Path.cwd()})")
    is_remote = "://" in source.uri and not source.uri.startswith("file://")
    files = [filesystem.unstrip_protocol(one) if is_remote else one for one in sorted(found)]
    for file in files:
        if not file.lower().endswith((*_CSV_SUFFIXES, *_PARQUET_SUFFIXES)):
            raise DataError(f"{key}: {file} is neither CSV nor Parquet by its name; rename or convert it")
    return files


def list_chunks(table: str, *, source: TableSource) -> list[Chunk]:
    """What has to be read for a table; the columns of every file are checked here, before any work starts.

    Raises
    ------
    DataError
        If a file is missing, damaged or empty, or (:class:`SchemaError`) lacks a column.
    """
    check_table_name(table)
    chunks: list[Chunk] = []
    for file in find_files(table, source=source):
        whole = Chunk(table=table, uri=file, source=source)
        available = _column_names(whole)
        map_columns(table, source=source, available=available, where=file)
        chunks.extend(_split_row_groups(whole) if whole.is_parquet else [whole])
    return chunks


def read_batches(chunk: Chunk, *, timezone: str, users: UserIds | None = None) -> Iterator[tuple[int, Mapped]]:
    """Rows of a chunk in our columns and types, each batch with the number of its first row (a file starts at 1).

    Parameters
    ----------
    users
        Replaces the shop's ids of customers before anything else sees them.
    """
    available = _column_names(chunk)
    found = map_columns(chunk.table, source=chunk.source, available=available, where=chunk.uri)
    first_row = chunk.first_row
    batches = _parquet_batches(chunk, found) if chunk.is_parquet else _csv_batches(chunk, found)
    for rows in batches:
        rows = rows if users is None else _hide_users(rows, column=found.get(Col.USER_ID), users=users)
        mapped = map_rows(rows, table=chunk.table, source=chunk.source, found=found, timezone=timezone, where=chunk.uri)
        yield first_row, mapped
        first_row += rows.num_rows


def _hide_users(rows: pa.Table, *, column: str | None, users: UserIds) -> pa.Table:
    if column is None:
        return rows
    names = users.hide(pl.DataFrame(pl.from_arrow(rows.select([column])))[column])
    return rows.set_column(rows.column_names.index(column), column, names.to_arrow().cast(pa.string()))


def read_table(name: str, path: str | Path, *, timezone: str = "UTC") -> pa.Table:
    """One small file as a table of the schema, every row of which must satisfy the rules.

    For stock snapshots, open orders and supply terms given to a verb: a wrong row there means a wrong order, so
    nothing is quarantined.

    Parameters
    ----------
    name
        Table of :data:`cluster.schema.TABLES`. The file uses our column names.

    Raises
    ------
    DataError
        If the file is missing or damaged; :class:`SchemaError` for its columns, :class:`QualityError` for its rows.
    """
    source = TableSource(uri=str(path))
    check_table_name(name)
    frames = [pl.DataFrame(pl.from_arrow(TABLES[name].empty_table()))]
    # Dates are not held against a clock here: whoever plans compares the snapshot with the plan's date.
    context = RuleContext(today=date.max.replace(year=9000))
    for chunk in list_chunks(name, source=source):
        for first_row, mapped in read_batches(chunk, timezone=timezone):
            checked = check_rows(mapped.frame, table=name, context=context, unreadable=mapped.unreadable)
            if checked.broken.height:
                raise QualityError(_bad_rows(path, first_row, checked.broken, mapped.raw))
            frames.append(checked.passed)
    return as_table(pl.concat(frames), name)


def _bad_rows(path: str | Path, first_row: int, broken: pl.DataFrame, raw: pl.DataFrame) -> str:
    position, _, reason = broken.row(0)
    columns = [name for name in raw.columns if name in reason] or [Col.ITEM_ID]
    values = ", ".join(f"{name}={raw[name][position]!r}" for name in columns if name in raw.columns)
    more = f"; {broken.height - 1} more rows are wrong" if broken.height > 1 else ""
    return f"{path} row {first_row + position}: {reason} (got {values}){more}; mend the file"


def _open(uri: str) -> Any:
    return fsspec.open(uri, "rb", compression="infer").open()


def _column_names(chunk: Chunk) -> list[str]:
    try:
        if chunk.is_parquet:
            with _open(chunk.uri) as file:
                return list(pa.parquet.ParquetFile(file).schema_arrow.names)
        return _csv_header(chunk)
    except pa.ArrowException as error:
        raise DataError(f"{chunk.uri}: not a readable Parquet file ({error}); export it again") from error
    except OSError as error:
        raise DataError(f"{chunk.uri}: cannot be read ({error}); check the file and access to it") from error


def _csv_header(chunk: Chunk) -> list[str]:
    with _open(chunk.uri) as file:
        line = file.readline(1 << 20)
    if not line.strip():
        raise SchemaError(f"{chunk.uri}: the file is empty; it needs a header line with the column names")
    delimiter = chunk.source.delimiter
    try:
        names = list(pa.csv.read_csv(pa.BufferReader(line), parse_options=_parse_options(chunk)).column_names)
    except pa.ArrowException as error:
        raise SchemaError(f"{chunk.uri}: the header is not readable ({error}); save the file as UTF-8 CSV") from error
    other = next((mark for mark in ";\t|" if mark != delimiter and mark.encode() in line), None)
    if len(names) == 1 and other:
        raise SchemaError(
            f"{chunk.uri}: the header has one column {names[0]!r}; it seems split by {other!r}: "
            f"set data.tables.{chunk.table}.delimiter"
        )
    return [name.strip() for name in names]


def _parse_options(chunk: Chunk) -> Any:
    return pa.csv.ParseOptions(delimiter=chunk.source.delimiter, newlines_in_values=True)


def _csv_batches(chunk: Chunk, found: dict[str, str]) -> Iterator[pa.Table]:
    # Every column is read as text and cast by us: types inferred per file would differ between files.
    names = _csv_header(chunk)
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        include_columns=list(dict.fromkeys(found.values())),
        strings_can_be_null=True,
        null_values=["", "NULL", "null", "NA", "NaN", "nan"],
    )
    read = pa.csv.ReadOptions(block_size=_CSV_BLOCK_BYTES, column_names=names, skip_rows=1, use_threads=False)
    seen = 0
    try:
        with _open(chunk.uri) as file:
            reader = pa.csv.open_csv(
                file, read_options=read, parse_options=_parse_options(chunk), convert_options=convert
            )
            for batch in reader:
                seen += batch.num_rows
                yield pa.Table.from_batches([batch])
    except pa.ArrowException as error:
        if "Empty CSV file" not in str(error):
            raise DataError(
                f"{chunk.uri}: not readable as CSV after row {seen} ({error}); mend that row, or save the file as UTF-8"
            ) from error


def _split_row_groups(whole: Chunk) -> list[Chunk]:
    with _open(whole.uri) as file:
        metadata = pa.parquet.ParquetFile(file).metadata
    chunks: list[Chunk] = []
    groups: list[int] = []
    first_row, rows = 1, 0
    for group in range(metadata.num_row_groups):
        groups.append(group)
        rows += metadata.row_group(group).num_rows
        if rows >= CHUNK_ROWS or group == metadata.num_row_groups - 1:
            chunks.append(
                Chunk(
                    table=whole.table,
                    uri=whole.uri,
                    source=whole.source,
                    row_groups=tuple(groups),
                    first_row=first_row,
                )
            )
            first_row, rows, groups = first_row + rows, 0, []
    return chunks


def _parquet_batches(chunk: Chunk, found: dict[str, str]) -> Iterator[pa.Table]:
    columns = list(dict.fromkeys(found.values()))
    try:
        with _open(chunk.uri) as file:
            reader = pa.parquet.ParquetFile(file)
            groups: Sequence[int] = chunk.row_groups
            for batch in reader.iter_batches(batch_size=CHUNK_ROWS, row_groups=groups, columns=columns):
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{chunk.uri}: damaged Parquet file ({error}); export it again") from error
