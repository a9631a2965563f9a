"""Names that a fitted forecaster knows, and how an unknown one is read.

Shapes: S series, X history and announced periods.
"""

from dataclasses import dataclass, replace

import numpy as np

from cluster.errors import DataError
from cluster.panel import DemandPanel, SeriesIndex
from forecasting.features import KnownRows


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What the forecaster knows by name: series, categories and their usual level, promotion channels, calendar."""

    item_ids: tuple[str, ...]
    location_ids: tuple[str, ...]
    category_ids: tuple[str, ...]
    category_levels: tuple[float, ...]
    usual_level: float
    promotion_names: tuple[str, ...]
    period_days: int
    yearly: bool

    def rows(self, index: SeriesIndex) -> KnownRows:
        """Translate the ids of a panel; unknown ones get row 0 and the usual level of their category, or of all."""
        series_of = {pair: row for row, pair in enumerate(zip(self.item_ids, self.location_ids, strict=True), start=1)}
        category_of = {category: row for row, category in enumerate(self.category_ids, start=1)}
        level_of = dict(zip(self.category_ids, self.category_levels, strict=True))
        pairs = zip(index.item_ids_S.tolist(), index.location_ids_S.tolist(), strict=True)
        categories = index.category_ids_S.tolist()
        return KnownRows(
            series_row_S=np.array([series_of.get(pair, 0) for pair in pairs], dtype=np.int64),
            category_row_S=np.array([category_of.get(c, 0) for c in categories], dtype=np.int64),
            prior_level_S=np.array([level_of.get(c, self.usual_level) for c in categories], dtype=np.float32),
        )

    def check_periods(self, panel: DemandPanel) -> None:
        """Refuse a panel whose periods have another length than those of training.

        Raises
        ------
        DataError
            Naming both lengths.
        """
        if panel.calendar.period_days != self.period_days:
            raise DataError(
                f"the panel has periods of {panel.calendar.period_days} days, the forecaster was trained on "
                f"{self.period_days}; set data.frequency to match, or train again"
            )

    def aligned(self, panel: DemandPanel) -> DemandPanel:
        """Promotion channels in the order of training; a channel that the panel lacks is 0, a new one is not read."""
        if panel.promotion_names == self.promotion_names:
            return panel
        S, X, _ = panel.promotion_SXP.shape
        promotion_SXP = np.zeros((S, X, len(self.promotion_names)), dtype=np.float32)
        for column, name in enumerate(self.promotion_names):
            if name in panel.promotion_names:
                promotion_SXP[:, :, column] = panel.promotion_SXP[:, :, panel.promotion_names.index(name)]
        return replace(panel, promotion_SXP=promotion_SXP, promotion_names=self.promotion_names)
