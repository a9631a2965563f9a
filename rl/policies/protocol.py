"""The one question that every replenishment policy answers.

Shapes: S series.
"""

from typing import Protocol

from forecasting.forecast import Forecast
from rl.inventory import FloatArray, InventoryState, SupplyTerms


class Policy(Protocol):
    """A replenishment policy. It knows nothing of packs, budgets or approvals."""

    @property
    def name(self) -> str:
        """Its name in reports: ``base_stock``, ``ppo``, ..."""
        ...

    def order_quantity_S(self, state: InventoryState, forecast: Forecast, terms: SupplyTerms) -> FloatArray:
        """Units that the policy wishes to order now, >= 0, before any constraint."""
        ...
