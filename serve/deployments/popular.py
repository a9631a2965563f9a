"""What sells well now in each category: what is recommended while the recommender does not answer. Pure.

Shapes: S series, T history periods, I items, C categories, U users, K items of an answer.
"""

from collections.abc import Container, Sequence

import numpy as np

from cluster.panel import DemandPanel
from serve.answers import UserRecommendations

_DAYS = 28


def popular_items(panel: DemandPanel, *, sold_out: Container[str]) -> list[tuple[str, str, float]]:
    """Items with their category and share of all recent units: the best of each category first, then the second best.

    Categories that sell more come first within a round; items that have not sold lately are left out.
    """
    recent = panel.calendar.num_periods(_DAYS)
    item_I, first_I, place_S = np.unique(panel.index.item_ids_S, return_index=True, return_inverse=True)
    units_I = np.bincount(place_S, panel.sales_ST[:, -recent:].sum(axis=1), minlength=len(item_I))
    shown_I = (units_I > 0) & np.array([item not in sold_out for item in item_I.tolist()], dtype=bool)
    share_I = (units_I / max(units_I.sum(), 1.0))[shown_I]
    item_I, category_I = item_I[shown_I], panel.index.category_ids_S[first_I][shown_I]
    category_C, code_I = np.unique(category_I, return_inverse=True)
    share_C = np.bincount(code_I, share_I, minlength=len(category_C))
    by_category = np.lexsort((-share_I, code_I))
    start_C = np.searchsorted(code_I[by_category], np.arange(len(category_C)))
    round_I = np.empty(len(item_I), dtype=np.int64)
    round_I[by_category] = np.arange(len(item_I)) - start_C[code_I[by_category]]
    order = np.lexsort((-share_I, -share_C[code_I], round_I))
    found = zip(item_I[order].tolist(), category_I[order].tolist(), share_I[order].tolist(), strict=True)
    return list(found)


def popular_answer(found: Sequence[tuple[str, str, float]], *, user_ids: Sequence[str], k: int) -> UserRecommendations:
    """The same items for every user, marked as a fallback."""
    padded = [*found, *[("", "", 0.0)] * (k - len(found))]
    num_users = len(user_ids)
    return UserRecommendations(
        user_ids=tuple(user_ids),
        item_ids_UK=np.array([[item_id for item_id, _, _ in padded]] * num_users),
        score_UK=np.array([[share for _, _, share in padded]] * num_users, dtype=np.float32),
        reason_UK=np.array(
            [[f"popular in {category} now" if item else "" for item, category, _ in padded]] * num_users
        ),
        is_fallback_U=np.ones(num_users, dtype=bool),
        interests=None,
        due_items=None,
        due_within_days=None,
        model_version="popular",
    )
