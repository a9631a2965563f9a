"""Seconds per stage and peak memory of a run, all of its processes together."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import psutil

_SAMPLE_EVERY_S = 1.0


class Meter:
    """Measures a run while it is entered.

    Peak memory is the largest sum, over this process and its children, of resident memory that is not shared, plus the
    largest shared part once (the object store that all of them map). Sampled every second: a shorter peak is not seen.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_memory_mb = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Meter":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds spent inside to ``name``."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - started, 1)

    def _sample(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(_SAMPLE_EVERY_S):
            self.peak_memory_mb = max(self.peak_memory_mb, tree_memory_mb(me))


def tree_memory_mb(root: psutil.Process) -> float:
    """Memory of a process and everything below it, MB, what they share counted once; see :class:`Meter`."""
    own, shared = 0, 0
    for process in (root, *root.children(recursive=True)):
        try:
            memory = process.memory_info()
        except psutil.Error:
            continue  # it ended between the listing and the look
        own += memory.rss - memory.shared
        shared = max(shared, memory.shared)
    return (own + shared) / 1e6
