"""Sequences of fixed length for the sequence model: windows with targets to train on, last events to predict from.

Shapes: W windows, L events in a window, M targets per event, U users, E events, G baskets.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys.interactions import DAY_SECONDS, PURCHASE, IntArray, Interactions

Batch = dict[str, npt.NDArray[Any]]
NO_ITEM = -1
NUM_GAPS = 12


def gap_codes_E(interactions: Interactions) -> npt.NDArray[np.int8]:
    """Class of the time since the user's previous event: 0 for none, then doubling from an hour to months."""
    seconds = np.diff(interactions.time_E, prepend=interactions.time_E[:1])
    starts = interactions.offset_U1[:-1]
    seconds[starts[starts < len(seconds)]] = 0
    return np.minimum(np.ceil(np.log2(1 + seconds * 24 / DAY_SECONDS)), NUM_GAPS - 1).astype(np.int8)


def user_table(interactions: Interactions, *, seed: int) -> pa.Table:
    """One row per user with events, list columns in time order, users shuffled once; what Ray Data streams."""
    rows = np.flatnonzero(np.diff(interactions.offset_U1) > 0)
    picked = interactions.take(np.random.default_rng(seed).permutation(rows))
    offset = picked.offset_U1.astype(np.int32)
    columns = {
        "item": picked.item_E,
        "behaviour": picked.behaviour_E,
        "basket": picked.basket_E,
        "gap": gap_codes_E(picked),
    }
    return pa.table({name: pa.ListArray.from_arrays(offset, values) for name, values in columns.items()})


def make_windows(
    users: pa.Table, *, length: int, windows_per_user: int, num_targets: int, purchases_only: bool, seed: int
) -> Batch:
    """Cut the latest windows of each user and draw, for every event, items of the basket that comes next.

    Items of one basket have no order, so an event's target is any item of the user's next basket: with single-item
    baskets that is the next item. Events of the last basket have none and are context of nothing.

    Parameters
    ----------
    users
        Rows of :func:`user_table`.
    windows_per_user
        At most this many windows of ``length`` events, counted back from the last event that has a target.
    num_targets
        Items drawn per event, with replacement.
    purchases_only
        Whether only baskets of purchases are targets.

    Returns
    -------
    ``item_WL``, ``behaviour_WL``, ``gap_WL`` and ``target_WLM``, windows shuffled; -1 where there is no item.
    """
    columns, offset_U1 = _flat(users)
    first_E, size_E = _next_basket(columns, offset_U1, purchases_only=purchases_only)
    start_W, length_W = _tiles(offset_U1, has_target_E=size_E > 0, length=length, windows_per_user=windows_per_user)
    # Blocks of users are cut apart from each other: their items make their draws differ.
    rng = np.random.default_rng([seed, len(columns["item"]), int(columns["item"].sum(dtype=np.int64))])
    pick_WL = rng.permutation(_spans(start_W, length_W, length=length))
    draw = rng.random((*pick_WL.shape, num_targets))
    target_WLM = first_E[pick_WL][..., None] + (draw * size_E[pick_WL][..., None]).astype(np.int64)
    real_WLM = np.broadcast_to(((pick_WL >= 0) & (size_E[pick_WL] > 0))[..., None], target_WLM.shape)
    target_WLM = np.where(real_WLM, columns["item"][np.where(real_WLM, target_WLM, 0)], NO_ITEM)
    return _gather(columns, pick_WL) | {"target_WLM": target_WLM.astype(np.int32)}


def count_windows(users: pa.Table, *, length: int, windows_per_user: int, purchases_only: bool) -> int:
    """Number of windows that :func:`make_windows` cuts from these users."""
    columns, offset_U1 = _flat(users)
    size_E = _next_basket(columns, offset_U1, purchases_only=purchases_only)[1]
    return len(_tiles(offset_U1, has_target_E=size_E > 0, length=length, windows_per_user=windows_per_user)[0])


def last_events(interactions: Interactions, *, length: int) -> Batch:
    """Last ``length`` events of each user, left-aligned: ``item_WL``, ``behaviour_WL``, ``gap_WL``, ``length_W``."""
    end_U = interactions.offset_U1[1:]
    length_U = np.minimum(np.diff(interactions.offset_U1), length)
    columns: Batch = {
        "item": interactions.item_E,
        "behaviour": interactions.behaviour_E,
        "gap": gap_codes_E(interactions),
    }
    return _gather(columns, _spans(end_U - length_U, length_U, length=length)) | {"length_W": length_U}


def _flat(users: pa.Table) -> tuple[Batch, IntArray]:
    columns: Batch = {}
    offset = np.zeros(1, np.int64)
    for name in ("item", "behaviour", "basket", "gap"):
        values = users.column(name).combine_chunks()
        offset = np.concatenate([[0], np.cumsum(values.value_lengths().to_numpy())]).astype(np.int64)
        columns[name] = values.flatten().to_numpy()
    return columns, offset


def _next_basket(columns: Batch, offset_U1: IntArray, *, purchases_only: bool) -> tuple[IntArray, IntArray]:
    """First event and number of events of the basket to come after each event; number 0 where there is none."""
    num_events = len(columns["item"])
    user_E = np.repeat(np.arange(len(offset_U1) - 1), np.diff(offset_U1))
    start_E = (np.diff(columns["basket"], prepend=-1) != 0) | (np.diff(user_E, prepend=-1) != 0)
    basket_E = np.cumsum(start_E) - 1
    first_G = np.flatnonzero(start_E)
    num_baskets = len(first_G)
    size_G = np.diff(first_G, append=num_events)
    wanted_G = columns["behaviour"][first_G] == PURCHASE if purchases_only else np.ones(num_baskets, bool)
    # Nearest wanted basket at or after each one, found from the end.
    nearest_G = np.where(wanted_G, np.arange(num_baskets), num_baskets)
    nearest_G = np.append(np.minimum.accumulate(nearest_G[::-1])[::-1], num_baskets)
    next_E = nearest_G[basket_E + 1]
    ends = np.append(first_G, num_events)[next_E]
    same_user_E = (next_E < num_baskets) & (np.append(user_E, -1)[ends] == user_E)
    return np.where(same_user_E, ends, 0), np.where(same_user_E, np.append(size_G, 0)[next_E], 0)


def _tiles(
    offset_U1: IntArray, *, has_target_E: npt.NDArray[np.bool_], length: int, windows_per_user: int
) -> tuple[IntArray, IntArray]:
    """First event and number of events of each window."""
    user_E = np.repeat(np.arange(len(offset_U1) - 1), np.diff(offset_U1))
    end_U = offset_U1[:-1].copy()
    labelled = np.flatnonzero(has_target_E)
    end_U[user_E[labelled]] = labelled + 1
    count_U = np.minimum(-(-(end_U - offset_U1[:-1]) // length), windows_per_user)
    user_W = np.repeat(np.arange(len(count_U)), count_U)
    back_W = np.arange(len(user_W)) - np.repeat(np.cumsum(count_U) - count_U, count_U)
    end_W = end_U[user_W] - back_W * length
    start_W = np.maximum(end_W - length, offset_U1[user_W])
    return start_W, end_W - start_W


def _spans(start_W: IntArray, length_W: IntArray, *, length: int) -> IntArray:
    step_L = np.arange(length)
    return np.where(step_L < length_W[:, None], start_W[:, None] + step_L, NO_ITEM)


def _gather(columns: Batch, pick_WL: IntArray) -> Batch:
    real_WL = pick_WL >= 0
    index_WL = np.where(real_WL, pick_WL, 0)
    batch: Batch = {"item_WL": np.full(pick_WL.shape, NO_ITEM, dtype=np.int32)}
    batch["item_WL"][real_WL] = columns["item"][index_WL[real_WL]]
    for name in ("behaviour", "gap"):
        code_WL = np.zeros(pick_WL.shape, dtype=np.int8)
        code_WL[real_WL] = columns[name][index_WL[real_WL]]
        batch[f"{name}_WL"] = code_WL
    return batch
