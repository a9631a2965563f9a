"""Pairs and promotions of the insight benchmark: what is found in one part of the log, looked for in another.

Shapes: N pairs, S series, W weeks.
"""

from typing import Any

import numpy as np
from scipy import special

from benchmarks.forecast_panels import DATASETS, SHARED_DATA, load_table
from benchmarks.logs import Log
from recsys.baskets import Baskets, make_baskets
from recsys.insight import MAX_ITEMS, categories_of
from recsys.pairs import count_pairs, false_discovery_q_N, find_pairs, fisher_p_N
from recsys.substitution import is_across_N
from recsys.uplift import WeeklySales, base_units_S, extra_units, fit_effects, weekly_sales

Row = dict[str, Any]
_RATE = 0.05
_CHANCE = 0.05
_HELD_OUT_WEEKS = 8


def judge_pairs(log: Log, *, seed: int) -> list[Row]:
    """Pairs of all baskets beside Fisher's, and those of half of the customers in the baskets of the other half."""
    baskets = make_baskets(log.orders, max_items=MAX_ITEMS)
    pairs = find_pairs(baskets)
    found = pairs.found(false_discovery_rate=_RATE)
    across_N = is_across_N(found, category_ids_I=categories_of(log.items, item_ids=baskets.item_ids_I))
    num_tests = MAX_ITEMS * (MAX_ITEMS - 1) // 2
    by_fisher = false_discovery_q_N(fisher_p_N(pairs), num_tests=num_tests) <= _RATE
    return [
        {"system": "pairs", "found": len(found), "across_categories": int(across_N.sum())},
        {"system": "fisher", "found": int(by_fisher.sum())},
        _halves(baskets, seed=seed),
    ]


def _halves(baskets: Baskets, *, seed: int) -> Row:
    num_users = int(baskets.user_G.max()) + 1
    # The last entry is that of guests, whose number is -1.
    first_G = np.append(np.random.default_rng(seed).random(num_users) < 0.5, False)[baskets.user_G]
    found = find_pairs(baskets.keep(first_G)).found(false_discovery_rate=_RATE)
    together_N, expected_N = count_pairs(baskets.keep(~first_G), first_N=found.first_N, second_N=found.second_N)
    p_N = np.where(together_N > 0, special.gammainc(np.maximum(together_N, 1), np.maximum(expected_N, 1e-12)), 1.0)
    return {
        "system": "pairs of one half, in the other",
        "found": len(found),
        "more_than_expected": float((together_N > expected_N).mean()),
        "p_below_0.05": float((p_N < _CHANCE).mean()),
    }


def judge_promotions(*, seed: int) -> list[Row]:
    """Extra units of the promoted weeks at the end, from effects and sales of the weeks before them."""
    name, columns = DATASETS["cj"]
    if not (SHARED_DATA / name).is_file():
        return []
    weekly = weekly_sales(load_table(SHARED_DATA / name, columns, weekly=False)[0])
    known = _until(weekly, -_HELD_OUT_WEEKS)
    effects = fit_effects(known)
    base_S = base_units_S(known, effects)
    parts = []
    for week in range(-_HELD_OUT_WEEKS, 0):
        rows = np.flatnonzero(weekly.reach_SWP[:, week].max(axis=1) > 0)
        extra = extra_units(
            effects,
            category_ids_S=weekly.category_ids_S[rows],
            base_S=base_S[rows],
            reach_SP=weekly.reach_SWP[rows, week],
            seed=seed,
        )
        came_S = weekly.sales_SW[rows, week] - base_S[rows]
        parts.append(np.stack([extra.mean_S, extra.low_S, extra.high_S, came_S]))
    mean_N, low_N, high_N, came_N = np.concatenate(parts, axis=1)
    return [
        {
            "system": "extra units",
            "item_weeks": len(came_N),
            "expected": float(mean_N.sum()),
            "came": float(came_N.sum()),
            "absolute_error": float(np.abs(mean_N - came_N).sum()),
            "absolute_error_without": float(np.abs(came_N).sum()),
            "inside_80_percent": float(((low_N <= came_N) & (came_N <= high_N)).mean()),
        }
    ]


def _until(weekly: WeeklySales, week: int) -> WeeklySales:
    return WeeklySales(
        category_ids_S=weekly.category_ids_S,
        promotion_names=weekly.promotion_names,
        sales_SW=weekly.sales_SW[:, :week],
        reach_SWP=weekly.reach_SWP[:, :week],
    )
