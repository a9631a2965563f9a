"""From a wish to an order that the supplier accepts and the store can hold.

A feasible order is 0, or a multiple of the pack that is at least the minimum, at most the cap, and fits into storage. A
wish is rounded up, as a buyer does: with a minimum of 15 and packs of 3, 1 -> 15, 13 -> 15, 16 -> 18. Where nothing
positive is feasible the order is 0. Where series share storage, what each could order alone is then shrunk in whole
packs until the group fits.

Shapes: S series (or simulated rows), R ledger reasons, G groups that share storage.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from cluster.errors import InfeasibleOrderError
from cluster.panel import BoolArray, SeriesIndex
from rl.inventory import FloatArray, InventoryState, SharedStorage, SupplyTerms
from rl.shared_storage import shared_quantity_S

WideArray = npt.NDArray[np.float64]

# Wishes are differences of float32: a pack is not opened for less than this share of it.
_PACK_TOLERANCE = 1e-4
# 0.3 kg is three packs of 0.1 kg, whatever float32 makes of the quotient.
_ROUNDING = 1e-6
# The ledger keeps wishes in eighths of a unit, which binary and decimal numbers both hold exactly.
_LEDGER_STEPS = 8.0


class Reason(StrEnum):
    """Why a quantity changed, in the order in which the rules apply."""

    WISH = "wish"
    CALENDAR = "calendar"
    MINIMUM = "minimum"
    PACK = "pack"
    CAP = "cap"
    STORAGE = "storage"
    CONFLICT = "conflict"
    SHARED_STORAGE = "shared_storage"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSteps:
    """How wishes became quantities.

    Parameters
    ----------
    quantity_S
        Units ordered.
    change_SR
        Units that each of ``Reason`` added; a row sums to its quantity exactly (for packs that are multiples of 1/8).
    """

    quantity_S: FloatArray
    change_SR: WideArray


def is_review_period_S(terms: SupplyTerms, *, period: int | npt.NDArray[np.integer]) -> BoolArray:
    """Whether orders can be placed in a period of the panel's calendar: t modulo R equals the phase.

    ``period`` is one number, or one per row where rows replay different stretches.
    """
    return np.asarray(period % terms.review_period_S == terms.review_phase_S)


def feasible_quantity_S(
    wish_S: FloatArray,
    *,
    state: InventoryState,
    terms: SupplyTerms,
    is_review_S: BoolArray | None = None,
    shared_storage: SharedStorage | None = None,
) -> FloatArray:
    """Smallest feasible order that is at least the wish, else the largest feasible one.

    Parameters
    ----------
    wish_S
        Units, >= 0.
    is_review_S
        False where no order can be placed now; default: everywhere it can.
    shared_storage
        Storage that series share: where a group's orders do not fit, its packs go to the series of fewest periods of
        cover first (:func:`rl.shared_storage.shared_quantity_S`).

    Returns
    -------
    Units, shape (S,).
    """
    least_S, most_S = _orderable_range_S(state, terms)
    packed_S = _packed_S(wish_S, terms)
    quantity_S = np.minimum(np.maximum(packed_S, least_S), most_S)
    is_ordering_S = (packed_S > 0) & (quantity_S >= least_S)
    if is_review_S is not None:
        is_ordering_S &= is_review_S
    own_S = np.where(is_ordering_S, quantity_S, 0).astype(np.float32)
    if shared_storage is None:
        return own_S
    return shared_quantity_S(own_S, least_S=least_S, state=state, terms=terms, shared_storage=shared_storage)


def feasible_steps(
    wish_S: FloatArray,
    *,
    state: InventoryState,
    terms: SupplyTerms,
    is_review_S: BoolArray | None = None,
    shared_storage: SharedStorage | None = None,
) -> OrderSteps:
    """As ``feasible_quantity_S``, with what each rule changed."""
    own_S = feasible_quantity_S(wish_S, state=state, terms=terms, is_review_S=is_review_S)
    quantity_S = own_S
    if shared_storage is not None:
        least_S = _least_order_S(terms)
        quantity_S = shared_quantity_S(own_S, least_S=least_S, state=state, terms=terms, shared_storage=shared_storage)
    stages = _own_stages(wish_S, own_S=own_S, state=state, terms=terms, is_review_S=is_review_S)
    stages.append(quantity_S.astype(np.float64))
    return OrderSteps(quantity_S=quantity_S, change_SR=np.diff(np.stack(stages, axis=1), axis=1))


def _own_stages(
    wish_S: FloatArray,
    *,
    own_S: FloatArray,
    state: InventoryState,
    terms: SupplyTerms,
    is_review_S: BoolArray | None,
) -> list[WideArray]:
    """The wish after each of a series' own rules, from 0 to what it could order alone."""
    least_S, _ = _orderable_range_S(state, terms)
    packed_S = _packed_S(wish_S, terms)
    rounded = np.maximum(np.ceil(wish_S.astype(np.float64) * _LEDGER_STEPS - 1e-3), 1.0) / _LEDGER_STEPS
    wish = np.where(packed_S > 0, rounded, 0.0)
    allowed = wish if is_review_S is None else np.where(is_review_S, wish, 0.0)
    is_ordering_S = allowed > 0
    raised = np.where(is_ordering_S, np.maximum(allowed, terms.min_order_qty_S), 0.0)
    packed = np.where(is_ordering_S, np.maximum(packed_S, least_S).astype(np.float64), 0.0)
    capped = np.minimum(packed, _whole_packs_S(terms.order_cap_S, terms).astype(np.float64))
    stored = np.minimum(capped, _whole_packs_S(_room_S(state, terms), terms).astype(np.float64))
    return [np.zeros_like(wish), wish, allowed, raised, packed, capped, stored, own_S.astype(np.float64)]


def check_orderable(terms: SupplyTerms, *, index: SeriesIndex) -> None:
    """Refuse terms under which a series can never be ordered, even with empty storage.

    Raises
    ------
    InfeasibleOrderError
        Naming the first such series and how many there are.
    """
    least_S = _least_order_S(terms)
    most_S = _whole_packs_S(np.minimum(terms.order_cap_S, terms.storage_capacity_S), terms)
    rows = np.flatnonzero(least_S > most_S)
    if len(rows):
        row = int(rows[0])
        raise InfeasibleOrderError(
            f"supply terms of item {index.item_ids_S[row]} at {index.location_ids_S[row]}: the smallest order is "
            f"{least_S[row]:g} units (minimum {terms.min_order_qty_S[row]:g}, pack {terms.pack_size_S[row]:g}) but the "
            f"cap is {terms.order_cap_S[row]:g} and storage holds {terms.storage_capacity_S[row]:g}; {len(rows)} "
            "series are like this: lower the minimum or the pack, or raise the cap or the storage"
        )


def _orderable_range_S(state: InventoryState, terms: SupplyTerms) -> tuple[FloatArray, FloatArray]:
    """Smallest and largest positive order; none exists where the first exceeds the second."""
    return _least_order_S(terms), _whole_packs_S(np.minimum(terms.order_cap_S, _room_S(state, terms)), terms)


def _packed_S(wish_S: FloatArray, terms: SupplyTerms) -> FloatArray:
    return np.ceil(wish_S / terms.pack_size_S - _PACK_TOLERANCE) * terms.pack_size_S


def _least_order_S(terms: SupplyTerms) -> FloatArray:
    packs_S = np.ceil(terms.min_order_qty_S / terms.pack_size_S - _ROUNDING)
    return np.maximum(packs_S, 1) * terms.pack_size_S


def _room_S(state: InventoryState, terms: SupplyTerms) -> FloatArray:
    return np.maximum(terms.storage_capacity_S - state.on_hand_S - state.on_order_SL.sum(axis=1), 0)


def _whole_packs_S(units_S: FloatArray, terms: SupplyTerms) -> FloatArray:
    return np.floor(units_S / terms.pack_size_S + _ROUNDING) * terms.pack_size_S
