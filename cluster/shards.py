"""Reads, cleans and shards order history by series, in two stages of independent tasks.

Stage 1 takes a chunk of a file, checks its rows and splits them by series into ``stage/shard=K``. Stage 2 takes one
shard, which holds complete series, cleans it and writes its part of the orders and of the panel. Each stage is a plain
function of one task, so that Ray Data and a loop in this process run the same code.
"""

import errno
import pickle
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import polars as pl
import pyarrow as pa

from cluster import errors
from cluster.cleaning import IS_OUTLIER, UNMATCHED, UNMATCHED_REASON, flag_outliers, merge_duplicates, net_returns
from cluster.errors import DataError, RestockError
from cluster.layout import FILE, ROW, quarantine_lines, quarantine_rows, read_context, read_frame, write_table
from cluster.privacy import UserIds
from cluster.quality import Tally, check_rows
from cluster.schema import ORDERS, Col
from cluster.series import SERIES_KEYS, PanelSpec, SeriesInput, make_series
from cluster.sources.files import Chunk, read_batches
from cluster.sources.mapping import as_table

Task = TypeVar("Task")
Done = TypeVar("Done")

_SERIES_ROW_GROUP = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTask:
    """Read one chunk of orders into the folder of a dataset that is being made."""

    number: int
    chunk: Chunk
    folder: Path
    num_shards: int
    today: date
    timezone: str
    users: UserIds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageDone:
    """What a chunk held: counts, and the second of the day of the last order of each day."""

    tally: Tally
    last_second_of_day: dict[date, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTask:
    """Clean one shard and make its series."""

    number: int
    folder: Path
    spec: PanelSpec
    identical_lines: Literal["repeat", "sum"]
    outlier_iqr: float
    not_stocked: tuple[str, ...]
    num_shards: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardDone:
    """What a shard holds."""

    tally: Tally
    num_series: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A mendable error, carried back to the caller as a value: frameworks would wrap and log an exception."""

    kind: str
    message: str


class Runner(Protocol):
    """Runs one function over independent tasks; results come as they get done, in any order."""

    def __call__(self, work: Callable[[Task], Done], tasks: Sequence[Task]) -> Iterator[Done]:
        """Yield the result of every task."""
        ...


def run_here(work: Callable[[Task], Done], tasks: Sequence[Task]) -> Iterator[Done]:
    """Run tasks one after another in this process."""
    for task in tasks:
        yield _unwrap(_guard(work, task))


def run_on_ray(work: Callable[[Task], Done], tasks: Sequence[Task]) -> Iterator[Done]:
    """Run tasks with Ray Data, as many at a time as there are CPUs."""
    import ray

    def run_batch(batch: pa.Table) -> pa.Table:
        outcomes = [pickle.dumps(_guard(work, pickle.loads(task))) for task in batch["task"].to_pylist()]
        return pa.table({"outcome": pa.array(outcomes, pa.binary())})

    rows = ray.data.from_items([{"task": pickle.dumps(task)} for task in tasks], override_num_blocks=len(tasks))
    done = rows.map_batches(run_batch, batch_size=1, batch_format="pyarrow")
    for row in done.iter_rows():
        yield _unwrap(pickle.loads(row["outcome"]))


def _guard(work: Callable[[Task], Done], task: Task) -> Done | Failure:
    try:
        return work(task)
    except RestockError as error:
        return Failure(kind=type(error).__name__, message=str(error))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return Failure(kind="DataError", message=no_space(error))


def _unwrap(outcome: Done | Failure) -> Done:
    if isinstance(outcome, Failure):
        raise getattr(errors, outcome.kind, DataError)(outcome.message)
    return outcome


def no_space(error: OSError) -> str:
    """Message for a full disk."""
    return f"the disk is full ({error}); the previous dataset is untouched: free space, or set home to another disk"


def stage_chunk(task: StageTask) -> StageDone:
    """Stage 1: read and check a chunk, quarantine what fails, split the rest by series."""
    context = read_context(task.folder, today=task.today)
    tally = Tally()
    last_second_of_day: dict[date, int] = {}
    for part, (first_row, mapped) in enumerate(read_batches(task.chunk, timezone=task.timezone, users=task.users)):
        checked = check_rows(
            mapped.frame.with_columns(
                pl.lit(task.chunk.uri, dtype=pl.Categorical).alias(FILE),
                (pl.row_index().cast(pl.Int64) + first_row).alias(ROW),
            ),
            table="orders",
            context=context,
            unreadable=mapped.unreadable,
        )
        tally += checked.tally
        name = f"{task.number:05d}-{part:03d}"
        quarantine_rows(
            task.folder,
            table="orders",
            name=name,
            file=task.chunk.uri,
            first_row=first_row,
            mapped=mapped,
            broken=checked.broken,
        )
        for day, second in _last_seconds(checked.passed, task.timezone):
            last_second_of_day[day] = max(second, last_second_of_day.get(day, 0))
        _write_shares(checked.passed, task, name)
    return StageDone(tally=tally, last_second_of_day=last_second_of_day)


def build_shard(task: ShardTask) -> ShardDone:
    """Stage 2: merge duplicates, net returns, flag outliers, and make the series of one shard."""
    lines = _read_stage(task)
    merged = merge_duplicates(lines, identical=task.identical_lines)
    netted = net_returns(merged)
    flagged = flag_outliers(netted.sales, iqr=task.outlier_iqr)
    orders = as_table(flagged, "orders").append_column(IS_OUTLIER, flagged[IS_OUTLIER].to_arrow())
    write_table(orders, task.folder / "tables" / "orders" / f"shard-{task.number:03d}.parquet")
    quarantine_lines(
        task.folder, lines=netted.unmatched, name=f"shard-{task.number:03d}", rule=UNMATCHED, reason=UNMATCHED_REASON
    )
    series = _make_panel(task, merged.filter(pl.col(Col.SOLD_QTY) > 0), netted.returns)
    if series.num_rows:
        path = task.folder / "panel" / f"shard-{task.number:03d}.parquet"
        write_table(series, path, row_group=_SERIES_ROW_GROUP)
    broken = {UNMATCHED: netted.unmatched.height} if netted.unmatched.height else {}
    tally = Tally(
        rows_kept=flagged.height,
        rows_merged=lines.height - merged.height + netted.rows_merged,
        rows_quarantined=netted.unmatched.height,
        rows_flagged=int(flagged[IS_OUTLIER].sum()),
        broken=broken,
        reasons={UNMATCHED: UNMATCHED_REASON},
    )
    return ShardDone(tally=tally, num_series=series.num_rows)


def shard_of(series: pl.DataFrame, *, num_shards: int) -> pl.Series:
    """Shard of each row by its series; the same on every machine and in every process.

    >>> shard_of(pl.DataFrame({"item_id": ["a", "b"], "location_id": ["main", "main"]}), num_shards=8).to_list()
    [0, 2]
    """
    pairs = series.select(SERIES_KEYS).unique()
    keys = zip(pairs[Col.ITEM_ID].to_list(), pairs[Col.LOCATION_ID].to_list(), strict=True)
    shards = [zlib.crc32(f"{item}\x1f{location}".encode()) % num_shards for item, location in keys]
    pairs = pairs.with_columns(pl.Series("shard", shards, dtype=pl.Int32))
    return series.select(SERIES_KEYS).join(pairs, on=SERIES_KEYS, how="left", maintain_order="left")["shard"]


def _last_seconds(orders: pl.DataFrame, timezone: str) -> list[tuple[date, int]]:
    local = pl.col(Col.ORDERED_AT).dt.convert_time_zone(timezone)
    second = local.dt.hour().cast(pl.Int32) * 3600 + local.dt.minute().cast(pl.Int32) * 60 + local.dt.second()
    return orders.group_by(local.dt.date().alias("day")).agg(second.max().alias("second")).rows()


def _write_shares(orders: pl.DataFrame, task: StageTask, name: str) -> None:
    shards = shard_of(orders, num_shards=task.num_shards)
    for (shard,), share in orders.with_columns(shards).partition_by("shard", as_dict=True, include_key=False).items():
        path = task.folder / "stage" / f"shard={shard}" / f"{name}.arrow"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Read once and removed: Arrow's own form costs half the time of a Parquet file.
        share.write_ipc(path, compression="lz4")


def _read_stage(task: ShardTask) -> pl.DataFrame:
    parts = sorted((task.folder / "stage" / f"shard={task.number}").glob("*.arrow"))
    if not parts:
        empty = pl.DataFrame(pl.from_arrow(ORDERS.empty_table()))
        return empty.with_columns(pl.lit("", dtype=pl.Categorical).alias(FILE), pl.lit(0, dtype=pl.Int64).alias(ROW))
    return pl.concat([pl.read_ipc(part) for part in parts])


def _make_panel(task: ShardTask, lines: pl.DataFrame, returns: pl.DataFrame) -> pa.Table:
    items = read_frame(task.folder, "items")
    columns = [Col.ITEM_ID, Col.CATEGORY_ID]
    categories = items.select(columns) if items is not None else pl.DataFrame(schema=dict.fromkeys(columns, pl.String))

    def stocked(rows: pl.DataFrame) -> pl.DataFrame:
        out = pl.any_horizontal(pl.col(columns).is_in(list(task.not_stocked)))
        named = rows.join(categories, on=Col.ITEM_ID, how="left", maintain_order="left")
        return named.filter(~out.fill_null(value=False)).drop(Col.CATEGORY_ID)

    given = SeriesInput(
        lines=stocked(lines),
        returns=stocked(returns),
        categories=categories,
        series=stocked(_series_without_sales(task)),
        promotions=read_frame(task.folder, "promotions"),
        stock=_stock_history(task.folder),
    )
    return make_series(given, spec=task.spec)


def _series_without_sales(task: ShardTask) -> pl.DataFrame:
    """Series that the shop stocks or buys, sold or not."""
    nothing = pl.DataFrame(schema=dict.fromkeys(SERIES_KEYS, pl.String))
    tables = [read_frame(task.folder, name) for name in ("stock", "supply_terms")]
    pairs = pl.concat([nothing, *(table.select(SERIES_KEYS) for table in tables if table is not None)]).unique()
    return pairs.filter(shard_of(pairs, num_shards=task.num_shards) == task.number)


def _stock_history(folder: Path) -> pl.DataFrame | None:
    """Stock snapshots, if there are several: one of them says nothing of the past."""
    stock = read_frame(folder, "stock")
    return stock if stock is not None and stock[Col.SNAPSHOT_ON].n_unique() > 1 else None
