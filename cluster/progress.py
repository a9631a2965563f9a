"""Progress of long work, on stderr: a bar on a terminal, one line per stage elsewhere."""

import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

T = TypeVar("T")


class Stage:
    """A running stage: :meth:`advance` moves its bar and may show a note, such as the latest loss."""

    def __init__(self, progress: Progress, description: str, *, total: float | None) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total, note="")
        self.note = ""

    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        """Count ``steps`` as done; a note replaces the one before."""
        if note is not None:
            self.note = note
        self._progress.update(self._task, advance=steps, note=self.note)


@contextmanager
def stage(description: str, *, total: float | None = None, console: Console | None = None) -> Iterator[Stage]:
    """Show that something long runs, and how long it took.

    Parameters
    ----------
    total
        Steps that :meth:`Stage.advance` will count; without it the bar only spins.
    console
        Where to show it; stderr if not given.
    """
    console = console or Console(stderr=True)
    began_s = time.monotonic()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        running = Stage(progress, description, total=total)
        yield running
    note = f"  {running.note}" if running.note else ""
    console.print(
        f"{description}: {time.monotonic() - began_s:.1f} s{note}", markup=False, highlight=False, soft_wrap=True
    )


def track(
    items: Iterable[T], *, description: str, total: float | None = None, console: Console | None = None
) -> Iterator[T]:
    """Pass items through and show how many went by; ``total`` defaults to their length where they have one."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with stage(description, total=total, console=console) as running:
        for item in items:
            yield item
            running.advance()
