"""The one question that every replenishment policy answers.

Shapes: S series.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

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


Asked = tuple[Policy, npt.NDArray[np.int64]]
"""A policy and the rows of the series that it is asked about."""


class JointPolicies(Protocol):
    """Policies that can be asked together, where that costs less than one after another; each answers as if alone."""

    def worth_joining(self, asked: Sequence[Asked]) -> list[Asked]:
        """Those of the questions that are better asked here, together; none if there are too few."""
        ...

    def order_quantity_S(
        self, asked: Sequence[Asked], *, state: InventoryState, forecast: Forecast, terms: SupplyTerms
    ) -> FloatArray:
        """Units that each policy wishes to order of the series in its rows; 0 of series in nobody's."""
        ...
