"""The one progress table of training: a row per category, a column per algorithm; plain lines off a terminal."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from rl.train import TrialUpdate

_LINES_PER_TRIAL = 4
_OVER = ("finished", "stopped", "reused", "failed")
_LEGEND = "state, share of the budget, series-periods simulated, best cost over the textbook rule's"


class TrialTable:
    """Takes updates of trials and draws them; rich calls ``__rich__`` again and again while it is live."""

    def __init__(self, title: str, *, lines: Console | None) -> None:
        self._title = title
        self._lines = lines
        self._began_s = time.monotonic()
        self._last: dict[tuple[str, str], TrialUpdate] = {}

    def __call__(self, update: TrialUpdate) -> None:
        """Take an update; off a terminal, print it if the trial is a quarter of its budget further or elsewhere."""
        key = (update.category, update.algorithm)
        before = self._last.get(key)
        self._last[key] = update
        if self._lines and update.state != "waiting" and _milestone(update) != _milestone(before):
            line = f"{update.category} {update.algorithm}: {describe(update)}"
            self._lines.print(line, markup=False, highlight=False, soft_wrap=True)

    @property
    def summary(self) -> str:
        """How many trials are over, and the seconds since the beginning."""
        done = sum(update.state in _OVER for update in self._last.values())
        return f"{self._title}: {done} of {len(self._last)} trials done, {time.monotonic() - self._began_s:.1f} s"

    def __rich__(self) -> Table:
        """The table as it stands."""
        categories = list(dict.fromkeys(category for category, _ in self._last))
        algorithms = list(dict.fromkeys(algorithm for _, algorithm in self._last))
        table = Table("category", *algorithms, title=self.summary, caption=_LEGEND, title_justify="left")
        for category in categories:
            cells = (self._last.get((category, algorithm)) for algorithm in algorithms)
            table.add_row(category, *("" if cell is None else describe(cell) for cell in cells))
        return table


def describe(update: TrialUpdate) -> str:
    """State, share of the budget, steps and best cost, as far as they are known."""
    if math.isnan(update.best_score):
        return update.state
    return f"{update.state} {update.share:.0%}, {update.steps:,}, {update.best_score:.3f}"


def _milestone(update: TrialUpdate | None) -> tuple[str, int] | None:
    return None if update is None else (update.state, int(update.share * _LINES_PER_TRIAL))


@contextmanager
def show_trials(title: str, *, console: Console | None = None) -> Iterator[TrialTable]:
    """Show trials while they run, and one line about them at the end.

    Parameters
    ----------
    console
        Where to show them; stderr if not given.
    """
    console = console or Console(stderr=True)
    if console.is_terminal:
        table = TrialTable(title, lines=None)
        with Live(table, console=console, refresh_per_second=2):
            yield table
    else:
        table = TrialTable(title, lines=console)
        yield table
    console.print(table.summary, markup=False, highlight=False, soft_wrap=True)
