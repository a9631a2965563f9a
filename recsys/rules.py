"""What the shop lets a recommender show: stock, repeats, variety, sellers, overstock. Pure NumPy.

Scores say what suits a user. Rules then take out what may not be shown, raise what the shop has too much of, and fill
the list rank by rank, so that variety and the sellers' cap hold for every answer by construction.

Shapes: U users, I items, K ranks, M candidates of a user, E events of histories, C categories or sellers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from cluster.settings.models import RuleSettings
from recsys.cold_start import NewItems
from recsys.interactions import BEHAVIOURS, PURCHASE, Interactions, RowArray, StrArray
from recsys.metrics import ScoreArray, top_items

BoolArray = npt.NDArray[np.bool_]
CodeArray = npt.NDArray[np.int32]
Matrix = npt.NDArray[np.float64]
UNKNOWN: Final = -1
OVERSTOCKED: Final = "we have more of it than we need"
_POOL: Final = 200
# Who reviews an item has it, whoever sold it.
_OWNED: Final = (PURCHASE, BEHAVIOURS.index("review"), BEHAVIOURS.index("poor review"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFacts:
    """What rules know of items, in the order of a recommender's items.

    Parameters
    ----------
    available_I
        Units that nobody has been promised are on the shelf; True for all where no stock is known.
    category_I, seller_I
        Number of the category and of the supplier, seller or brand; :data:`UNKNOWN` where none is given.
    repeat_rate_I
        Chance that a buyer buys the item again (:mod:`recsys.repeat`).
    overstock_I
        How much too much of it there is, 0 to 1.
    """

    available_I: BoolArray
    category_I: CodeArray
    seller_I: CodeArray
    repeat_rate_I: Matrix
    overstock_I: Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """Chosen items, best first; -1 and 0 where no more may be shown.

    Parameters
    ----------
    bonus_UK
        Part of the score that is there because the shop has too much of the item.
    """

    item_UK: RowArray
    score_UK: ScoreArray
    bonus_UK: ScoreArray


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleBook:
    """The rules of a shop, and what they know of a recommender's items.

    Parameters
    ----------
    facts
        Of the recommender's items, then of the new ones.
    new_items
        Items that the recommender has not learned of and that may be shown; None: there are none.
    """

    facts: ItemFacts
    settings: RuleSettings
    new_items: NewItems | None = None

    def with_new_items(self, score_UI: ScoreArray) -> ScoreArray:
        """Scores of the recommender's items, then of the new ones."""
        if self.new_items is None:
            return score_UI
        new_UN = np.float32(self.settings.new_item_weight) * self.new_items.score_UN(score_UI)
        new_UN[new_UN <= 0] = -np.inf
        return np.concatenate([score_UI, new_UN], axis=1)

    def with_stock(self, row_J: npt.NDArray[np.int64], is_free_J: BoolArray) -> "RuleBook":
        """The same rules, with some items on the shelf or not, whatever was known of them before."""
        available_I = self.facts.available_I.copy()
        available_I[row_J] = is_free_J
        return replace(self, facts=replace(self.facts, available_I=available_I))

    def regardless_of_stock(self) -> "RuleBook":
        """The same rules, were everything on the shelf."""
        return replace(self, facts=replace(self.facts, available_I=np.ones_like(self.facts.available_I)))

    def pick(self, score_UI: ScoreArray, histories: Interactions, *, k: int) -> Picked:
        """Best ``k`` items of each user that the rules allow; see :func:`pick_items`."""
        return pick_items(score_UI, histories, facts=self.facts, settings=self.settings, k=k)


def pick_items(
    score_UI: ScoreArray, histories: Interactions, *, facts: ItemFacts, settings: RuleSettings, k: int
) -> Picked:
    """Best ``k`` items of each user that the rules allow.

    Parameters
    ----------
    score_UI
        Higher suits better; -inf may not be shown. It is changed in place.
    """
    score_UI[:, ~facts.available_I] = -np.inf
    owned_E = np.isin(histories.behaviour_E, _OWNED)
    durable_E = owned_E & (facts.repeat_rate_I[histories.item_E] < settings.min_repeat_rate)
    score_UI[histories.user_E[durable_E], histories.item_E[durable_E]] = -np.inf
    raised_I = (1 + settings.overstock_weight * facts.overstock_I).astype(np.float32)
    item_UM, raised_UM = top_items(score_UI * raised_I, k=max(_POOL, 10 * k))
    cap = max(int(settings.max_seller_share * k + 1e-9), 1)
    place_UK, value_UK = _fill(
        raised_UM,
        category_UM=np.where(item_UM >= 0, facts.category_I[np.maximum(item_UM, 0)], UNKNOWN),
        seller_UM=np.where(item_UM >= 0, facts.seller_I[np.maximum(item_UM, 0)], UNKNOWN),
        keep=1.0 - settings.diversity,
        cap=cap if settings.max_seller_share < 1 else k,
        k=k,
    )
    item_UK = np.where(place_UK >= 0, np.take_along_axis(item_UM, np.maximum(place_UK, 0), axis=1), -1)
    shown_UK = item_UK >= 0
    raised_UK = raised_I[np.maximum(item_UK, 0)]
    bonus_UK = np.where(shown_UK, value_UK * (1 - 1 / raised_UK), 0.0)
    return Picked(
        item_UK=item_UK.astype(np.int32),
        score_UK=np.where(shown_UK, value_UK, 0.0).astype(np.float32),
        bonus_UK=bonus_UK.astype(np.float32),
    )


def _fill(
    score_UM: ScoreArray, *, category_UM: CodeArray, seller_UM: CodeArray, keep: float, cap: int, k: int
) -> tuple[npt.NDArray[np.int64], ScoreArray]:
    """Take the best candidate rank by rank; each one taken makes its category count ``keep`` times from then on."""
    num_users, width = score_UM.shape
    left_UM = score_UM.copy()
    users = np.arange(num_users)
    place_UK = np.full((num_users, k), -1, dtype=np.int64)
    value_UK = np.zeros((num_users, k), dtype=np.float32)
    of_seller_UM = np.zeros((num_users, width), dtype=np.int32)
    for rank in range(min(k, width)):
        best_U = left_UM.argmax(axis=1)
        value_U = left_UM[users, best_U]
        found_U = np.isfinite(value_U)
        place_UK[found_U, rank] = best_U[found_U]
        value_UK[found_U, rank] = value_U[found_U]
        left_UM[users, best_U] = -np.inf
        category_U1, seller_U1 = category_UM[users, best_U][:, None], seller_UM[users, best_U][:, None]
        alike_UM = (category_UM == category_U1) & (category_U1 != UNKNOWN) & found_U[:, None]
        left_UM = np.where(alike_UM, left_UM * np.float32(keep), left_UM) if keep < 1 else left_UM
        of_seller_UM += (seller_UM == seller_U1) & (seller_U1 != UNKNOWN) & found_U[:, None]
        left_UM[of_seller_UM >= cap] = -np.inf
    return place_UK, value_UK


def with_overstock_UK(reason_UK: StrArray, picked: Picked, *, parts: Mapping[str, ScoreArray]) -> StrArray:
    """Reasons, where overstock added more to a score than any model did: that it did."""
    num_known = next(iter(parts.values())).shape[1]
    safe_UK = np.where(picked.item_UK < num_known, np.maximum(picked.item_UK, 0), 0)
    most_UK = np.max([np.take_along_axis(part_UI, safe_UK, axis=1) for part_UI in parts.values()], axis=0)
    return np.where(picked.bonus_UK > most_UK, OVERSTOCKED, reason_UK)


def exposure(item_UK: RowArray, seller_I: CodeArray) -> dict[str, float]:
    """How evenly sellers are shown: a rank counts 1 / log2(rank + 1), as attention falls down a list.

    Returns
    -------
    ``{"sellers", "top_share", "gini"}``: sellers that could be shown, the share of the most shown one, and the Gini
    coefficient of all shares (0: even; near 1: one takes all). Items of no known seller do not count.

    Examples
    --------
    >>> found = exposure(np.array([[0], [0], [1], [1]]), np.array([7, 8]))
    >>> found["top_share"], found["gini"]
    (0.5, 0.0)
    """
    sellers = np.unique(seller_I[seller_I != UNKNOWN])
    weight_UK = np.broadcast_to(1 / np.log2(np.arange(2, item_UK.shape[1] + 2)), item_UK.shape)
    shown_UK = item_UK >= 0
    seller_UK = np.where(shown_UK, seller_I[np.maximum(item_UK, 0)], UNKNOWN)
    counts_UK = seller_UK != UNKNOWN
    place = np.searchsorted(sellers, seller_UK[counts_UK])
    share_C = np.bincount(place, weight_UK[counts_UK], minlength=len(sellers))
    if not share_C.sum():
        return {"sellers": float(len(sellers)), "top_share": 0.0, "gini": 0.0}
    share_C = np.sort(share_C / share_C.sum())
    ranks = np.arange(1, len(share_C) + 1)
    gini = float((2 * ranks - len(share_C) - 1) @ share_C / len(share_C))
    return {"sellers": float(len(sellers)), "top_share": float(share_C[-1]), "gini": gini}


def codes_of(names: StrArray) -> CodeArray:
    """A number per different name; :data:`UNKNOWN` for the empty one."""
    _, code = np.unique(names, return_inverse=True)
    return np.where(names == "", UNKNOWN, code).astype(np.int32)
