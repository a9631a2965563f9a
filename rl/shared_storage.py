"""Orders of series that share storage, shrunk in whole packs until their group fits.

Packs are granted in order of need: the next one always goes to the series that covers the fewest periods of its mean
demand with its inventory position and what it has been granted so far; of equals to the first. The smallest order is
granted as a whole or not at all. An order whose next pack does not fit any more is done, and the others go on. So
stockouts are spread evenly, no minimum is broken, and a large minimum blocks nobody.

Shapes: S series, G groups.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rl.inventory import FloatArray, IntArray, InventoryState, SharedStorage, SupplyTerms

WideArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Slower series count as selling one unit in this many periods: their cover stays a number.
_SLOWEST = 1e3
# Halvings of a bracket of covers, and the share of a cover at which two count as equal while searching.
_HALVINGS = 64
_RESOLUTION = 1e-9


def shared_quantity_S(
    quantity_S: FloatArray,
    *,
    least_S: FloatArray,
    state: InventoryState,
    terms: SupplyTerms,
    shared_storage: SharedStorage,
) -> FloatArray:
    """Orders of which each group fits: on hand + on order + ordered now is at most its capacity.

    Groups that fit as they are stay as they are; one that is over capacity already orders nothing.

    Parameters
    ----------
    quantity_S
        What each series could order alone: 0, or whole packs and at least ``least_S``.
    least_S
        Smallest order of each series, units.
    """
    group_S, G = shared_storage.group_S, len(shared_storage.capacity_G)
    is_member_S = group_S >= 0
    room_G = shared_storage.capacity_G - _sum_G(state.owned_S[is_member_S], group_S[is_member_S], G)
    asked_G = _sum_G(quantity_S[is_member_S], group_S[is_member_S], G)
    rows = np.flatnonzero(is_member_S & (quantity_S > 0))
    rows = rows[(asked_G > room_G)[group_S[rows]]]
    if not len(rows):
        return quantity_S
    claims = _Claims(
        group_S=group_S[rows],
        most_S=quantity_S[rows].astype(np.float64),
        least_S=least_S[rows].astype(np.float64),
        pack_S=terms.pack_size_S[rows].astype(np.float64),
        position_S=state.inventory_position_S[rows].astype(np.float64),
        mean_S=np.maximum(terms.mean_demand_S[rows].astype(np.float64), 1 / _SLOWEST),
    )
    shared_S = quantity_S.copy()
    shared_S[rows] = claims.granted_S(room_G)
    return shared_S


def _sum_G(value_S: npt.NDArray[np.floating], group_S: IntArray, num_groups: int) -> WideArray:
    return np.asarray(np.bincount(group_S, weights=value_S, minlength=num_groups), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claims:
    """Orders of groups that do not fit: what each could take, and what its need is measured by."""

    group_S: IntArray
    most_S: WideArray
    least_S: WideArray
    pack_S: WideArray
    position_S: WideArray
    mean_S: WideArray

    def granted_S(self, room_G: WideArray) -> WideArray:
        """Units that each may order. A round ends at the first pack that does not fit; its order is then done."""
        granted_S = np.zeros_like(self.most_S)
        while True:
            left_G = room_G - _sum_G(granted_S, self.group_S, len(room_G))
            is_open_S = (granted_S < self.most_S) & (self._next_S(granted_S) <= left_G[self.group_S])
            if not is_open_S.any():
                return granted_S
            level_G, top_G = self._levels_G(granted_S, is_open_S=is_open_S, room_G=room_G)
            granted_S = np.where(is_open_S, self._filled_S(level_G, granted_S=granted_S), granted_S)
            granted_S = self._topped_S(granted_S, is_open_S=is_open_S, room_G=room_G, top_G=top_G)

    def _next_S(self, granted_S: WideArray) -> WideArray:
        return np.where(granted_S > 0, self.pack_S, self.least_S)

    def _cover_S(self, granted_S: WideArray) -> WideArray:
        return (self.position_S + granted_S) / self.mean_S

    def _filled_S(self, level_G: WideArray, *, granted_S: WideArray) -> WideArray:
        """Each order with all packs before which its cover is at most the group's level."""
        below_S = level_G[self.group_S] * self.mean_S - self.position_S
        packs_S = np.maximum(np.floor((below_S - self.least_S) / self.pack_S) + 1, 0)
        filled_S = np.where(below_S >= 0, self.least_S + packs_S * self.pack_S, 0.0)
        return np.clip(filled_S, granted_S, self.most_S)

    def _levels_G(
        self, granted_S: WideArray, *, is_open_S: BoolArray, room_G: WideArray
    ) -> tuple[WideArray, WideArray]:
        """A cover up to which each group's packs fit, and one a hair above, up to which they do not or none is left."""
        low_G = np.full(len(room_G), self._cover_S(granted_S)[is_open_S].min() - 1)
        high_G = np.full(len(room_G), self._cover_S(self.most_S)[is_open_S].max())
        for _ in range(_HALVINGS):
            middle_G = (low_G + high_G) / 2
            filled_S = np.where(is_open_S, self._filled_S(middle_G, granted_S=granted_S), granted_S)
            fits_G = _sum_G(filled_S, self.group_S, len(room_G)) <= room_G
            low_G, high_G = np.where(fits_G, middle_G, low_G), np.where(fits_G, high_G, middle_G)
        margin_G = _RESOLUTION * (1 + np.abs(low_G))
        return low_G - margin_G, high_G + margin_G

    def _topped_S(
        self, granted_S: WideArray, *, is_open_S: BoolArray, room_G: WideArray, top_G: WideArray
    ) -> WideArray:
        """One more pack for each order whose cover is at most the top, in order of cover, while it fits."""
        cover_S, next_S = self._cover_S(granted_S), self._next_S(granted_S)
        rows = np.flatnonzero(is_open_S & (granted_S < self.most_S) & (cover_S <= top_G[self.group_S]))
        rows = rows[np.lexsort((cover_S[rows], self.group_S[rows]))]
        group_R = self.group_S[rows]
        total_R = np.cumsum(next_S[rows])
        before_R = (total_R - next_S[rows])[np.searchsorted(group_R, group_R)]
        left_G = room_G - _sum_G(granted_S, self.group_S, len(room_G))
        fits_R = total_R - before_R <= left_G[group_R]
        topped_S = granted_S.copy()
        topped_S[rows[fits_R]] += next_S[rows[fits_R]]
        return topped_S
