"""The event order of a period, written once: receive, observe, order, sell, account.

Training, replay, what-if, benchmark and service all step this class. Each row is one series in one scenario; rows never
interact. An order placed in period t with lead time L is on the shelf at the start of period t + L (Zipkin 2008).

Shapes: N rows (scenarios x series, flattened), L pipeline columns.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rl.inventory import CostRates, FloatArray, InventoryState


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one period did to each row. Units, except ``cost_N`` in account currency.

    ``unmet_N`` is what left or, under backorders, what waits; ``on_hand_N`` is the shelf at the end of the period.
    """

    sold_N: FloatArray
    unmet_N: FloatArray
    on_hand_N: FloatArray
    cost_N: FloatArray


class Simulator:
    """Steps N rows of inventory through periods, in place.

    Parameters
    ----------
    start
        State at the first decision: the first period's receipts are already on the shelf. Copied.
    costs
        Cost rates per row.
    max_lead_time
        Longest lead time that any order may have, in periods.
    unmet
        ``"lost"``: demand that the shelf cannot meet leaves. ``"backorder"``: it waits and is served first. Units owed
        at the start wait and are served first in both; what still waits costs only under ``"backorder"``.
    """

    def __init__(self, start: InventoryState, *, costs: CostRates, max_lead_time: int, unmet: str = "lost") -> None:
        if unmet not in ("lost", "backorder"):
            raise ValueError(f"unmet must be 'lost' or 'backorder', got {unmet!r}")
        self._costs = costs
        self._is_backordering = unmet == "backorder"
        num_rows, given = start.on_order_SL.shape
        self._num_columns = max(max_lead_time, given, 1)
        self._rows_N = np.arange(num_rows)
        self._on_hand_N = start.on_hand_S.astype(np.float32, copy=True)
        self._backorder_N = start.backorder_S.astype(np.float32, copy=True)
        self._reserved_N = start.reserved_S.astype(np.float32, copy=True)
        self._on_order_NL = np.zeros((num_rows, self._num_columns), dtype=np.float32)
        self._on_order_NL[:, :given] = start.on_order_SL

    def observe(self) -> InventoryState:
        """State at the moment of the order: receipts in, demand not yet known. A copy."""
        return InventoryState(
            on_hand_S=self._on_hand_N.copy(),
            on_order_SL=self._on_order_NL.copy(),
            backorder_S=self._backorder_N.copy(),
            reserved_S=self._reserved_N.copy(),
        )

    def step(self, order_N: FloatArray, *, demand_N: FloatArray, lead_time_N: npt.NDArray[np.integer]) -> Outcome:
        """Order, sell and account for this period, then receive for the next one.

        Parameters
        ----------
        order_N
            Units ordered now, >= 0.
        demand_N
            Units that customers want in this period, >= 0.
        lead_time_N
            Lead time of the orders placed now, in periods, 0..max_lead_time; orders may cross. At 0 the order is on
            the shelf before this period's demand.
        """
        self._place(order_N, lead_time_N)
        outcome = self._sell(demand_N, ordered_N=order_N > 0)
        self._receive()
        return outcome

    def _place(self, order_N: FloatArray, lead_time_N: npt.NDArray[np.integer]) -> None:
        is_now_N = lead_time_N == 0
        self._on_hand_N += np.where(is_now_N, order_N, 0)
        self._on_order_NL[self._rows_N, np.maximum(lead_time_N, 1) - 1] += np.where(is_now_N, 0, order_N)

    def _sell(self, demand_N: FloatArray, *, ordered_N: npt.NDArray[np.bool_]) -> Outcome:
        wanted_N = demand_N + self._backorder_N
        sold_N = np.minimum(np.maximum(self._on_hand_N - self._reserved_N, 0), wanted_N)
        unmet_N = wanted_N - sold_N
        self._on_hand_N -= sold_N
        if self._is_backordering:
            self._backorder_N = unmet_N
        else:
            self._backorder_N = np.maximum(self._backorder_N - sold_N, 0)
            unmet_N -= self._backorder_N
        costs = self._costs
        cost_N = costs.holding_S * self._on_hand_N + costs.lost_sale_S * unmet_N + costs.fixed_order_S * ordered_N
        return Outcome(sold_N=sold_N, unmet_N=unmet_N, on_hand_N=self._on_hand_N.copy(), cost_N=cost_N)

    def _receive(self) -> None:
        self._on_hand_N += self._on_order_NL[:, 0]
        self._on_order_NL[:, :-1] = self._on_order_NL[:, 1:]
        self._on_order_NL[:, -1] = 0
