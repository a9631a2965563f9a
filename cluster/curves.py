"""Learning curves for TensorBoard: what each pass of a training run reported, over the passes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

_FLUSH_S = 5


class Curves:
    """Writes rows of one run; a run that is resumed in the same folder continues its curves."""

    def __init__(self, folder: Path) -> None:
        self._writer = SummaryWriter(str(folder), flush_secs=_FLUSH_S)

    def write(self, row: Mapping[str, Any]) -> None:
        """Add every number of a row at its ``epoch``; words and missing values are not drawn."""
        for name, value in row.items():
            if name != "epoch" and isinstance(value, int | float):
                self._writer.add_scalar(name, value, row["epoch"])

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


@contextmanager
def open_curves(folder: Path) -> Iterator[Curves]:
    """Curves below ``folder``, complete on disk at the end, also of a run that fails."""
    curves = Curves(folder)
    try:
        yield curves
    finally:
        curves.close()
