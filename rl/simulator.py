"""The event order of a period, written once: receive, observe, order, sell, account.

Training, replay, what-if, benchmark and service all step this class, on NumPy arrays or on torch tensors (CPU or GPU,
with or without gradients). Each row is one series in one scenario; rows never interact. An order placed in period t
with lead time L is on the shelf at the start of period t + L (Zipkin 2008).

Nothing here is written in place: that is what lets gradients flow through, and costs NumPy nothing.

Shapes: N rows (scenarios x series, flattened), L pipeline columns.
"""

import sys
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np

from rl.inventory import ArrayT, CostRates, InventoryState


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[ArrayT]):
    """What one period did to each row. Units, except ``cost_N`` in account currency.

    ``unmet_N`` is what left or, under backorders, what waits; ``on_hand_N`` is the shelf at the end of the period.
    """

    sold_N: ArrayT
    unmet_N: ArrayT
    on_hand_N: ArrayT
    cost_N: ArrayT


class Simulator(Generic[ArrayT]):
    """Steps N rows of inventory through periods.

    Parameters
    ----------
    start
        State at the first decision: the first period's receipts are already on the shelf. Arrays are copied; tensors
        keep their gradients. All arguments are of one kind, tensors on one device.
    costs
        Cost rates per row.
    max_lead_time
        Longest lead time that any order may have, in periods.
    unmet
        ``"lost"``: demand that the shelf cannot meet leaves. ``"backorder"``: it waits and is served first. Units owed
        at the start wait and are served first in both; what still waits costs only under ``"backorder"``.
    """

    def __init__(
        self, start: InventoryState[ArrayT], *, costs: CostRates[ArrayT], max_lead_time: int, unmet: str = "lost"
    ) -> None:
        if unmet not in ("lost", "backorder"):
            raise ValueError(f"unmet must be 'lost' or 'backorder', got {unmet!r}")
        self._library = _library_of(start.on_hand_S)
        self._costs = costs
        self._is_backordering = unmet == "backorder"
        self._on_hand_N = _owned(start.on_hand_S)
        self._zero_N = self._library.zeros_like(self._on_hand_N)
        given_LN = [_owned(column_N) for column_N in start.on_order_SL.T]
        # Columns instead of one array: shifting the pipeline moves no numbers. A column in which nothing is due is
        # `_zero_N` itself.
        self._on_order_LN = given_LN + [self._zero_N] * (max(max_lead_time, 1) - len(given_LN))
        # What no row has costs no arithmetic: None.
        is_owing = self._is_backordering or _is_any(start.backorder_S != 0)
        self._backorder_N = _owned(start.backorder_S) if is_owing else None
        is_reserving = _is_any((start.reserved_S != 0) | (start.on_hand_S < 0))
        self._reserved_N = _owned(start.reserved_S) if is_reserving else None
        self._fixed_order_N = costs.fixed_order_S if _is_any(costs.fixed_order_S != 0) else None

    def observe(self) -> InventoryState[ArrayT]:
        """State at the moment of the order: receipts in, demand not yet known. A copy, of tensors a view."""
        return InventoryState(
            on_hand_S=_owned(self._on_hand_N),
            on_order_SL=self._stacked(self._on_order_LN).T,
            backorder_S=_owned(self._zero_N if self._backorder_N is None else self._backorder_N),
            reserved_S=_owned(self._zero_N if self._reserved_N is None else self._reserved_N),
        )

    def step(self, order_N: ArrayT, *, demand_N: ArrayT, lead_time_N: Any) -> Outcome[ArrayT]:
        """Order, sell and account for this period, then receive for the next one.

        Parameters
        ----------
        order_N
            Units ordered now, >= 0.
        demand_N
            Units that customers want in this period, >= 0.
        lead_time_N
            Lead time of the orders placed now, in periods, 0..max_lead_time; orders may cross. At 0 the order is on
            the shelf before this period's demand. One int where it is the same for all rows: the fast way. Tensors are
            not checked: an order that would take longer is nowhere.
        """
        self._place(order_N, lead_time_N)
        outcome = self._sell(demand_N, order_N=order_N)
        self._on_hand_N = self._on_hand_N + self._on_order_LN.pop(0)
        self._on_order_LN.append(self._zero_N)
        return outcome

    def _stacked(self, columns: list[Any]) -> Any:
        return self._library.concatenate(columns).reshape(len(columns), len(self._zero_N))

    def _place(self, order_N: ArrayT, lead_time_N: Any) -> None:
        lead_time = _common(lead_time_N)
        if lead_time is None:
            coming_LN = self._stacked([self._on_hand_N, *self._on_order_LN])
            self._on_hand_N, *self._on_order_LN = _added(order_N, to_LN=coming_LN, row_N=lead_time_N)
        elif lead_time == 0:
            self._on_hand_N = self._on_hand_N + order_N
        else:
            due_N = self._on_order_LN[lead_time - 1]
            self._on_order_LN[lead_time - 1] = _owned(order_N) if due_N is self._zero_N else due_N + order_N

    def _sell(self, demand_N: ArrayT, *, order_N: ArrayT) -> Outcome[ArrayT]:
        wanted_N = demand_N if self._backorder_N is None else demand_N + self._backorder_N
        sellable_N = self._on_hand_N if self._reserved_N is None else _positive(self._on_hand_N - self._reserved_N)
        sold_N = self._library.minimum(sellable_N, wanted_N)
        # Not by way of the sold units: backwards, max(x, 0) costs less than min(a, b).
        surplus_N = sellable_N - wanted_N
        left_N = _positive(surplus_N)
        unmet_N = left_N - surplus_N
        self._on_hand_N = left_N if self._reserved_N is None else self._on_hand_N - sold_N
        if self._is_backordering:
            self._backorder_N = _owned(unmet_N)
        elif self._backorder_N is not None:
            self._backorder_N = _positive(self._backorder_N - sold_N)
            unmet_N = unmet_N - self._backorder_N
        cost_N = self._costs.holding_S * self._on_hand_N + self._costs.lost_sale_S * unmet_N
        if self._fixed_order_N is not None:
            cost_N = cost_N + self._fixed_order_N * (order_N > 0)
        return Outcome(sold_N=sold_N, unmet_N=unmet_N, on_hand_N=self._on_hand_N, cost_N=cost_N)


def _library_of(value_N: Any) -> Any:
    """The module that the array's type comes from, NumPy or torch, without importing either."""
    return sys.modules[type(value_N).__module__.partition(".")[0]]


def _owned(value_N: Any) -> Any:
    """As float32, and safe from what the caller does to its array; whoever writes to a tensor answers to autograd."""
    return value_N.astype(np.float32) if isinstance(value_N, np.ndarray) else value_N.float()


def _positive(value_N: Any) -> Any:
    if isinstance(value_N, np.ndarray):
        return np.maximum(value_N, 0)
    # Whole units leave exactly nothing now and then. There the slope is 0 to one side and 1 to the other, and a policy
    # that learns from either learns to order too little or too much: this form's is 1/2.
    return (value_N + value_N.abs()) / 2


def _is_any(flag_N: Any) -> bool:
    return bool(flag_N.any())


def _common(lead_time_N: Any) -> int | None:
    """The lead time of all rows, None where they differ. Not asked of tensors: a GPU would have to stop for it."""
    if isinstance(lead_time_N, int):
        return lead_time_N
    if not isinstance(lead_time_N, np.ndarray):
        return None
    first = lead_time_N[:1]
    return int(first[0]) if len(first) and (lead_time_N == first).all() else None


def _added(order_N: Any, *, to_LN: Any, row_N: Any) -> Any:
    """``to_LN`` with each order added in its row; an array is changed in place."""
    if isinstance(to_LN, np.ndarray):
        num_rows = to_LN.shape[1]
        np.add.at(to_LN.reshape(-1), row_N * num_rows + np.arange(num_rows), order_N)
        return to_LN
    row_L1 = _library_of(to_LN).arange(len(to_LN), device=to_LN.device)[:, None]
    return to_LN + (row_L1 == row_N) * order_N
