"""What a training run will take, from pilots of growing size: a line through them, and how far it missed the largest.

A part of a run (the forecaster, the recommender, an algorithm of policies) is measured at sizes that grow. The line
that the smaller ones give is asked for the largest: what it misses by, relative, is the error that the estimate is
given with. Then all sizes give the line that is extrapolated. That error speaks of sizes like the pilots'; a
hundredfold extrapolation may miss by more, so that larger pilots are worth their time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """One measured run.

    Parameters
    ----------
    work
        How much there was to do, in units of the part: windows, events, series-periods.
    cpu_s
        CPU seconds of this process and all that it started.
    wall_s
        Seconds on the clock: what a reserved card is paid for.
    """

    work: float
    cpu_s: float
    wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PartCost:
    """What one part of the run is estimated to take.

    Parameters
    ----------
    runs
        How often the part runs: trials; 1 for the others.
    gpu_hours
        None where the pilot had no card, although the run asks for one.
    error
        Relative error of the smaller pilots' line at the largest pilot, in CPU seconds.
    """

    name: str
    unit: str
    work: float
    runs: int
    cpu_hours: float
    gpu_hours: float | None
    error: float
    pilots: tuple[Pilot, ...]


def estimate_part(
    name: str, *, unit: str, pilots: Sequence[Pilot], work: float, runs: int = 1, cards: float, has_card: bool
) -> PartCost:
    """Extrapolate pilots of growing size to the whole work of a part.

    Parameters
    ----------
    work
        Of one run of the part.
    cards
        GPUs that a run reserves; 0 for none.
    has_card
        Whether the pilots ran on one.

    Raises
    ------
    ValueError
        If there are fewer than three pilots, or they do not grow.
    """
    sizes = [pilot.work for pilot in pilots]
    if len(pilots) < 3 or sizes != sorted(set(sizes)):
        raise ValueError(f"an estimate needs three pilots of growing size, got {sizes}")
    cpu = [pilot.cpu_s for pilot in pilots]
    wall = [pilot.wall_s for pilot in pilots]
    foretold_s = _line_at(sizes[:-1], cpu[:-1], at=sizes[-1])
    needs_card = cards > 0
    gpu_hours = runs * cards * _line_at(sizes, wall, at=work) / 3600
    return PartCost(
        name=name,
        unit=unit,
        work=work,
        runs=runs,
        cpu_hours=runs * _line_at(sizes, cpu, at=work) / 3600,
        gpu_hours=0.0 if not needs_card else gpu_hours if has_card else None,
        error=foretold_s / cpu[-1] - 1,
        pilots=tuple(pilots),
    )


def _line_at(work: Sequence[float], seconds: Sequence[float], *, at: float) -> float:
    """Least-squares line through the points, read at ``at``; a slope below zero is noise, and then the mean is read.

    >>> _line_at([1.0, 2.0], [3.0, 5.0], at=10.0)
    21.0
    """
    x, y = np.asarray(work, dtype=np.float64), np.asarray(seconds, dtype=np.float64)
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    return float(y.mean() + max(slope, 0.0) * (at - x.mean()))
