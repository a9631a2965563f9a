"""What is learned beside the ranking, on real logs: due items, the next basket, visits, interests, pairs, promotions.

Complete Journey, every figure of days that the model has not seen: due items and baskets in the week from 2017-12-04,
interests in the four weeks from then on, pairs of one half of the households in the other half, extra units in the last
eight weeks of the daily panel. Visits are real clicks (YooChoose, shared data), which tell of no purchase: the goal is
then that the visitor comes back to something already looked at.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

from benchmarks.forecast_panels import SHARED_DATA
from benchmarks.frame import make_parser, make_target, report
from benchmarks.insight_items import judge_pairs, judge_promotions
from benchmarks.logs import Log, read_complete_journey
from cluster.settings.models import RecommenderSettings
from recsys.insight import categories_of
from recsys.intent import ends_in_N, features_NF, fit_intent, is_again_N, make_visits
from recsys.interactions import DAY_SECONDS, Interactions, make_interactions, seconds_of
from recsys.interests import fit_interests, future_UC, score_shares
from recsys.metrics import ranking_metrics, top_items
from recsys.probability import Matrix, reliability, score_probabilities
from recsys.repeat import HORIZON_DAYS, Pairs, bought_again_N, fit_repeat

Row = dict[str, Any]
_CUT = date(2017, 12, 4)
_WEEKS_OF_INTERESTS = 4
_DUE_HOUSEHOLDS = 500
_QUICK_HOUSEHOLDS = 300
_K = 10
_CALIBRATED = 0.03


def main() -> int:
    """Judge every part on its log."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--part", choices=_PARTS, action="append", help="all by default")
    arguments = parser.parse_args()
    log = read_complete_journey()
    rows: list[Row] = []
    for part in arguments.part or _PARTS:
        found = _PARTS[part](log, arguments)
        rows += [{"part": part, **row} for row in found or [{"skipped": "its data is not installed"}]]
        print(part, file=sys.stderr, flush=True)
    targets = [
        make_target(
            f"{row['part']}: calibration error", value=row["calibration_error"], target=_CALIBRATED, at_least=False
        )
        for row in rows
        if row.get("ours") and "calibration_error" in row
    ]
    report("insight", rows, targets=targets, arguments=arguments)
    return 0


def _interactions(log: Log, *, days: int, arguments: argparse.Namespace) -> Interactions:
    """Everything until so many days after the cut; with ``--quick`` of some households."""
    whole = make_interactions(log.orders, until=_CUT + timedelta(days=days), settings=RecommenderSettings())
    return whole.take(_spread(whole.num_users, _QUICK_HOUSEHOLDS)) if arguments.quick else whole


def _spread(num_users: int, limit: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.linspace(0, num_users - 1, min(limit, num_users)).astype(np.int64)


def _judge_due(log: Log | None, arguments: argparse.Namespace) -> list[Row]:
    """Chance that an item of the history is bought again within a week."""
    if log is None:
        return []
    interactions = _interactions(log, days=HORIZON_DAYS, arguments=arguments)
    cut = seconds_of(_CUT)
    before = interactions.before(cut)
    category_ids_I = categories_of(log.items, item_ids=before.item_ids_I)
    model = fit_repeat(before, category_ids_I=category_ids_I, seed=arguments.seed)
    some = interactions.take(_spread(interactions.num_users, _DUE_HOUSEHOLDS))
    pairs = model.pairs(some.before(cut))
    yes_N = bought_again_N(pairs, some, cut=cut, horizon_days=HORIZON_DAYS)
    rivals = {"intervals and habits": model.due_N(pairs), "plain frequency": _plain_N(some.before(cut), pairs)}
    return [
        {
            "system": name,
            "ours": name != "plain frequency",
            **score_probabilities(chance_N, yes_N),
            "ndcg_within_users": _ndcg(chance_N, yes_N, pairs=pairs, log=some),
        }
        for name, chance_N in rivals.items()
    ]


def _judge_basket(log: Log | None, arguments: argparse.Namespace) -> list[Row]:
    """Chance that a household buys anything within a week: the repeat model over one item, which is every item."""
    if log is None:
        return []
    interactions = _as_one_item(_interactions(log, days=HORIZON_DAYS, arguments=arguments))
    cut = seconds_of(_CUT)
    before = interactions.before(cut)
    model = fit_repeat(before, category_ids_I=interactions.item_ids_I, seed=arguments.seed)
    pairs = model.pairs(before)
    yes_N = bought_again_N(pairs, interactions, cut=cut, horizon_days=HORIZON_DAYS)
    rivals = {"intervals and habits": model.due_N(pairs), "plain frequency": _plain_N(before, pairs)}
    return [_judged(name, chance_N, yes_N, ours=name != "plain frequency") for name, chance_N in rivals.items()]


def _as_one_item(interactions: Interactions) -> Interactions:
    return replace(interactions, item_ids_I=np.array(["anything"]), item_E=np.zeros_like(interactions.item_E))


def _judge_visits(log: Log | None, arguments: argparse.Namespace) -> list[Row]:
    """Chance that a visitor comes back to an item of the same visit, after each click; the last fifth of the visits."""
    path = SHARED_DATA / "yoochoose_clicks.parquet"
    if not path.is_file():
        return []
    clicks = pl.read_parquet(path).select(
        pl.col("SessionId").alias("session_id"),
        pl.col("ItemId").alias("item_id"),
        (pl.col("Time").cast(pl.Float64) * 1e6).cast(pl.Int64).cast(pl.Datetime("us", "UTC")).alias("occurred_at"),
        pl.lit("click").alias("event_type"),
    )
    visits = make_visits(clicks.to_arrow())
    split = len(visits) * 4 // 5
    learned, unseen = visits.take(0, split), visits.take(split, len(visits))
    model = fit_intent(learned, goal_N=is_again_N(learned))
    assert model is not None
    yes_N = ends_in_N(unseen, is_again_N(unseen))
    share = float(ends_in_N(learned, is_again_N(learned)).mean())
    rivals = {"visit so far": model.probability_N(features_NF(unseen)), "share of all": np.full(len(yes_N), share)}
    return [_judged(name, chance_N, yes_N, ours=name == "visit so far") for name, chance_N in rivals.items()]


def _judged(name: str, chance_N: Matrix, yes_N: np.ndarray[Any, np.dtype[np.bool_]], *, ours: bool) -> Row:
    deciles = [{key: round(row[key], 4) for key in ("promised", "happened")} for row in reliability(chance_N, yes_N)]
    return {"system": name, "ours": ours, **score_probabilities(chance_N, yes_N), "deciles": deciles if ours else None}


def _judge_interests(log: Log | None, arguments: argparse.Namespace) -> list[Row]:
    """Expected shares of categories against those of the four weeks that came."""
    if log is None:
        return []
    interactions = _interactions(log, days=7 * _WEEKS_OF_INTERESTS, arguments=arguments)
    cut = seconds_of(_CUT)
    before = interactions.before(cut)
    model = fit_interests(before, category_ids_I=categories_of(log.items, item_ids=before.item_ids_I))
    num = len(model.category_C)
    actual_UC = future_UC(interactions, category_I=model.category_I, num=num, since=cut)
    counts_UC = future_UC(before, category_I=model.category_I, num=num, since=0)
    rivals = {"interests": model.shares_UC(before)}
    for added in (0.01, 0.5):
        smoothed_UC = counts_UC + added
        rivals[f"plain frequency + {added:g}"] = smoothed_UC / smoothed_UC.sum(axis=1, keepdims=True)
    rivals["share of all users"] = np.repeat(model.overall_C[None], len(counts_UC), axis=0)
    return [{"system": name, "categories": num, **score_shares(share, actual_UC)} for name, share in rivals.items()]


def _plain_N(histories: Interactions, pairs: Pairs) -> Matrix:
    """Chance of a purchase if they came evenly at the rate of the days since the user's first event."""
    day_E = histories.time_E // DAY_SECONDS
    pair_E = histories.user_E * histories.num_items + histories.item_E
    span = int(day_E.max()) + 1
    bought, num = np.unique(np.unique(pair_E * span + day_E) // span, return_counts=True)
    count_N = num[np.searchsorted(bought, pairs.user_N * histories.num_items + pairs.item_N)]
    first_U = histories.time_E[np.minimum(histories.offset_U1[:-1], histories.num_events - 1)]
    known_U = np.maximum((histories.now_U - first_U) / DAY_SECONDS, 1.0)
    return np.asarray(1 - np.exp(-HORIZON_DAYS * count_N / known_U[pairs.user_N]))


def _ndcg(chance_N: Matrix, yes_N: np.ndarray[Any, np.dtype[np.bool_]], *, pairs: Pairs, log: Interactions) -> float:
    score_UI = np.full((log.num_users, log.num_items), -np.inf, np.float32)
    score_UI[pairs.user_N, pairs.item_N] = chance_N
    count_U = np.bincount(pairs.user_N[yes_N], minlength=log.num_users)
    item_UK, _ = top_items(score_UI[count_U > 0], k=_K)
    offset = np.concatenate([[0], np.cumsum(count_U[count_U > 0])])
    return ranking_metrics(item_UK, target_N=pairs.item_N[yes_N].astype(np.int32), offset_U1=offset, k=_K)["ndcg"]


_PARTS: dict[str, Callable[[Log | None, argparse.Namespace], list[Row]]] = {
    "due": _judge_due,
    "basket": _judge_basket,
    "visits": _judge_visits,
    "interests": _judge_interests,
    "pairs": lambda log, arguments: [] if log is None else judge_pairs(log, seed=arguments.seed),
    "promotions": lambda log, arguments: judge_promotions(seed=arguments.seed),
}


if __name__ == "__main__":
    sys.exit(main())
