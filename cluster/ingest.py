"""Makes a dataset: every table read, checked, cleaned and written into one folder, orders as dense series."""

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl

from cluster.cleaning import merge_rows
from cluster.errors import DataError, QualityError
from cluster.history import History, find_history, make_holidays
from cluster.layout import quarantine_rows, read_context, read_frame, write_table
from cluster.manifest import digest_of
from cluster.panel import FloatArray
from cluster.privacy import UserIds
from cluster.progress import stage, track
from cluster.quality import QualityReport, Tally, check_rows, make_report
from cluster.schema import DEFAULT_CATEGORY, TABLES, Col
from cluster.series import PanelSpec
from cluster.settings.data import DataSettings, TableSource
from cluster.shards import Runner, ShardDone, ShardTask, StageTask, build_shard, no_space, stage_chunk
from cluster.sources.files import Chunk, digest_files, find_files, list_chunks, read_batches
from cluster.sources.mapping import as_table, check_table_name
from cluster.sources.samples import Sample, digest_sample, make_sample
from cluster.sources.sql import fetch_table

# Grows when the same input would give another dataset, so that old ones are made anew.
FORMAT: Final = 2
MAX_CHANNELS: Final = 16
# Settings that choose among loaded series or name the result; a change of them loads nothing anew.
_NOT_CONTENT: Final = {"name", "max_series", "normalisation", "max_quarantine_share"}
# Items and locations first: the other tables are checked against them.
_MASTER: Final = ("items", "locations")


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What a load reads: sources by table (none yet for a sample), and the digest of their content and settings."""

    digest: str
    tables: Mapping[str, TableSource]


def find_input(settings: DataSettings, *, raw: Path, users: UserIds) -> Input:
    """Find what a load reads; rows of SQL queries are copied to ``raw``, since only their content tells a change.

    Raises
    ------
    DataError
        If a source is missing or does not answer.
    """
    config = settings.model_dump(mode="json", exclude=_NOT_CONTENT)
    if settings.sample is not None:
        return Input(digest=digest_of([FORMAT, config, users.fingerprint, digest_sample(settings.sample)]), tables={})
    for table in settings.tables:
        check_table_name(table)
    if "orders" not in settings.tables:
        raise DataError(
            "there are no orders to read: set data.tables.orders.uri to a CSV or Parquet file, or data.sample"
        )
    tables, contents = {}, {}
    for table, source in settings.tables.items():
        if source.sql_url is not None:
            source = fetch_table(table, source=source, path=raw / f"{table}.parquet")
        tables[table] = source
        contents[table] = digest_files(find_files(table, source=source))
    return Input(digest=digest_of([FORMAT, config, users.fingerprint, contents]), tables=tables)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What was made: counts and decisions, the calendar of all series, and how many there are.

    ``num_periods`` of the periods that ``spec`` stores are complete.
    """

    report: QualityReport
    spec: PanelSpec
    num_periods: int
    holiday_X: FloatArray
    num_series: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One load into ``folder``, which the caller drops if it fails.

    Parameters
    ----------
    today
        Orders of later days are quarantined.
    run
        Runs the tasks on orders.
    users
        What customers are called.
    """

    settings: DataSettings
    folder: Path
    today: date
    run: Runner
    users: UserIds

    def make(self, found: Input) -> Loaded:
        """Read, check, clean and write every table.

        Raises
        ------
        DataError
            If a table cannot be used, too many of its rows are quarantined, or the disk is full.
        """
        try:
            return self._make(self._expand_sample(found))
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise DataError(no_space(error)) from error
            raise

    def _expand_sample(self, found: Input) -> Sample:
        if self.settings.sample is None:
            return Sample(tables=found.tables, not_stocked=(), notes=())
        with stage(f"Reading {self.settings.sample}"):
            return make_sample(self.settings.sample, folder=self.folder / "raw")

    def _make(self, sources: Sample) -> Loaded:
        chunks = list_chunks("orders", source=sources.tables["orders"])
        tallies = self._load_tables(sources.tables)
        tally, last_seconds = self._stage_orders(chunks)
        history = find_history(last_seconds, frequency=self.settings.frequency)
        spec = self._make_spec(history)
        built = self._build_shards(spec, (*self.settings.not_stocked, *sources.not_stocked))
        tallies = {"orders": sum((done.tally for done in built), tally), **tallies}
        self._check_quarantine(tallies)
        self._derive_items()
        notes = (*sources.notes, *history.notes, *self._promotion_notes(spec))
        return Loaded(
            report=make_report(tallies, notes=notes),
            spec=spec,
            num_periods=history.num_periods,
            holiday_X=make_holidays(
                market=read_frame(self.folder, "market"),
                country=self.settings.holidays,
                history=history,
                notice_periods=self.settings.notice_periods,
            ),
            num_series=sum(done.num_series for done in built),
        )

    def _load_tables(self, tables: Mapping[str, TableSource]) -> dict[str, Tally]:
        """Every table but orders, each in one piece."""
        names = sorted((name for name in tables if name != "orders"), key=lambda name: name not in _MASTER)
        tallies = {}
        for name in names:
            with stage(f"Reading {name}"):
                tallies[name] = self._load_table(name, tables[name])
        self._check_quarantine(tallies)
        return tallies

    def _load_table(self, name: str, source: TableSource) -> Tally:
        context = read_context(self.folder, today=self.today)
        tally, parts = Tally(), []
        for number, chunk in enumerate(list_chunks(name, source=source)):
            for first_row, mapped in read_batches(chunk, timezone=self.settings.timezone, users=self.users):
                checked = check_rows(mapped.frame, table=name, context=context, unreadable=mapped.unreadable)
                quarantine_rows(
                    self.folder,
                    table=name,
                    name=f"{number:05d}-{first_row:09d}",
                    file=chunk.uri,
                    first_row=first_row,
                    mapped=mapped,
                    broken=checked.broken,
                )
                tally += checked.tally
                parts.append(checked.passed)
        passed = pl.concat(parts) if parts else pl.DataFrame(pl.from_arrow(TABLES[name].empty_table()))
        merged = merge_rows(passed, table=name)
        if name == "items":
            merged = merged.with_columns(pl.col(Col.CATEGORY_ID).fill_null(DEFAULT_CATEGORY))
        write_table(as_table(merged, name), self.folder / "tables" / f"{name}.parquet")
        return tally + Tally(rows_kept=merged.height, rows_merged=passed.height - merged.height)

    def _stage_orders(self, chunks: list[Chunk]) -> tuple[Tally, dict[date, int]]:
        tasks = [
            StageTask(
                number=number,
                chunk=chunk,
                folder=self.folder,
                num_shards=self.settings.num_shards,
                today=self.today,
                timezone=self.settings.timezone,
                users=self.users,
            )
            for number, chunk in enumerate(chunks)
        ]
        tally = Tally()
        last_seconds: dict[date, int] = {}
        for done in track(self.run(stage_chunk, tasks), description="Reading orders", total=len(tasks)):
            tally += done.tally
            for day, second in done.last_second_of_day.items():
                last_seconds[day] = max(second, last_seconds.get(day, 0))
        self._check_quarantine({"orders": tally})
        if not last_seconds:
            raise DataError(f"{chunks[0].uri if chunks else 'orders'}: there is no order in it; check the file")
        return tally, last_seconds

    def _make_spec(self, history: History) -> PanelSpec:
        promotions = read_frame(self.folder, "promotions")
        names = sorted(promotions[Col.PROMOTION_TYPE].unique()) if promotions is not None else []
        if len(names) > MAX_CHANNELS:
            raise DataError(
                f"promotions have {len(names)} types ({', '.join(names[:3])}, ...), at most {MAX_CHANNELS} can be told "
                "apart; map promotion_type to a coarser column, or set one by data.tables.promotions.constants"
            )
        return PanelSpec(
            calendar=history.calendar,
            num_periods=history.num_stored,
            notice_periods=self.settings.notice_periods,
            promotion_names=tuple(names),
            timezone=self.settings.timezone,
        )

    def _build_shards(self, spec: PanelSpec, not_stocked: tuple[str, ...]) -> list[ShardDone]:
        tasks = [
            ShardTask(
                number=number,
                folder=self.folder,
                spec=spec,
                identical_lines=self.settings.identical_lines,
                outlier_iqr=self.settings.outlier_iqr,
                not_stocked=not_stocked,
                num_shards=self.settings.num_shards,
            )
            for number in range(self.settings.num_shards)
        ]
        done = self.run(build_shard, tasks)
        return list(track(done, description="Cleaning and sharding by series", total=len(tasks)))

    def _check_quarantine(self, tallies: Mapping[str, Tally]) -> None:
        for table, tally in tallies.items():
            if tally.rows_quarantined > self.settings.max_quarantine_share * tally.rows_in:
                worst = sorted(tally.broken.items(), key=lambda pair: -pair[1])[:3]
                why = "; ".join(f"{rows:,} rows: {tally.reasons[rule]}" for rule, rows in worst)
                raise QualityError(
                    f"{table}: {tally.rows_quarantined:,} of {tally.rows_in:,} rows break a rule ({why}); mend the "
                    "mapping or the file ('restock data check' lists every rule), or raise data.max_quarantine_share"
                )

    def _derive_items(self) -> None:
        """Without an items table, the items are those that were ordered."""
        path = self.folder / "tables" / "items.parquet"
        if path.exists():
            return
        ordered = pl.scan_parquet(self.folder / "tables" / "orders" / "*.parquet").select(Col.ITEM_ID).unique()
        others = [
            pl.lit(None, dtype=pl.Date if name == Col.LAUNCHED_ON else pl.String).alias(name)
            for name in TABLES["items"].names
            if name != Col.ITEM_ID
        ]
        items = ordered.collect().sort(Col.ITEM_ID).with_columns(others)
        items = items.with_columns(pl.col(Col.CATEGORY_ID).fill_null(DEFAULT_CATEGORY))
        write_table(as_table(items, "items"), path)

    def _promotion_notes(self, spec: PanelSpec) -> list[str]:
        promotions = read_frame(self.folder, "promotions")
        if promotions is None:
            return []
        notice = pl.duration(days=spec.notice_periods * spec.calendar.period_days)
        late = promotions.filter(pl.col(Col.START_ON) - pl.col(Col.ANNOUNCED_ON) < notice).height
        if not late:
            return []
        return [
            f"{late:,} promotions were announced less than {spec.notice_periods} periods ahead: their days before that "
            "notice are left out; a smaller data.notice_periods shows more of them"
        ]
