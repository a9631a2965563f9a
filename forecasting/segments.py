"""Kinds of demand: what decides which forecasting method does well.

Shapes: S series, T history periods.
"""

import numpy as np
import numpy.typing as npt

from cluster.panel import DemandPanel

SEGMENTS = ("smooth", "erratic", "intermittent", "lumpy", "new")

_LONG_INTERVAL = 1.32
_HIGH_VARIATION = 0.49
_NEW_DAYS = 28


def segment_of_S(view: DemandPanel) -> npt.NDArray[np.int64]:
    """Segment of each series, as a position in :data:`SEGMENTS` (Syntetos, Boylan & Croston 2005).

    With the mean interval between periods that sold, p, and the squared coefficient of variation of what they sold:
    smooth (p < 1.32, CV2 < 0.49), erratic (CV2 above), intermittent (p above), lumpy (both). A series is new in the 28
    days from its first sale on. Periods out of stock do not count.
    """
    since_ST = (np.arange(view.num_periods) >= view.first_sale_S[:, None]) & view.in_stock_ST
    sold_ST = since_ST & (view.sales_ST > 0)
    sales_S = np.maximum(sold_ST.sum(axis=1), 1)
    interval_S = since_ST.sum(axis=1) / sales_S
    size_S = (view.sales_ST * sold_ST).sum(axis=1) / sales_S
    variance_S = (((view.sales_ST - size_S[:, None]) ** 2) * sold_ST).sum(axis=1) / sales_S
    variation_S = variance_S / np.maximum(size_S, 1e-9) ** 2
    segment_S = 2 * (interval_S >= _LONG_INTERVAL) + (variation_S >= _HIGH_VARIATION)
    age_S = (view.num_periods - view.first_sale_S) * view.calendar.period_days
    return np.where(age_S < _NEW_DAYS, SEGMENTS.index("new"), segment_S).astype(np.int64)
