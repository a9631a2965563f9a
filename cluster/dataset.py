"""A loaded dataset: made once per content of its input, opened by its name.

::

    HOME/datasets/NAME/current       digest of the dataset in use
                       <digest>/     see cluster.layout

Where ``storage.url`` names an object store, what :mod:`cluster.loading` published is kept there, and a machine that
opens a dataset fetches it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from cluster.config import Settings
from cluster.errors import DataError
from cluster.panel import Calendar, DemandPanel, IntArray
from cluster.quality import QualityReport
from cluster.reading import PanelReader
from cluster.schema import TABLES
from cluster.split import make_split
from cluster.storage import Storage, open_storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One dataset on disk, read without Ray.

    Parameters
    ----------
    folder
        Its folder; see :mod:`cluster.layout`.
    settings
        Which series :meth:`panel` picks.
    num_periods
        Complete periods of history.
    num_stored
        Periods that the shards hold: they reach a week further than the last order, for decisions on those days.
    """

    folder: Path
    settings: Settings
    report: QualityReport
    calendar: Calendar
    num_periods: int
    num_stored: int
    notice_periods: int
    num_series: int
    promotion_names: tuple[str, ...]
    holidays: tuple[float, ...]

    @property
    def digest(self) -> str:
        """Digest of the input and the settings that it was made from."""
        return self.folder.name

    @property
    def panel_folder(self) -> Path:
        """Parquet files with one row per series; see :func:`cluster.series.make_series` for the columns.

        Lists hold ``num_stored`` values, of which the first ``num_periods`` are complete periods.
        """
        return self.folder / "panel"

    @property
    def quarantine_folder(self) -> Path:
        """Parquet files with the rows that broke a rule, a folder per table."""
        return self.folder / "quarantine"

    def table(self, name: str) -> pa.Table | None:
        """A cleaned table by its name in :data:`cluster.schema.TABLES`; None where the shop has none.

        Orders have one more column, ``is_outlier``; their rows are in no particular order.
        """
        if name not in TABLES:
            raise ValueError(f"no table {name!r}; the tables are {', '.join(TABLES)}")
        path = self.folder / "tables" / ("orders" if name == "orders" else f"{name}.parquet")
        return pa.parquet.read_table(path) if path.exists() else None

    def period_until(self, until: date | None) -> int:
        """Number of the period that starts on or holds ``until``; the end of history without it.

        Raises
        ------
        DataError
            If the day lies outside history.
        """
        end = self.num_periods if until is None else self.calendar.period_of(until)
        if not 1 <= end <= self.num_periods:
            raise DataError(
                f"--until {until} lies outside the history of {self.calendar.start_on} to "
                f"{self.calendar.date_on(self.num_periods)}; choose a day within it"
            )
        return end

    def panel(self, *, selection_end: int | None = None, until: int | None = None) -> DemandPanel:
        """Dense series, sorted by item and location.

        Parameters
        ----------
        selection_end
            With ``data.max_series``, the series that sold most units before this period are taken; default: the start
            of the held-out test.
        until
            Show history as it was known at the start of this period: without later sales and series, and without
            returns that came later. Default: the end of the last complete period. A week beyond the last order is
            allowed: its days count as days without orders.

        Raises
        ------
        DataError
            If history is shorter than the split that is configured, or does not reach ``until``.
        """
        end = self.num_periods if until is None else until
        reader = self._reader(end)
        return self._read(reader, self._rows(reader, selection_end=selection_end))

    def panels(self, *, until: int | None = None) -> Iterator[DemandPanel]:
        """The series of :meth:`panel`, shard by shard: each holds what memory must, ``data.num_shards`` in all.

        A series that never sold for money takes its price from its own shard.

        Raises
        ------
        DataError
            As :meth:`panel`.
        """
        reader = self._reader(self.num_periods if until is None else until)
        rows_of_shard = self._rows(reader, selection_end=None)
        nothing = np.arange(0)
        for number, rows in enumerate(rows_of_shard):
            if len(rows):
                yield self._read(reader, [rows if k == number else nothing for k in range(len(rows_of_shard))])

    @property
    def shards(self) -> tuple[Path, ...]:
        """Files of :attr:`panel_folder`, each of which holds complete series."""
        return tuple(sorted(self.panel_folder.glob("*.parquet")))

    def panel_of_shard(self, shard: Path) -> DemandPanel:
        """Every series of one of :attr:`shards` with all of history: what one task of many works on.

        ``data.max_series`` does not count here. Prices of series that never sold are as in :meth:`panels`.
        """
        reader = replace(self._reader(self.num_periods), paths=(shard,))
        return self._read(reader, reader.pick(None, before=self.num_periods))

    def _reader(self, end: int) -> PanelReader:
        if not 1 <= end <= self.num_stored:
            raise DataError(
                f"history starts on {self.calendar.start_on} and knows nothing after "
                f"{self.calendar.date_on(self.num_stored)}, asked for {self.calendar.date_on(end)}; "
                "load newer orders, or choose a date within"
            )
        return PanelReader(
            paths=self.shards,
            num_periods=self.num_stored,
            num_known=len(self.holidays),
            promotion_names=self.promotion_names,
            known_at=end,
        )

    def _rows(self, reader: PanelReader, *, selection_end: int | None) -> list[IntArray]:
        """Rows of each shard that are planned."""
        end = reader.known_at
        if selection_end is None:
            selection_end = make_split(end, settings=self.settings.split, calendar=self.calendar).test
        return reader.pick(self.settings.data.max_series, before=min(selection_end, end))

    def _read(self, reader: PanelReader, rows_of_shard: list[IntArray]) -> DemandPanel:
        stored = DemandPanel(
            calendar=self.calendar,
            promotion_names=self.promotion_names,
            holiday_X=np.array(self.holidays, dtype=np.float32),
            notice_periods=self.notice_periods,
            **reader.read(rows_of_shard),
        )
        return stored.until(reader.known_at)


def open_dataset(settings: Settings) -> Dataset:
    """Open the current dataset of ``settings.data.name``.

    Raises
    ------
    DataError
        If there is none yet.
    """
    storage = storage_of(settings)
    current = storage.read("current")
    folder = None if current is None else storage.fetch(current.decode().strip())
    if folder is None or not (folder / "dataset.json").exists():
        raise DataError(
            f"no dataset '{settings.data.name}' in {storage.place}; run 'restock data load' with the same --config "
            "first"
        )
    return read_dataset(folder, settings)


def read_dataset(folder: Path, settings: Settings) -> Dataset:
    """Read what a load has described in its folder."""
    tree = json.loads((folder / "dataset.json").read_text())
    return Dataset(
        folder=folder,
        settings=settings,
        report=QualityReport.from_dict(tree["report"]),
        calendar=Calendar(start_on=date.fromisoformat(tree["start_on"]), period_days=tree["period_days"]),
        num_periods=tree["num_periods"],
        num_stored=tree["num_stored"],
        notice_periods=tree["notice_periods"],
        num_series=tree["num_series"],
        promotion_names=tuple(tree["promotion_names"]),
        holidays=tuple(tree["holidays"]),
    )


def storage_of(settings: Settings) -> Storage:
    """Where the datasets of ``settings.data.name`` are kept."""
    return open_storage(settings).below(f"datasets/{settings.data.name}")
