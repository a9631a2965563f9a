"""What is hidden from a model to judge it: each protocol returns the history that it may see and the items to find.

Shapes: U users, V users who have something to find, N items to find (all users one after the other).
"""

from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.errors import DataError
from recsys.interactions import (
    DAY_SECONDS,
    PURCHASE,
    IntArray,
    Interactions,
    RowArray,
    index_behaviour,
    read_behaviour,
    seconds_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdout:
    """History up to a moment, and what its users took after it.

    Parameters
    ----------
    history
        All users, also those with nothing to find: models train on it.
    user_V
        Rows in ``history`` of the users who have something to find.
    target_N, offset_V1
        Items of user ``v`` are ``target_N[offset_V1[v]:offset_V1[v + 1]]``, each once.
    """

    history: Interactions
    user_V: IntArray
    target_N: RowArray
    offset_V1: IntArray

    def __len__(self) -> int:
        return len(self.user_V)

    @property
    def size_V(self) -> IntArray:
        """Items to find per user."""
        return np.diff(self.offset_V1)

    def sample(self, limit: int) -> "Holdout":
        """At most ``limit`` users, evenly spaced, to bound the work of a search."""
        if len(self) <= limit:
            return self
        rows = np.linspace(0, len(self) - 1, limit).astype(np.int64)
        size = self.size_V[rows]
        offset = np.concatenate([[0], np.cumsum(size)])
        picked = np.repeat(self.offset_V1[rows] - offset[:-1], size) + np.arange(offset[-1])
        return Holdout(history=self.history, user_V=self.user_V[rows], target_N=self.target_N[picked], offset_V1=offset)


def hold_out_next_basket(interactions: Interactions, *, cut: int) -> Holdout:
    """First basket of each user at or after ``cut`` (seconds); repeats count, as a grocer would count them."""
    later_E = (interactions.time_E >= cut) & _wanted_E(interactions)
    return _make(interactions.before(cut), interactions, later_E & _first_basket_E(interactions, later_E))


def hold_out_days(interactions: Interactions, *, cut: int, days: int) -> Holdout:
    """Everything that each user took in the ``days`` from ``cut`` (seconds) on."""
    time_E = interactions.time_E
    inside_E = (time_E >= cut) & (time_E < cut + days * DAY_SECONDS) & _wanted_E(interactions)
    return _make(interactions.before(cut), interactions, inside_E)


def hold_out_last_basket(interactions: Interactions) -> Holdout:
    """Last basket (or event) of each user who has an earlier one; the rest of the history is seen.

    For logs without usable instants. Users differ in when they are judged, so popularity may know the future of others.
    """
    last = interactions.basket_E[np.maximum(interactions.offset_U1[1:] - 1, 0)]
    first = interactions.basket_E[np.minimum(interactions.offset_U1[:-1], interactions.num_events - 1)]
    hidden_E = (interactions.basket_E == last[interactions.user_E]) & (last != first)[interactions.user_E]
    history = interactions.keep(~hidden_E)
    return _make(history, interactions, hidden_E)


def hold_out_tables(
    history: Interactions,
    orders: pa.Table,
    events: pa.Table | None = None,
    *,
    since: date | datetime,
    until: date | datetime,
    days: int | None = None,
) -> Holdout:
    """Next basket (or everything within ``days``) from ``since`` on, read from the tables for the users of ``history``.

    Users and items that the history does not know are left out: there is nothing personal to judge.

    Raises
    ------
    DataError
        If no known user took a known item in that time.
    """
    cut = seconds_of(since)
    frame = read_behaviour(orders, events, since=cut, until=seconds_of(until))
    later = index_behaviour(frame, item_ids=history.item_ids_I, now=seconds_of(until))
    later = later.keep((history.user_rows(later.user_ids_U) >= 0)[later.user_E])
    wanted_E = _wanted_E(later)
    chosen_E = _first_basket_E(later, wanted_E) if days is None else later.time_E < cut + days * DAY_SECONDS
    if not (chosen_E & wanted_E).any():
        raise DataError(f"no user known before {since} took a known item until {until}; choose an earlier date")
    user_E, item_E = later.user_E[chosen_E & wanted_E], later.item_E[chosen_E & wanted_E]
    return _group(history.before(cut), history.user_rows(later.user_ids_U)[user_E], item_E)


def _wanted_E(interactions: Interactions) -> npt.NDArray[np.bool_]:
    """Purchases are what is to be found; in a log that has none, every event."""
    bought_E = interactions.behaviour_E == PURCHASE
    return bought_E if bought_E.any() else np.ones_like(bought_E)


def _first_basket_E(interactions: Interactions, among_E: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    user_E, basket_E = interactions.user_E, interactions.basket_E
    first_U = np.full(interactions.num_users, -1, dtype=np.int64)
    found = np.flatnonzero(among_E)[::-1]
    first_U[user_E[found]] = basket_E[found]
    return among_E & (basket_E == first_U[user_E])


def _make(history: Interactions, whole: Interactions, hidden_E: npt.NDArray[np.bool_]) -> Holdout:
    return _group(history, whole.user_E[hidden_E], whole.item_E[hidden_E])


def _group(history: Interactions, user_N: IntArray, item_N: RowArray) -> Holdout:
    """Sort and count the pairs; users without history have nothing to be judged by."""
    seen = (np.diff(history.offset_U1) > 0)[user_N]
    pairs = np.unique(np.stack([user_N[seen], item_N[seen]], axis=1), axis=0)
    users, counts = np.unique(pairs[:, 0], return_counts=True)
    return Holdout(
        history=history,
        user_V=users.astype(np.int64),
        target_N=pairs[:, 1].astype(np.int32),
        offset_V1=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )
