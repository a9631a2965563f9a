"""Makes a dataset of the configured input, once per content.

A load fills a draft beside the other datasets and publishes it when it is complete; ``current`` moves after it. A load
that is killed leaves a draft, which the next one removes, and the previous dataset as it was.
"""

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psutil

from cluster.config import Settings
from cluster.dataset import Dataset, read_dataset, storage_of
from cluster.errors import ConfigError, DataError
from cluster.ingest import Input, Load, Loaded, find_input
from cluster.privacy import open_user_ids
from cluster.quality import QualityReport
from cluster.runtime import connect
from cluster.shards import Runner, run_on_ray


def load_dataset(settings: Settings, *, today: date | None = None, run: Runner | None = None) -> Dataset:
    """Make the dataset of the configured input, unless it is there already, and point ``current`` at it.

    Parameters
    ----------
    today
        Date of the load, for the rule that no order lies in the future; default: by the clock.
    run
        Runs the tasks on orders; default: Ray Data, on the runtime of the settings.

    Raises
    ------
    DataError
        If the input cannot be used. The previous dataset stays as it was.
    """
    storage = storage_of(settings)
    with _drafting(storage.folder) as draft:
        found = find_input(settings.data, raw=draft / "raw", users=open_user_ids(settings))
        if storage.fetch(found.digest) is None:
            _fill(draft, found, settings, today, run)
            storage.publish(draft, found.digest)
        storage.change("current", lambda _: f"{found.digest}\n".encode())
    return read_dataset(storage.folder / found.digest, settings)


def check_tables(
    settings: Settings, *, today: date | None = None, run: Runner | None = None, quarantine: Path | None = None
) -> QualityReport:
    """Report of the configured input, as a load would give it, without loading it.

    Parameters
    ----------
    quarantine
        Folder that receives the rows that break a rule; must not exist.
    """
    if quarantine is not None and quarantine.exists():
        raise ConfigError(f"--quarantine {quarantine}: exists; name a new folder, so that reports do not mix")
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"max_quarantine_share": 1.0})})
    storage = storage_of(settings)
    with _drafting(storage.folder) as draft:
        found = find_input(settings.data, raw=draft / "raw", users=open_user_ids(settings))
        folder = storage.fetch(found.digest) or draft
        if folder == draft:
            _fill(draft, found, settings, today, run)
        if quarantine is not None and (folder / "quarantine").exists():
            shutil.copytree(folder / "quarantine", quarantine)
        return read_dataset(folder, settings).report


def _fill(draft: Path, found: Input, settings: Settings, today: date | None, run: Runner | None) -> None:
    today, users = today or datetime.now(UTC).date(), open_user_ids(settings)
    if run is not None:
        loaded = Load(settings=settings.data, folder=draft, today=today, run=run, users=users).make(found)
    else:
        with connect(settings.runtime):
            loaded = Load(settings=settings.data, folder=draft, today=today, run=run_on_ray, users=users).make(found)
    for scaffold in ("raw", "stage"):
        shutil.rmtree(draft / scaffold, ignore_errors=True)
    (draft / "dataset.json").write_text(json.dumps(_describe(loaded, settings), indent=2) + "\n")


def _describe(loaded: Loaded, settings: Settings) -> dict[str, Any]:
    spec = loaded.spec
    return {
        "start_on": spec.calendar.start_on.isoformat(),
        "period_days": spec.calendar.period_days,
        "num_periods": loaded.num_periods,
        "num_stored": spec.num_periods,
        "notice_periods": spec.notice_periods,
        "num_series": loaded.num_series,
        "promotion_names": list(spec.promotion_names),
        "holidays": [round(float(share), 6) for share in loaded.holiday_X],
        "settings": settings.data.model_dump(mode="json"),
        "report": loaded.report.to_dict(),
    }


@contextmanager
def _drafting(root: Path) -> Iterator[Path]:
    """Yield an empty folder beside the datasets; drop it unless it was renamed, and those of loads that were killed."""
    host = socket.gethostname()
    draft = root / f".draft-{host}-{os.getpid()}"
    try:
        draft.mkdir(parents=True)
    except FileExistsError:
        # Left by a killed process that had our number.
        shutil.rmtree(draft)
        draft.mkdir()
    except OSError as error:
        raise DataError(f"{root}: cannot be written ({error.strerror}); set home to a folder that can") from error
    try:
        for other in root.glob(f".draft-{host}-*"):
            if not psutil.pid_exists(int(other.name.rpartition("-")[2])):
                shutil.rmtree(other, ignore_errors=True)
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)
