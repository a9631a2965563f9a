"""The last forecasts of all series, on disk: what is answered while the forecaster does not.

::

    HOME/forecasts/<dataset>/<version>/facts.json, mean.npy, marginal.npy, cumulative.npy

Rows are those of the dataset's panel. A folder appears in one rename when it is complete. Arrays are mapped, not read:
a request touches the rows that it asks for.

Shapes: S series, H horizon periods, Q quantile levels.
"""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cluster.config import Settings
from cluster.panel import IntArray
from forecasting.forecast import Forecast
from serve.problems import NotReadyError

_FACTS = "facts.json"
_ARRAYS = ("mean", "marginal", "cumulative")


class ForecastStore:
    """Stored forecasts of one dataset."""

    def __init__(self, settings: Settings, *, data: str) -> None:
        self._folder = settings.home / "forecasts" / data

    def has(self, version: str) -> bool:
        """Whether a forecaster's version has stored its forecasts."""
        return (self._folder / version).is_dir()

    def write(self, version: str, parts: Iterable[Forecast], *, num_series: int) -> None:
        """Store the forecasts of a version, given part by part in the order of the series; older ones go."""
        draft = self._folder / f".draft-{os.getpid()}-{version}"
        draft.mkdir(parents=True, exist_ok=True)
        try:
            _write(draft, parts, num_series=num_series)
            draft.rename(self._folder / version)
        except OSError:
            # Another replica may have been faster: its forecasts are the same.
            if not self.has(version):
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        for other in self._folder.iterdir():
            if other.name != version and not other.name.startswith("."):
                shutil.rmtree(other, ignore_errors=True)

    def read(self, rows_S: IntArray) -> tuple[Forecast, str]:
        """Stored forecast of some series, and the version that made it.

        Raises
        ------
        NotReadyError
            If none has been stored.
        """
        try:
            newest = max(self._folder.glob(f"v*/{_FACTS}"), key=lambda path: path.stat().st_mtime).parent
            levels = json.loads((newest / _FACTS).read_text())["levels"]
            mean, marginal, cumulative = (np.load(newest / f"{name}.npy", mmap_mode="r")[rows_S] for name in _ARRAYS)
        except (OSError, ValueError) as error:
            raise NotReadyError("no forecasts have been stored; try again when the forecaster answers") from error
        levels_Q = np.asarray(levels, dtype=np.float32)
        stored = Forecast(levels_Q=levels_Q, mean_SH=mean, marginal_SHQ=marginal, cumulative_SHQ=cumulative)
        return stored, newest.name


def _write(folder: Path, parts: Iterable[Forecast], *, num_series: int) -> None:
    maps: dict[str, np.memmap] = {}
    first = 0
    for part in parts:
        arrays = dict(zip(_ARRAYS, (part.mean_SH, part.marginal_SHQ, part.cumulative_SHQ), strict=True))
        for name, array in arrays.items():
            if name not in maps:
                maps[name] = np.lib.format.open_memmap(
                    folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=(num_series, *array.shape[1:])
                )
            maps[name][first : first + len(array)] = array
        first += len(part.mean_SH)
        (folder / _FACTS).write_text(json.dumps({"levels": part.levels_Q.astype(float).tolist()}))
    for mapped in maps.values():
        mapped.flush()
