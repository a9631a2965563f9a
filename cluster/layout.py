"""The files inside the folder of one dataset: where they lie and how they are written.

::

    <digest>/dataset.json               calendar, promotion channels, holidays, quality report
             tables/<table>.parquet     cleaned tables; orders are a folder with one file per shard
             panel/shard-000.parquet    one row per series, list columns
             quarantine/<table>/*.parquet   rows that broke a rule
"""

from datetime import date
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet

from cluster.quality import RuleContext
from cluster.schema import ORDERS, Col
from cluster.sources.mapping import Mapped

# Where a row came from, carried beside it while it is cleaned.
FILE: Final = "_file"
ROW: Final = "_row"


# Hardly any value of these comes twice in a file: a dictionary of them takes longer and more space than they do.
_NO_DICTIONARY: Final = {Col.ORDER_ID, Col.USER_ID, Col.ORDERED_AT}


def write_table(rows: pa.Table, path: Path, *, row_group: int = 64_000) -> None:
    """Write a Parquet file that can be read in parts; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = [name for name in rows.column_names if name not in _NO_DICTIONARY]
    dictionary = encoded if len(encoded) < rows.num_columns else True
    pa.parquet.write_table(rows, path, row_group_size=row_group, compression="zstd", use_dictionary=dictionary)


def read_frame(folder: Path, table: str) -> pl.DataFrame | None:
    """A table of one file, or None where the dataset has none."""
    path = folder / "tables" / f"{table}.parquet"
    return pl.DataFrame(pl.from_arrow(pa.parquet.read_table(path))) if path.exists() else None


def read_context(folder: Path, *, today: date) -> RuleContext:
    """What rules compare with: the master tables that the dataset in this folder has so far."""

    def ids(table: str, column: str) -> pl.Series | None:
        path = folder / "tables" / f"{table}.parquet"
        return pl.read_parquet(path, columns=[column]).to_series() if path.exists() else None

    return RuleContext(today=today, item_ids=ids("items", Col.ITEM_ID), location_ids=ids("locations", Col.LOCATION_ID))


def quarantine_rows(
    folder: Path, *, table: str, name: str, file: str, first_row: int, mapped: Mapped, broken: pl.DataFrame
) -> None:
    """Write rows that break a rule with file, row number, rule, reason, and the row as it was read, as text."""
    if not broken.height:
        return
    raw = mapped.raw[broken["position"]].with_columns(pl.all().cast(pl.String, strict=False))
    where = broken.select(
        pl.lit(file).alias("file"), (pl.col("position").cast(pl.Int64) + first_row).alias("row"), "rule", "reason"
    )
    rows = pl.concat([where, raw], how="horizontal").to_arrow()
    write_table(rows, folder / "quarantine" / table / f"{name}.parquet")


def quarantine_lines(folder: Path, *, lines: pl.DataFrame, name: str, rule: str, reason: str) -> None:
    """Write order lines that cleaning could not use, as :func:`quarantine_rows` does."""
    if not lines.height:
        return
    where = lines.select(
        pl.col(FILE).cast(pl.String).alias("file"),
        pl.col(ROW).alias("row"),
        pl.lit(rule).alias("rule"),
        pl.lit(reason).alias("reason"),
    )
    rows = pl.concat([where, lines.select(pl.col(ORDERS.names).cast(pl.String))], how="horizontal").to_arrow()
    write_table(rows, folder / "quarantine" / "orders" / f"{name}.parquet")
