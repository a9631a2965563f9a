"""Substitutes on real episodes: whether those that are named take over when an item is gone for six weeks.

An episode is an item that sold in at least seven of eight weeks and then not at all for six. Substitutes are named from
what was known before it. Judged are customers who had bought the item more than eight weeks before: what they buy of
the five named items after it has gone, over what would be expected by how other customers' purchases of those items and
the customers' own activity went; as a share of what they had bought of the missing item. Customers are chosen by older
purchases than those compared, since who is chosen by a purchase buys less of everything next. Controls are items of the
same category (all items where there are no categories) that sold as much. Seasonal goods are left out by name.

Shapes: I items, U users, N lines, E episodes.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from benchmarks.frame import make_parser, make_target, report
from benchmarks.logs import Log, read_complete_journey, read_online_retail
from cluster.item_content import make_content
from recsys.baskets import Baskets, make_baskets
from recsys.interactions import StrArray
from recsys.likeness import nearest_items
from recsys.neighbours import ItemNeighbours
from recsys.substitution import find_substitutes

_BEFORE, _AFTER, _NAMED = 8, 6, 5
_MIN_LINES = 60
_SEASONAL = ("EASTER", "MAGAZINE", "CHRISTMAS", "HALLOWEEN")
_RESAMPLES = 2_000
_REFIT_WEEKS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Lines of one shop by number, and the item table."""

    log: Log
    item_ids_I: StrArray
    category_I: np.ndarray
    item_N: np.ndarray
    user_N: np.ndarray
    week_N: np.ndarray
    num_users: int


def main() -> int:
    """Judge every way to name substitutes on every log."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--dataset", choices=["cj", "or"], action="append")
    arguments = parser.parse_args()
    names = arguments.dataset or (["or"] if arguments.quick else ["cj", "or"])
    rows: list[dict[str, Any]] = []
    targets: list[dict[str, Any]] = []
    for name in names:
        log = read_complete_journey() if name == "cj" else read_online_retail()
        if log is None:
            rows.append({"dataset": name, "skipped": "its files are not installed"})
            continue
        found = judge(make_world(log), seed=arguments.seed)
        rows += [{"dataset": name, **row} for row in found]
        best = next(row for row in found if row["system"] == "substitutes")
        what = f"{name}: takeover of substitutes less that of controls, lower end of the 95 % interval"
        targets.append(make_target(what, value=best["low"], target=0.0, at_least=True))
    report("substitution", rows, targets=targets, arguments=arguments)
    return 0


def make_world(log: Log) -> World:
    """Number items that sold in at least 60 lines, and users."""
    lines = log.orders_frame.drop_nulls("user_id").unique(["order_id", "item_id"])
    counts = lines.group_by("item_id").len().filter(pl.col("len") >= _MIN_LINES)
    items = counts.select(pl.col("item_id").sort())["item_id"].to_numpy().astype(str)
    lines = lines.filter(pl.col("item_id").is_in(items.tolist()))
    category_of = dict(zip(log.items["item_id"].to_pylist(), log.items["category_id"].to_pylist(), strict=True))
    _, user_N = np.unique(lines["user_id"].to_numpy(), return_inverse=True)
    first = lines["ordered_at"].min()
    return World(
        log=log,
        item_ids_I=items,
        category_I=np.array([category_of.get(item) or "" for item in items.tolist()]),
        item_N=np.searchsorted(items, lines["item_id"].to_numpy().astype(str)),
        user_N=user_N,
        week_N=((lines["ordered_at"] - first).dt.total_days() // 7).to_numpy(),
        num_users=int(user_N.max()) + 1,
    )


def find_episodes(world: World) -> list[tuple[int, int]]:
    """Items and the first week without them; the first episode of each item."""
    num_weeks = int(world.week_N.max()) + 1
    sold_IW = np.zeros((len(world.item_ids_I), num_weeks))
    np.add.at(sold_IW, (world.item_N, world.week_N), 1)
    name_of = dict(zip(world.log.items["item_id"].to_pylist(), world.log.items["name"].to_pylist(), strict=True))
    words_I = [
        f"{name_of.get(item)} {category}".upper()
        for item, category in zip(world.item_ids_I, world.category_I, strict=True)
    ]
    seasonal_I = np.array([any(word in text for word in _SEASONAL) for text in words_I])
    first: dict[int, int] = {}
    for week in range(_BEFORE + 4, num_weeks - _AFTER):
        before_IW, after_IW = sold_IW[:, week - _BEFORE : week], sold_IW[:, week : week + _AFTER]
        steady_I = (
            (before_IW.mean(axis=1) >= 3) & ((before_IW > 0).sum(axis=1) >= 7) & (before_IW[:, -2:].sum(axis=1) >= 2)
        )
        for item in np.flatnonzero(steady_I & (after_IW.sum(axis=1) == 0) & ~seasonal_I).tolist():
            first.setdefault(item, week)
    return sorted(first.items())


def judge(world: World, *, seed: int) -> list[dict[str, Any]]:
    """One row per system: mean takeover of the named items and of their controls, weighed by what was lost."""
    collected: dict[str, list[tuple[float, float, float]]] = {}
    fitted: dict[int, dict[str, ItemNeighbours]] = {}
    for item, week in find_episodes(world):
        cut = week // _REFIT_WEEKS * _REFIT_WEEKS
        if cut not in fitted:
            fitted[cut] = {name: make(_baskets_before(world, cut), world) for name, make in SYSTEMS.items()}
        gain_I, base, available_I, level_I = _gains(world, item=item, week=week)
        if base <= 0:
            continue
        for name, neighbours in fitted[cut].items():
            named = _named(neighbours, world, item=item, available_I=available_I)
            if len(named):
                control = _controls(world, named, item=item, available_I=available_I, level_I=level_I)
                pair = gain_I[named].sum() / base, gain_I[control].reshape(len(named), -1).mean(axis=1).sum() / base
                collected.setdefault(name, []).append((*pair, base))
    return [_row(name, np.array(found), seed=seed) for name, found in collected.items()]


def _row(name: str, found: np.ndarray, *, seed: int) -> dict[str, Any]:
    named_E, control_E, base_E = found.T
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(found), (_RESAMPLES, len(found)))
    differences = ((named_E - control_E) * base_E)[drawn].sum(axis=1) / base_E[drawn].sum(axis=1)
    low, high = np.quantile(differences, [0.025, 0.975])
    return {
        "system": name,
        "episodes": len(found),
        "takeover": float(np.average(named_E, weights=base_E)),
        "control": float(np.average(control_E, weights=base_E)),
        "difference": float(np.average(named_E - control_E, weights=base_E)),
        "low": float(low),
        "high": float(high),
    }


def _gains(world: World, *, item: int, week: int) -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
    """Lines per week that former customers of the item buy more than expected, of every item; and what was lost."""
    customer_U = np.zeros(world.num_users, dtype=bool)
    customer_U[world.user_N[(world.item_N == item) & (world.week_N < week - _BEFORE)]] = True
    ours_N = customer_U[world.user_N]
    before_N = (world.week_N >= week - _BEFORE) & (world.week_N < week)
    after_N = (world.week_N >= week) & (world.week_N < week + _AFTER)
    ours_before_I, others_before_I, ours_after_I, others_after_I = (
        np.bincount(world.item_N[mask_N], minlength=len(world.item_ids_I)) / weeks
        for mask_N, weeks in (
            (before_N & ours_N, _BEFORE),
            (before_N & ~ours_N, _BEFORE),
            (after_N & ours_N, _AFTER),
            (after_N & ~ours_N, _AFTER),
        )
    )
    activity = _ratio(ours_after_I.sum(), ours_before_I.sum()) / _ratio(others_after_I.sum(), others_before_I.sum())
    expected_I = ours_before_I * (others_after_I + 0.5) / (others_before_I + 0.5) * activity
    available_I = (others_after_I + ours_after_I > 0) & (np.arange(len(expected_I)) != item)
    return ours_after_I - expected_I, float(ours_before_I[item]), available_I, ours_before_I + others_before_I


def _ratio(after: float, before: float) -> float:
    return (after + 0.1) / (before + 0.1)


def _named(neighbours: ItemNeighbours, world: World, *, item: int, available_I: np.ndarray) -> np.ndarray:
    row_of = {item_id: row for row, item_id in enumerate(neighbours.item_ids_I.tolist())}
    row = row_of.get(world.item_ids_I[item])
    if row is None:
        return np.zeros(0, dtype=np.int64)
    ids = neighbours.item_ids_I[neighbours.item_IK[row][neighbours.item_IK[row] >= 0]]
    place = np.minimum(np.searchsorted(world.item_ids_I, ids), len(world.item_ids_I) - 1)
    place = place[world.item_ids_I[place] == ids]
    return place[available_I[place]][:_NAMED]


def _controls(
    world: World, named: np.ndarray, *, item: int, available_I: np.ndarray, level_I: np.ndarray
) -> np.ndarray:
    """For each named item the five others of the missing item's category that sold most nearly as much."""
    others_I = available_I.copy()
    others_I[named] = False
    pool = np.flatnonzero(others_I & (world.category_I == world.category_I[item]))
    pool = pool if len(pool) >= _NAMED else np.flatnonzero(others_I)
    distance = np.abs(np.log(level_I[pool] + 0.05) - np.log(level_I[named] + 0.05)[:, None])
    return pool[np.argsort(distance, axis=1, kind="stable")[:, :_NAMED]].ravel()


def _baskets_before(world: World, week: int) -> Baskets:
    baskets = make_baskets(world.log.orders, min_baskets=10)
    return baskets.keep((baskets.day_G - baskets.day_G.min()) // 7 < week)


def _like(baskets: Baskets, world: World) -> ItemNeighbours:
    return nearest_items(make_content(world.log.items).take(baskets.item_ids_I), k=30, among_I=baskets.num_I > 0)


def _substitutes(baskets: Baskets, world: World) -> ItemNeighbours:
    return find_substitutes(make_content(world.log.items), baskets, k=30)


def _popular(baskets: Baskets, world: World) -> ItemNeighbours:
    """The best sellers of the same category."""
    category_of = dict(
        zip(world.log.items["item_id"].to_pylist(), world.log.items["category_id"].to_pylist(), strict=True)
    )
    category_I = np.array([category_of.get(item) or "" for item in baskets.item_ids_I.tolist()])
    item_IK = np.full((len(category_I), 30), -1, dtype=np.int32)
    by_sales = np.argsort(-baskets.num_I, kind="stable")
    for category in np.unique(category_I).tolist():
        best = by_sales[category_I[by_sales] == category][:31]
        for item in np.flatnonzero(category_I == category).tolist():
            others = best[best != item][:30]
            item_IK[item, : len(others)] = others
    return ItemNeighbours(item_ids_I=baskets.item_ids_I, item_IK=item_IK, score_IK=np.zeros(item_IK.shape, np.float32))


def _together(baskets: Baskets, world: World) -> ItemNeighbours:
    """What is in the same baskets, by cosine: the neighbours that a recommender uses."""
    like = nearest_items(make_content(world.log.items).take(baskets.item_ids_I), k=30)
    matrix = baskets.matrix_GI()
    item_IK = np.full((len(baskets.item_ids_I), 30), -1, dtype=np.int32)
    scale_I = 1 / np.sqrt(np.maximum(baskets.num_I, 1))
    for start in range(0, len(item_IK), 512):
        block = (matrix[:, start : start + 512].T @ matrix).toarray() * scale_I
        block[np.arange(len(block)), np.arange(start, start + len(block))] = 0
        best = np.argsort(-block, axis=1, kind="stable")[:, :30]
        item_IK[start : start + 512, : best.shape[1]] = best
    return ItemNeighbours(item_ids_I=like.item_ids_I, item_IK=item_IK, score_IK=np.zeros(item_IK.shape, np.float32))


SYSTEMS: dict[str, Callable[[Baskets, World], ItemNeighbours]] = {
    "substitutes": _substitutes,
    "described alike": _like,
    "best sellers of the category": _popular,
    "bought together": _together,
}


if __name__ == "__main__":
    sys.exit(main())
