"""What series sell after their launch, and how demand goes on in launches that began alike.

Launches are compared from their own first sale on, by shape: the share of all sales so far that was made by each age.
Dynamic time warping lets one run a few periods ahead of the other. Pure NumPy.

Shapes: S new series, R earlier launches, A ages (periods since the first sale),
T history periods.
"""

import numpy as np
import numpy.typing as npt

from cluster.panel import DemandPanel, FloatArray

_LEVEL_DAYS = 56
_UNSEEN_DAYS = 28
"""A first sale this early in the history need not be the launch: the item may have sold before the history began."""
_BAND = 3
_SCALE = 0.1
_SHRINKAGE = 5.0
"""Launches of no particular shape that are mixed in: few or unlike earlier launches say little."""


def launch_level_S(panel: DemandPanel) -> FloatArray:
    """Mean sales of the first eight weeks since each series' first sale, units per period; 0 where it never sold.

    A launch in the first four weeks of the history may have been earlier: such a series counts with its latest eight
    weeks instead. Out-of-stock periods do not count.
    """
    window, unseen = (panel.calendar.num_periods(days) for days in (_LEVEL_DAYS, _UNSEEN_DAYS))
    first_S = panel.first_sale_S
    start_S1 = np.where(first_S >= unseen, first_S, np.maximum(panel.num_periods - window, first_S))[:, None]
    period_T = np.arange(panel.num_periods)
    counts_ST = (period_T >= start_S1) & (period_T < start_S1 + window) & panel.in_stock_ST
    return (panel.sales_ST * counts_ST).sum(axis=1) / np.maximum(counts_ST.sum(axis=1), 1).astype(np.float32)


def launch_curves_SA(sales_SA: FloatArray) -> FloatArray:
    """Share of the sales so far that was made by each age, from 0 to 1; zeros where nothing was sold.

    >>> launch_curves_SA(np.array([[2.0, 0.0, 6.0]], dtype=np.float32)).tolist()
    [[0.25, 0.25, 1.0]]
    """
    total_S1 = sales_SA.sum(axis=1, keepdims=True)
    return (np.cumsum(sales_SA, axis=1) / np.where(total_S1 > 0, total_S1, 1.0)).astype(np.float32)


def warping_distance_SR(curve_SA: FloatArray, known_RA: FloatArray, *, band: int = _BAND) -> FloatArray:
    """Dynamic time warping distance of every pair of curves: root of the least squared difference per age.

    Ages that are matched lie at most ``band`` apart (Sakoe & Chiba 1978, symmetric steps without weights). All pairs
    go through the table together, cell by cell.
    """
    length = curve_SA.shape[1]
    far_SR = np.full((len(curve_SA), len(known_RA)), np.inf, dtype=np.float32)
    above: list[npt.NDArray[np.float32]] = [np.zeros_like(far_SR), *[far_SR] * length]
    for i in range(length):
        row = [far_SR] * (length + 1)
        for j in range(max(0, i - band), min(length, i + band + 1)):
            step_SR = (curve_SA[:, None, i] - known_RA[None, :, j]) ** 2
            row[j + 1] = step_SR + np.minimum(np.minimum(above[j + 1], row[j]), above[j])
        above = row
    return np.sqrt(above[length] / max(length, 1))


def growth_S(
    sales_SA: FloatArray, known_RA: FloatArray, *, expected_R: FloatArray, next_level_R: FloatArray
) -> FloatArray:
    """Factor from a level expected so early to the level that follows, as in earlier launches that began alike.

    Parameters
    ----------
    expected_R
        What was expected of the earlier launches at the same age, units per period.
    next_level_R
        What they went on to sell, units per period.
    """
    if not len(known_RA) or expected_R.sum() <= 0:
        return np.ones(len(sales_SA), dtype=np.float32)
    distance_SR = warping_distance_SR(launch_curves_SA(sales_SA), launch_curves_SA(known_RA))
    alike_SR = np.exp(-distance_SR / _SCALE)
    went_on_S = alike_SR @ next_level_R + _SHRINKAGE * next_level_R.mean()
    expected_S = alike_SR @ expected_R + _SHRINKAGE * expected_R.mean()
    return np.asarray(went_on_S / expected_S, dtype=np.float32)
