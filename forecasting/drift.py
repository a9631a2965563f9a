"""Whether demand is still what the forecaster learned, and whether forecasts keep what they promised.

Pure: no Ray, no files. Shapes: S series, T history periods, N values, B bins.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.panel import DemandPanel, FloatArray
from forecasting.forecast import Forecast
from forecasting.metrics import score_forecasts

DriftRow = dict[str, Any]

ALL = "all"
_NUM_BINS = 10
_LEAST_SHARE = 1e-4
"""An empty bin counts as this much: the index would be infinite."""
_LEAST_PERIODS = 7
_PROMISES = ("wql", "wql_sum", "bias", "coverage_80_pit")


def population_stability(reference_N: FloatArray, recent_N: FloatArray) -> float:
    """Population stability index of two samples: ``sum (p - q) log(p / q)`` over bins of equal share in the first.

    Below 0.1 is called stable and above 0.25 changed (Siddiqi 2006). Nothing sold is a bin of its own.

    >>> population_stability(np.float32([0, 1, 2, 3]), np.float32([0, 1, 2, 3]))
    0.0
    """
    sold_N = reference_N[reference_N > 0]
    inner = np.quantile(sold_N, np.arange(1, _NUM_BINS) / _NUM_BINS) if len(sold_N) else np.empty(0)
    edges = np.unique([0.0, *inner])
    share_of = [_shares_B(value_N, edges) for value_N in (reference_N, recent_N)]
    return float(((share_of[1] - share_of[0]) * np.log(share_of[1] / share_of[0])).sum())


def _shares_B(value_N: FloatArray, edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    count_B = np.bincount(np.searchsorted(edges, value_N, side="left"), minlength=len(edges) + 1)
    return np.maximum(count_B / max(len(value_N), 1), _LEAST_SHARE)


def input_drift(panel: DemandPanel, *, since: int) -> list[DriftRow]:
    """How demand from period ``since`` on differs from as long a stretch before it: one row per category, and of all.

    Demand of each series counts over its mean in both stretches together, so that a category is not its best seller;
    periods out of stock or before the first sale do not.

    Returns
    -------
    Rows of ``category_id``, ``num_series``, ``stability`` (:func:`population_stability`), ``demand_change`` (of units,
    recent over before, less one), ``empty_change`` (of the share of periods without a sale) and ``promoted_change`` (of
    the share of promoted periods). None where nothing was sold before.

    Raises
    ------
    ValueError
        If fewer than 7 periods lie on one side of ``since``.
    """
    length = min(panel.num_periods - since, since)
    if length < _LEAST_PERIODS:
        raise ValueError(f"drift needs {_LEAST_PERIODS} periods before and after, got {length}")
    stretches = slice(since - length, since), slice(since, since + length)
    category_S = panel.index.category_ids_S
    groups = [(ALL, np.ones(panel.num_series, dtype=bool))]
    groups += [(category, category_S == category) for category in np.unique(category_S).tolist()]
    return [
        {"category_id": name, "num_series": int(rows_S.sum()), **_drift_of(panel.take(rows_S), stretches)}
        for name, rows_S in groups
    ]


def _drift_of(panel: DemandPanel, stretches: tuple[slice, slice]) -> DriftRow:
    counts_ST = panel.in_stock_ST & (np.arange(panel.num_periods) >= panel.first_sale_S[:, None])
    whole = slice(stretches[0].start, stretches[1].stop)
    sold_S1 = (panel.sales_ST * counts_ST)[:, whole].sum(axis=1, keepdims=True)
    mean_S1 = sold_S1 / np.maximum(counts_ST[:, whole].sum(axis=1, keepdims=True), 1)
    relative_ST = panel.sales_ST / np.maximum(mean_S1, 1e-9)
    relative = [relative_ST[:, part][counts_ST[:, part]] for part in stretches]
    units = [
        float(panel.sales_ST[:, part][counts_ST[:, part]].mean()) for part in stretches if counts_ST[:, part].any()
    ]
    if len(units) < len(stretches) or units[0] == 0:
        return dict.fromkeys(("stability", "demand_change", "empty_change", "promoted_change"))
    empty = [float((value_N == 0).mean()) for value_N in relative]
    promoted_ST = panel.promotion_SXP[:, : panel.num_periods].max(axis=2, initial=0.0) > 0
    promoted = [float(promoted_ST[:, part].mean()) for part in stretches]
    return {
        "stability": population_stability(relative[0], relative[1]),
        "demand_change": units[1] / units[0] - 1.0,
        "empty_change": empty[1] - empty[0],
        "promoted_change": promoted[1] - promoted[0],
    }


def promises_kept(
    panel: DemandPanel, *, forecasts: Sequence[Forecast], origins: Sequence[int], promised: DriftRow
) -> list[DriftRow]:
    """Scores of forecasts made since training beside those on the periods that were held out from it.

    Parameters
    ----------
    promised
        Score -> value at training, as in the forecaster's manifest.

    Returns
    -------
    Rows of ``score``, ``promised`` and ``kept``, None where there is none.
    """
    kept = score_forecasts(panel, forecasts=forecasts, origins=origins)
    return [{"score": name, "promised": promised.get(name), "kept": kept[name]} for name in _PROMISES]


def promises_of(panel: DemandPanel, *, forecasts: Sequence[Forecast], origins: Sequence[int]) -> DriftRow:
    """The scores that :func:`promises_kept` compares, of forecasts of held-out periods."""
    scores = score_forecasts(panel, forecasts=forecasts, origins=origins)
    return {name: scores[name] for name in _PROMISES}
