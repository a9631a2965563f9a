"""From a shop's columns to ours: names, constants and types."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from cluster.errors import SchemaError
from cluster.schema import DAY, DEFAULT_LOCATION, INSTANT, NUMBER, TABLES, Col
from cluster.settings.data import TableSource

# Text forms of a date or an instant that need no configuration: ISO 8601 and its common relaxations.
_ISO_FORMS = (
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
    "%Y%m%d",
)
_ISO_OFFSET_FORMS = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z")

# Tables whose rows speak of one place: without a location they mean the only one there is.
_ONE_PLACE = ("orders", "stock", "open_orders", "supply_terms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """Rows in our columns: as types of the schema, as the text that was read, and where the two disagree."""

    frame: pl.DataFrame
    raw: pl.DataFrame
    unreadable: Mapping[str, pl.Series]


def check_table_name(table: str) -> None:
    """Refuse a table that the schema does not know.

    Raises
    ------
    SchemaError
        With the closest known name.
    """
    if table not in TABLES:
        raise SchemaError(f"data.tables.{table}: there is no such table{_did_you_mean(table, list(TABLES))}")


def map_columns(table: str, *, source: TableSource, available: Sequence[str], where: str) -> dict[str, str]:
    """Our column name -> the file's, for every column of the table that the file has.

    Raises
    ------
    SchemaError
        If the mapping names a column that we or the file do not have, or a required column is missing.
    """
    ours = TABLES[table].names
    for name in (*source.columns, *source.constants):
        if name not in ours:
            raise SchemaError(f"data.tables.{table}.columns: we have no column '{name}'{_did_you_mean(name, ours)}")
    for name, theirs in source.columns.items():
        if theirs not in available:
            raise SchemaError(
                f"{where}: no column '{theirs}', which data.tables.{table}.columns.{name} asks for"
                f"{_did_you_mean(theirs, available)}; mend the mapping or the file"
            )
    found = {
        name: source.columns.get(name, name)
        for name in ours
        if name not in source.constants and source.columns.get(name, name) in available
    }
    missing = [name for name in ours if not TABLES[table].field(name).nullable and name not in found]
    missing = [name for name in missing if name not in source.constants]
    if missing:
        name = missing[0]
        hint = _did_you_mean(name, available) or f" (it has {', '.join(available)})"
        raise SchemaError(
            f"{where}: required column '{name}' of table '{table}' is missing{hint}; "
            f'map it with data.tables.{table}.columns.{name} = "<column of the file>"'
        )
    return found


def map_rows(
    rows: pa.Table, *, table: str, source: TableSource, found: Mapping[str, str], timezone: str, where: str
) -> Mapped:
    """Rows of a file in our columns and types.

    Raises
    ------
    SchemaError
        If no value at all of a column can be read as its type: that is a wrong mapping, not bad rows.
    """
    read = pl.DataFrame(pl.from_arrow(rows.select(list(dict.fromkeys(found.values())))))
    columns, raws, unreadable = [], [], {}
    for field in TABLES[table]:
        name = field.name
        if name in found:
            raw = read[found[name]].alias(name)
        else:
            raw = pl.Series(name, [source.constants.get(name)], strict=False).new_from_index(0, read.height)
        typed = _cast(raw, field.type, source=source, timezone=source.timezone or timezone)
        given = _is_given(raw)
        failed = given & typed.is_null()
        if failed.any():
            if not (given & ~failed).any():
                raise SchemaError(_wrong_type(field, found.get(name, name), raw, given, table, where))
            unreadable[name] = failed
        columns.append(typed)
        raws.append(raw)
    return Mapped(frame=_fill(pl.DataFrame(columns), table), raw=pl.DataFrame(raws), unreadable=unreadable)


def as_table(frame: pl.DataFrame, table: str) -> pa.Table:
    """Columns of the schema, in its order and exact types."""
    schema = TABLES[table]
    return frame.select(schema.names).to_arrow().cast(_all_nullable(schema)).replace_schema_metadata(schema.metadata)


def _all_nullable(schema: pa.Schema) -> pa.Schema:
    # Required columns hold no nulls by now, but Arrow refuses the cast from polars' nullable fields.
    return pa.schema([column.with_nullable(True) for column in schema])


def _fill(frame: pl.DataFrame, table: str) -> pl.DataFrame:
    if table in _ONE_PLACE:
        frame = frame.with_columns(pl.col(Col.LOCATION_ID).fill_null(DEFAULT_LOCATION))
    if table == "orders":
        quantity, amount, price = pl.col(Col.SOLD_QTY), pl.col(Col.AMOUNT), pl.col(Col.UNIT_PRICE)
        # A wrong value fails its own rule once, not again in the column derived from it.
        each = pl.when((quantity != 0) & (amount / quantity >= 0)).then(amount / quantity)
        total = pl.when(price >= 0).then(quantity * price)
        frame = frame.with_columns(
            pl.coalesce(amount, total).alias(Col.AMOUNT), pl.coalesce(price, each).alias(Col.UNIT_PRICE)
        )
    if table == "promotions":
        frame = frame.with_columns(pl.col(Col.INTENSITY).fill_null(1.0))
    return frame


def _is_given(raw: pl.Series) -> pl.Series:
    given = raw.is_not_null()
    if raw.dtype == pl.String:
        given = given & (raw.str.strip_chars() != "")
    if raw.dtype.is_float():
        given = given & raw.is_not_nan().fill_null(value=False)
    return given


def _cast(raw: pl.Series, kind: pa.DataType, *, source: TableSource, timezone: str) -> pl.Series:
    if raw.dtype in (pl.Categorical, pl.Enum, pl.Binary):
        raw = raw.cast(pl.String, strict=False)
    if kind == NUMBER:
        return _as_number(raw)
    if kind in (INSTANT, DAY):
        instants = _as_instant(raw, form=source.datetime_format, timezone=timezone)
        return instants if kind == INSTANT else instants.dt.convert_time_zone(timezone).dt.date()
    return _as_text(raw)


def _as_text(raw: pl.Series) -> pl.Series:
    if raw.dtype.is_float():
        # Ids that went through a float column, as a missing value makes pandas do: 17850.0 is "17850".
        whole = raw.cast(pl.Int64, strict=False)
        is_whole = (whole.cast(pl.Float64) == raw).fill_null(value=False)
        text = whole.cast(pl.String).zip_with(is_whole, raw.fill_nan(None).cast(pl.String))
    else:
        text = raw.cast(pl.String, strict=False).str.strip_chars()
    return text.set(text == "", None) if (text == "").any() else text


def _as_number(raw: pl.Series) -> pl.Series:
    if raw.dtype == pl.String:
        raw = raw.str.strip_chars()
    if raw.dtype.is_temporal():
        return pl.Series(raw.name, [None], dtype=pl.Float64).new_from_index(0, len(raw))
    return raw.cast(pl.Float64, strict=False).fill_nan(None)


def _as_instant(raw: pl.Series, *, form: str | None, timezone: str) -> pl.Series:
    if raw.dtype == pl.Date:
        raw = raw.cast(pl.Datetime("us"))
    if isinstance(raw.dtype, pl.Datetime):
        return _to_utc(raw.dt.cast_time_unit("us"), timezone)
    text = raw.cast(pl.String, strict=False).str.strip_chars()
    naive = _parse(text, (form,) if form else _ISO_FORMS)
    instants = _to_utc(naive, timezone)
    if form is None and instants.null_count() > text.null_count():
        instants = instants.zip_with(instants.is_not_null(), _parse(text, _ISO_OFFSET_FORMS, utc=True))
    return instants


def _parse(text: pl.Series, forms: Sequence[str], *, utc: bool = False) -> pl.Series:
    zone = "UTC" if utc else None
    parsed = pl.Series(text.name, [None], dtype=pl.Datetime("us", zone)).new_from_index(0, len(text))
    for form in forms:
        if parsed.null_count() == text.null_count():
            break
        attempt = text.str.to_datetime(form, time_unit="us", time_zone=zone, strict=False)
        parsed = parsed.zip_with(parsed.is_not_null(), attempt)
    return parsed


def _to_utc(instants: pl.Series, timezone: str) -> pl.Series:
    if instants.dtype.time_zone is None:  # type: ignore[attr-defined]  # callers pass Datetime series
        # A local time that a clock change repeats or skips still is a sale of that day.
        frame = instants.to_frame()
        local = pl.col(instants.name)
        sure = local.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
        later = (local + pl.duration(hours=1)).dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
        instants = frame.select(pl.coalesce(sure, later).alias(instants.name)).to_series()
    return instants.dt.convert_time_zone("UTC")


def _wrong_type(field: pa.Field, theirs: str, raw: pl.Series, given: pl.Series, table: str, where: str) -> str:
    example = raw.filter(given)[0]
    hint = f"or set data.tables.{table}.datetime_format" if field.type in (INSTANT, DAY) else "or mend the file"
    return (
        f"{where}: no value of column '{theirs}' can be read as {field.type} for '{field.name}' "
        f"(e.g. {example!r}); map another column with data.tables.{table}.columns.{field.name} {hint}"
    )


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    by_plain = {_plain(one): one for one in known}
    close = difflib.get_close_matches(_plain(name), list(by_plain), n=1, cutoff=0.6)
    return f"; did you mean '{by_plain[close[0]]}'?" if close else ""


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
