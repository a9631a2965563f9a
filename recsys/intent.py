"""How likely a visit ends in a purchase, after each of its events. Pure NumPy.

A case is a visit up to one of its events; the answer is whether something is bought later in the same visit. What a
case knows: how much was looked at, how much of it again, what is in the cart, how long the visit lasts and how fast it
goes, and the time of day. A logistic model is calibrated on what models without a fifth of the visits say of them.

Shapes: V visits, N events (all visits one after the other) = cases, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from cluster.schema import Col
from recsys.interactions import BEHAVIOURS, PURCHASE, IntArray
from recsys.probability import Logistic, Matrix, calibrated_by, fit_logistic

BoolArray = npt.NDArray[np.bool_]
_CART: Final = BEHAVIOURS.index("cart")
_CLICK: Final = BEHAVIOURS.index("click")
_FOLDS: Final = 5
MIN_CASES: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Visits:
    """Events of visits, visits by their start, events by time.

    Parameters
    ----------
    offset_V1
        Events of visit ``v`` are ``offset_V1[v]:offset_V1[v + 1]``.
    time_N
        Seconds since 1970 in UTC.
    item_N, behaviour_N
        Number of the item, position in :data:`recsys.interactions.BEHAVIOURS`.
    """

    offset_V1: IntArray
    time_N: Matrix
    item_N: IntArray
    behaviour_N: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.offset_V1) - 1

    @property
    def visit_N(self) -> IntArray:
        """Visit of each event."""
        return np.repeat(np.arange(len(self)), np.diff(self.offset_V1))

    def take(self, first: int, last: int) -> "Visits":
        """Visits ``first`` to ``last - 1``."""
        inside = slice(self.offset_V1[first], self.offset_V1[last])
        return Visits(
            offset_V1=self.offset_V1[first : last + 1] - self.offset_V1[first],
            time_N=self.time_N[inside],
            item_N=self.item_N[inside],
            behaviour_N=self.behaviour_N[inside],
        )


def make_visits(events: pa.Table) -> Visits:
    """Visits of a table of the schema ``EVENTS``: the rows that name a session, by time; equal rows count once."""
    codes = pl.DataFrame({Col.EVENT_TYPE: BEHAVIOURS}).with_columns(pl.int_range(pl.len(), dtype=pl.Int8).alias("code"))
    columns = [Col.SESSION_ID, Col.ITEM_ID, Col.OCCURRED_AT, Col.EVENT_TYPE]
    frame = (
        pl.DataFrame(pl.from_arrow(events.select(columns)))
        .drop_nulls([Col.SESSION_ID])
        .unique(columns)
        .join(codes, on=Col.EVENT_TYPE)
        .with_columns(
            pl.col(Col.OCCURRED_AT).min().over(Col.SESSION_ID).alias("start"),
            (pl.col(Col.OCCURRED_AT).dt.epoch("us") / 1e6).alias("time"),
            pl.col(Col.ITEM_ID).rank("dense").alias("item"),
        )
        # What is bought closes a visit: at equal times it comes last.
        .sort("start", Col.SESSION_ID, "time", "code", "item")
    )
    sizes = frame.group_by(Col.SESSION_ID, maintain_order=True).len()["len"].to_numpy().astype(np.int64)
    return Visits(
        offset_V1=np.concatenate([[0], np.cumsum(sizes)]),
        time_N=frame["time"].to_numpy(),
        item_N=frame["item"].to_numpy().astype(np.int64),
        behaviour_N=frame["code"].to_numpy(),
    )


def probability_of(model: Logistic, events: Sequence[tuple[str, str, float]]) -> float:
    """Chance that a visit of these events ends in a purchase: item, what was done, seconds since 1970; in any order."""
    ordered = sorted(events, key=lambda event: event[2])
    number_of = {item: number for number, item in enumerate(dict.fromkeys(event[0] for event in ordered))}
    visit = Visits(
        offset_V1=np.array([0, len(ordered)]),
        time_N=np.array([event[2] for event in ordered]),
        item_N=np.array([number_of[event[0]] for event in ordered]),
        behaviour_N=np.array([BEHAVIOURS.index(event[1]) for event in ordered], dtype=np.int8),
    )
    return float(model.probability_N(features_NF(visit))[-1])


def features_NF(visits: Visits) -> Matrix:
    """What is known after each event of its visit; nothing of what comes later."""
    start_N = visits.offset_V1[visits.visit_N]
    seen_N = np.arange(len(visits.time_N)) - start_N + 1.0
    again_N = is_again_N(visits)
    carts_N, clicks_N, again_so_far_N, bought_N = (
        _so_far(mask_N, start_N=start_N)
        for mask_N in (
            visits.behaviour_N == _CART,
            visits.behaviour_N == _CLICK,
            again_N,
            visits.behaviour_N == PURCHASE,
        )
    )
    since_start_N = visits.time_N - visits.time_N[np.minimum(start_N, max(len(visits.time_N) - 1, 0))]
    pause_N = np.where(seen_N > 1, np.diff(visits.time_N, prepend=visits.time_N[:1]), 0.0)
    hour_N = visits.time_N % 86_400 / 86_400 * 2 * np.pi
    weekend_N = (visits.time_N // 86_400 + 3) % 7 >= 5  # 1970 began on a Thursday
    return np.column_stack(
        [
            np.log(seen_N),
            np.log(seen_N) ** 2,
            again_so_far_N / seen_N,
            np.log1p(again_so_far_N),
            again_N,
            np.log1p(carts_N),
            carts_N > 0,
            visits.behaviour_N == _CART,
            clicks_N / seen_N,
            bought_N > 0,
            np.log1p(since_start_N),
            np.log1p(np.maximum(pause_N, 0)),
            seen_N == 1,
            np.sin(hour_N),
            np.cos(hour_N),
            weekend_N,
        ]
    ).astype(np.float64)


def ends_in_N(visits: Visits, goal_N: BoolArray) -> BoolArray:
    """Whether a goal follows each event later in its visit."""
    total_N = np.concatenate([[0], np.cumsum(goal_N)])
    return np.asarray(total_N[visits.offset_V1[visits.visit_N + 1]] > total_N[np.arange(len(goal_N)) + 1])


def fit_intent(visits: Visits, *, goal_N: BoolArray | None = None) -> Logistic | None:
    """Learn the chance that a purchase follows; None where there are too few visits with and without one.

    Parameters
    ----------
    goal_N
        Events that count as the goal instead of purchases.
    """
    goal_N = visits.behaviour_N == PURCHASE if goal_N is None else goal_N
    yes_N = ends_in_N(visits, goal_N)
    feature_NF = features_NF(visits)
    if min(yes_N.sum(), (~yes_N).sum()) < MIN_CASES / 2:
        return None
    odds_N = np.zeros(len(yes_N))
    bounds = visits.offset_V1[np.linspace(0, len(visits), _FOLDS + 1).astype(np.int64)]
    for first, last in pairwise(bounds.tolist()):
        others_N = np.ones(len(yes_N), dtype=bool)
        others_N[first:last] = False
        odds_N[first:last] = fit_logistic(feature_NF[others_N], yes_N[others_N]).log_odds_N(feature_NF[first:last])
    return calibrated_by(fit_logistic(feature_NF, yes_N), odds_N=odds_N, yes_N=yes_N)


def _so_far(mask_N: BoolArray, *, start_N: IntArray) -> Matrix:
    total_N = np.concatenate([[0], np.cumsum(mask_N)])
    return (total_N[1:] - total_N[start_N]).astype(np.float64)


def is_again_N(visits: Visits) -> BoolArray:
    """Whether an event's item was dealt with earlier in the visit."""
    key_N = visits.visit_N * (int(visits.item_N.max(initial=0)) + 1) + visits.item_N
    _, first = np.unique(key_N, return_index=True)
    again_N = np.ones(len(key_N), dtype=bool)
    again_N[first] = False
    return again_N
