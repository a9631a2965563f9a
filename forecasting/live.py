"""Forecasts that follow orders and promotions as they arrive, without training again.

A change touches few series: only those are read and predicted anew, when they are next asked for. The answer is that of
:meth:`predict` on a panel that holds the change. Imports torch, never Ray.

Shapes: S series, R changed series, T history periods, X = T + periods known ahead, A announced periods, P promotions.
"""

from dataclasses import replace

import numpy as np

from cluster.panel import BoolArray, DemandPanel, FloatArray, IntArray
from forecasting.features import check_finite
from forecasting.forecast import Forecast
from forecasting.team import ServedForecaster


class LiveForecasts:
    """A panel that changes, and the forecast of every series of it.

    Not safe to change from several threads at once.

    Parameters
    ----------
    forecaster
        What predicts.
    panel
        History so far. Its arrays are copied: later changes to it are not seen.
    """

    def __init__(self, forecaster: ServedForecaster, panel: DemandPanel) -> None:
        check_finite(panel)
        self._forecaster = forecaster
        self._panel = replace(
            panel,
            sales_ST=panel.sales_ST.copy(),
            in_stock_ST=panel.in_stock_ST.copy(),
            promotion_SXP=panel.promotion_SXP.copy(),
        )
        self._forecast = forecaster.predict(self._panel)
        self._stale_S = np.zeros(panel.num_series, dtype=bool)

    @property
    def panel(self) -> DemandPanel:
        """History with all changes so far."""
        return self._panel

    def forecast(self, rows: IntArray) -> Forecast:
        """Forecast of the given series; those that have changed since they were last asked for are predicted anew."""
        stale = np.unique(rows[self._stale_S[rows]])
        if len(stale):
            made = self._forecaster.predict(self._panel.take(stale))
            self._forecast.mean_SH[stale] = made.mean_SH
            self._forecast.marginal_SHQ[stale] = made.marginal_SHQ
            self._forecast.cumulative_SHQ[stale] = made.cumulative_SHQ
            self._stale_S[stale] = False
        return self._forecast.take(rows)

    def correct_sales(
        self, rows: IntArray, *, period: int, sold_R: FloatArray, in_stock_R: BoolArray | None = None
    ) -> None:
        """Put what was sold in a past period in place of what was known of it, such as when orders arrive late.

        Raises
        ------
        ValueError
            If the period is not in 0..T - 1.
        DataError
            If a number is not finite or below zero; nothing has changed then.
        """
        if not 0 <= period < self._panel.num_periods:
            raise ValueError(f"period must be in 0..{self._panel.num_periods - 1}, got {period}")
        changed = self._panel.take(rows)
        changed.sales_ST[:, period] = sold_R
        check_finite(changed)
        self._panel.sales_ST[rows, period] = sold_R
        if in_stock_R is not None:
            self._panel.in_stock_ST[rows, period] = in_stock_R
        self._stale_S[rows] = True

    def announce_promotions(self, rows: IntArray, *, promotion_RAP: FloatArray) -> None:
        """Put promotions of the next A periods in place of those that were announced; later ones stay.

        Raises
        ------
        ValueError
            If more periods are given than are known ahead, or other channels.
        DataError
            If a number is not finite; nothing has changed then.
        """
        first, known, channels = self._panel.num_periods, len(self._panel.holiday_X), len(self._panel.promotion_names)
        num_rows, ahead, given = promotion_RAP.shape
        if num_rows != len(rows) or ahead > known - first or given != channels:
            shape = f"({len(rows)}, at most {known - first}, {channels})"
            raise ValueError(f"promotions must have shape {shape}, got {promotion_RAP.shape}")
        changed = self._panel.take(rows)
        changed.promotion_SXP[:, first : first + ahead] = promotion_RAP
        check_finite(changed)
        self._panel.promotion_SXP[rows, first : first + ahead] = promotion_RAP
        self._stale_S[rows] = True

    def close_period(self, *, sold_S: FloatArray, in_stock_S: BoolArray, price_S: FloatArray) -> None:
        """Add the period that has ended to the history of every series: all forecasts then begin one period later.

        What is known ahead stays where it is, so one period less of it lies ahead.

        Raises
        ------
        ValueError
            If nothing is known ahead: extend the panel's promotions and holidays first.
        DataError
            If a number is not finite or below zero; nothing has changed then.
        """
        panel = self._panel
        if len(panel.holiday_X) <= panel.num_periods:
            raise ValueError("no period is known ahead of history; load the calendar of the next ones")
        longer = replace(
            panel,
            sales_ST=np.column_stack([panel.sales_ST, sold_S]).astype(np.float32),
            in_stock_ST=np.column_stack([panel.in_stock_ST, in_stock_S]),
            price_ST=np.column_stack([panel.price_ST, price_S]).astype(np.float32),
        )
        check_finite(longer)
        self._panel = longer
        self._stale_S[:] = True
