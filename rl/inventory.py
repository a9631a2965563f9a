"""What is on the shelf and on its way, and on which terms more can be had.

Shapes: S series (or simulated rows), L periods until arrival. Periods are days on a daily panel, weeks on a weekly one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Generic

import numpy as np
import numpy.typing as npt
from typing_extensions import TypeVar

FloatArray = npt.NDArray[np.float32]
ArrayT = TypeVar("ArrayT", bound=Any, default=FloatArray)
"""NumPy arrays unless said otherwise: ``InventoryState`` holds arrays, ``InventoryState[torch.Tensor]`` tensors."""
IntArray = npt.NDArray[np.int64]
Rows = npt.NDArray[np.integer] | npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRates(Generic[ArrayT]):
    """What each series' decisions cost, in account currency.

    Parameters
    ----------
    holding_S
        Per unit on the shelf at the end of a period.
    lost_sale_S
        Per unit of demand not met from the shelf (lost margin and goodwill); per unit and period where backordered.
    fixed_order_S
        Per order line placed.
    unit_cost_S
        Purchase price per unit: values stock; not charged as a cost of the policy, since every sold unit pays it.
    salvage_S
        Per unit left at the end of a horizon, on hand or on order: what it is still worth, at most its unit cost. No
        sold unit pays for these, so they cost the difference (the newsvendor's overage). None: the end costs nothing.
    """

    holding_S: ArrayT
    lost_sale_S: ArrayT
    fixed_order_S: ArrayT
    unit_cost_S: ArrayT
    salvage_S: ArrayT | None = None

    def __post_init__(self) -> None:
        for name, value_S in self._rates():
            if len(value_S) != len(self.holding_S) or not ((value_S >= 0) & (value_S < np.inf)).all():
                raise ValueError(f"{name} must hold one finite rate >= 0 per series")
        if self.salvage_S is not None and (self.salvage_S > self.unit_cost_S).any():
            raise ValueError("salvage_S must be at most unit_cost_S, or it would pay to order without end")

    @property
    def critical_ratio_S(self) -> ArrayT:
        """Newsvendor's optimal cycle service level, lost sale / (lost sale + holding)."""
        total_S = self.lost_sale_S + self.holding_S
        return self.lost_sale_S / (total_S + (total_S == 0))

    def take(self, rows: Rows | ArrayT) -> "CostRates[ArrayT]":
        """Keep the given series, in the given order."""
        return CostRates(**{name: value_S[rows] for name, value_S in self._rates()})

    def _rates(self) -> list[tuple[str, ArrayT]]:
        pairs = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return [(name, value_S) for name, value_S in pairs if value_S is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SupplyTerms:
    """On which terms each series can be ordered.

    Parameters
    ----------
    lead_time_S
        Planned lead time L in periods: an order placed in period t is on the shelf at the start of period t + L.
    review_period_S
        Periods R between two orders; an order must last L + R periods.
    review_phase_S
        Orders can be placed in the periods t with t modulo R = phase, in 0..R - 1.
    min_order_qty_S, pack_size_S
        Units; an order is 0 or a multiple of the pack and at least the minimum.
    order_cap_S, storage_capacity_S
        Units, ``inf`` where there is none: most per order; most on hand and on order together.
    mean_demand_S
        Units per period that the series sold on average when these terms were set. Master data, as an ERP keeps them:
        it does not move with the forecast. Static rules are expressed in it.
    costs
        Cost rates of the same series.
    """

    lead_time_S: IntArray
    review_period_S: IntArray
    review_phase_S: IntArray
    min_order_qty_S: FloatArray
    pack_size_S: FloatArray
    order_cap_S: FloatArray
    storage_capacity_S: FloatArray
    mean_demand_S: FloatArray
    costs: CostRates

    def __post_init__(self) -> None:
        if len({len(getattr(self, field.name)) for field in fields(self) if field.name != "costs"}) != 1:
            raise ValueError("every field of SupplyTerms must have one entry per series")
        if (self.lead_time_S < 0).any() or (self.review_period_S < 1).any():
            raise ValueError("lead times must be >= 0 and review periods >= 1")
        if ((self.review_phase_S < 0) | (self.review_phase_S >= self.review_period_S)).any():
            raise ValueError("review phases must be in 0..review period - 1")
        if (self.pack_size_S <= 0).any() or (self.min_order_qty_S < 0).any():
            raise ValueError("pack sizes must be > 0 and minimum order quantities >= 0")

    def __len__(self) -> int:
        return len(self.lead_time_S)

    @property
    def protection_interval_S(self) -> IntArray:
        """L + R: the periods that an order placed now must cover."""
        return self.lead_time_S + self.review_period_S

    def take(self, rows: Rows) -> "SupplyTerms":
        """Keep the given series, in the given order."""
        arrays = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "costs"}
        return SupplyTerms(costs=self.costs.take(rows), **arrays)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedStorage:
    """Storage that series share, say those of a category: on hand and on order together fit into one capacity.

    Parameters
    ----------
    group_S
        Group of each series, 0..G - 1; -1 where it shares none.
    capacity_G
        Units.
    """

    group_S: IntArray
    capacity_G: FloatArray

    def __post_init__(self) -> None:
        if ((self.group_S < -1) | (self.group_S >= len(self.capacity_G))).any():
            raise ValueError(f"group_S must be in 0..{len(self.capacity_G) - 1}, or -1 where nothing is shared")
        if not (self.capacity_G >= 0).all():
            raise ValueError("capacity_G must hold one capacity >= 0 per group")

    def take(self, rows: Rows) -> "SharedStorage":
        """Keep the given series, in the given order; a group keeps its capacity.

        The n-th copy of a series is put into the n-th copy of its group: scenarios side by side share nothing.
        """
        taken = np.arange(len(self.group_S))[rows]
        in_order = np.argsort(taken, kind="stable")
        copy = np.empty_like(taken)
        copy[in_order] = np.arange(len(taken)) - np.searchsorted(taken[in_order], taken[in_order])
        group = self.group_S[taken]
        return SharedStorage(
            group_S=np.where(group < 0, -1, group + copy * len(self.capacity_G)),
            capacity_G=np.tile(self.capacity_G, int(copy.max(initial=0)) + 1),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryState(Generic[ArrayT]):
    """Stock as the policy sees it: today's receipts are already on the shelf.

    Parameters
    ----------
    on_hand_S
        Units on the shelf.
    on_order_SL
        Units that arrive at the start of the next period (column 0), the one after it, ...
    backorder_S
        Units owed to customers.
    reserved_S
        Units on the shelf that are promised and cannot be sold.
    """

    on_hand_S: ArrayT
    on_order_SL: ArrayT
    backorder_S: ArrayT
    reserved_S: ArrayT

    def __post_init__(self) -> None:
        for name in ("on_hand_S", "on_order_SL", "backorder_S", "reserved_S"):
            if len(getattr(self, name)) != len(self.on_hand_S):
                raise ValueError(f"{name} must have one row per series")

    @property
    def inventory_position_S(self) -> ArrayT:
        """On hand + on order - backorder - reserved, units."""
        return self.owned_S - self.backorder_S - self.reserved_S

    @property
    def owned_S(self) -> ArrayT:
        """On hand + on order, units."""
        return self.on_hand_S + self.on_order_SL.sum(axis=1)

    def salvage_value_S(self, costs: CostRates[ArrayT]) -> ArrayT:
        """What the units owned are worth at the end of a horizon, account currency; 0 without salvage rates."""
        owned_S = self.owned_S
        return owned_S * 0 if costs.salvage_S is None else costs.salvage_S * owned_S

    def write_down_S(self, costs: CostRates[ArrayT]) -> ArrayT:
        """What the units owned cost at the end of a horizon: unit cost less salvage; 0 without salvage rates."""
        owned_S = self.owned_S
        return owned_S * 0 if costs.salvage_S is None else (costs.unit_cost_S - costs.salvage_S) * owned_S

    def take(self, rows: Rows | ArrayT) -> "InventoryState[ArrayT]":
        """Keep the given series, in the given order."""
        return replace(
            self,
            on_hand_S=self.on_hand_S[rows],
            on_order_SL=self.on_order_SL[rows],
            backorder_S=self.backorder_S[rows],
            reserved_S=self.reserved_S[rows],
        )


def concatenate_states(parts: Sequence[InventoryState]) -> InventoryState:
    """Series of several states one after the other; shorter pipelines are continued with nothing."""
    longest = max(part.on_order_SL.shape[1] for part in parts)
    pipelines = [np.pad(part.on_order_SL, ((0, 0), (0, longest - part.on_order_SL.shape[1]))) for part in parts]
    return InventoryState(
        on_hand_S=np.concatenate([part.on_hand_S for part in parts]),
        on_order_SL=np.concatenate(pipelines),
        backorder_S=np.concatenate([part.backorder_S for part in parts]),
        reserved_S=np.concatenate([part.reserved_S for part in parts]),
    )
