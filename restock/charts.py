"""The report's pictures: plain numbers in, SVG text out.

Drawn with matplotlib's object interface, so that nothing is registered globally, and with fixed ids, so that the same
numbers give the same file.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure

INK = "#1d2733"
ACTUAL = "#1d2733"
FORECAST = "#2f6fb0"
COLOURS = {"dqn": "#c2571a", "ppo": "#2f8f5b", "direct": "#3a5fb0"}
OTHER = "#8a94a0"
_STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "restock", "font.size": 9, "font.family": "sans-serif"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastExample:
    """One series around the forecast's origin; ``low``, ``mid`` and ``high`` are quantiles of its demand, units."""

    title: str
    dates: Sequence[date]
    actual: Sequence[float]
    forecast_dates: Sequence[date]
    low: Sequence[float]
    mid: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """One policy in one category: its cost against the reference in percent, with the interval where there is one."""

    category: str
    policy: str
    percent: float
    low: float | None
    high: float | None
    is_promoted: bool


def draw_forecasts(examples: Sequence[ForecastExample]) -> str:
    """Small multiples: actual demand as a line, the forecast as a median with its 80 % band."""
    with mpl.rc_context(_STYLE):
        rows = max(1, (len(examples) + 1) // 2)
        figure = Figure(figsize=(10, 2.3 * rows), layout="constrained")
        for place, example in enumerate(examples, start=1):
            axes = figure.add_subplot(rows, 2, place)
            axes.plot(date2num(example.dates), list(example.actual), color=ACTUAL, lw=0.9, label="actual")
            band = date2num(example.forecast_dates)
            axes.fill_between(
                band, list(example.low), list(example.high), color=FORECAST, alpha=0.25, lw=0, label="80 % band"
            )
            axes.plot(band, list(example.mid), color=FORECAST, lw=1.4, label="median")
            axes.axvline(band[0], color=INK, lw=0.6, ls=":")
            axes.xaxis_date()
            axes.xaxis.set_major_formatter(ConciseDateFormatter(AutoDateLocator()))
            _plain(axes, title=example.title)
            if place == 1:
                axes.legend(frameon=False, fontsize=8)
        return _svg(figure)


def draw_costs(rows: Sequence[CostRow]) -> str:
    """One line per category: every policy's replay cost against the best tuned textbook rule, in percent."""
    categories = list(dict.fromkeys(row.category for row in rows))
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 0.9 + 0.5 * len(categories)), layout="constrained")
        axes = figure.add_subplot()
        axes.axvline(0, color=INK, lw=0.8)
        for row in rows:
            y = len(categories) - categories.index(row.category) + {"dqn": 0.2, "direct": -0.2}.get(row.policy, 0.0)
            colour = COLOURS.get(row.policy, OTHER)
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [y, y], color=colour, lw=1.6, solid_capstyle="butt")
            axes.plot(row.percent, y, marker="o", ms=6 if row.policy in COLOURS else 4, color=colour, alpha=0.9)
            if row.is_promoted:
                axes.plot(row.percent, y, marker="o", ms=11, mfc="none", color=colour)
        axes.set_yticks(range(len(categories), 0, -1), categories)
        # A rule that is many times worse would squeeze the comparison that matters into a corner.
        axes.set_xscale("symlog", linthresh=20)
        axes.set_xlabel(
            "replay cost against the best tuned textbook rule, % (left is better; a ring marks what serves)"
        )
        for name, colour in (*COLOURS.items(), ("textbook rules", OTHER)):
            axes.plot([], [], marker="o", ls="", color=colour, label=name)
        axes.legend(frameon=False, fontsize=8, loc="upper right")
        _plain(axes)
        return _svg(figure)


def draw_curves(curves: Mapping[str, Sequence[tuple[float, float]]], *, xlabel: str, ylabel: str) -> str:
    """Learning curves: one line per name."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 3.2), layout="constrained")
        axes = figure.add_subplot()
        for name, points in curves.items():
            family = next((key for key in COLOURS if key in name.lower()), None)
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                lw=1.2,
                marker=".",
                color=COLOURS.get(family or ""),
                label=name,
            )
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        if curves:
            axes.legend(frameon=False, fontsize=7, ncols=3)
        _plain(axes)
        return _svg(figure)


def _plain(axes: Axes, *, title: str = "") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=8)
    if title:
        axes.set_title(title, fontsize=9, loc="left", color=INK)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
