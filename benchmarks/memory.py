"""The highest memory of something while it runs."""

import threading
from collections.abc import Callable
from contextlib import suppress

import psutil


class Peak:
    """Highest value of a measure, MB, while it is entered.

    Parameters
    ----------
    measure
        What to look at, such as :func:`resident_mb`. A look at a process that has just ended is skipped.
    every_s
        Seconds between looks: a shorter peak is not seen.
    """

    def __init__(self, measure: Callable[[], float], *, every_s: float) -> None:
        self.megabytes = 0.0
        self._measure, self._every_s = measure, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        is_over = False
        while not is_over:
            is_over = self._stop.wait(self._every_s)  # once more at the end: a short run is seen too
            with suppress(psutil.NoSuchProcess):
                self.megabytes = max(self.megabytes, self._measure())


def resident_mb() -> float:
    """Resident memory of this process."""
    return float(psutil.Process().memory_info().rss / 1e6)


def forked_mb() -> float:
    """Memory of this process and its children; what they share is divided between them."""
    total = 0.0
    process = psutil.Process()
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error):  # it ended between the listing and the look
            total += each.memory_full_info().pss / 1e6
    return total
