"""When a user will buy an item again: learned intervals, and the chance that it is due. Pure NumPy.

A pair is a user and an item that the user has bought. Its usual interval is the geometric mean of its own intervals,
drawn towards that of the item's other buyers. How far the pair is into that interval, how often and how lately it was
bought and how often the user shops at all give the chance that it is bought within the next days: a logistic model,
learned on what users did after earlier days and calibrated on later ones.

Shapes: I items, N pairs, F features, C categories.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from recsys.interactions import DAY_SECONDS, PURCHASE, IntArray, Interactions, StrArray
from recsys.probability import Logistic, Matrix, calibrated, fit_logistic

HORIZON_DAYS: Final = 7
_CUTS: Final = 4
_MAX_USERS: Final = 800
_HALF_LIVES: Final = (14.0, 45.0, 150.0)
_PRIOR_BUYERS: Final = 20.0
_PRIOR_GAPS: Final = 1.0
_FOLLOW_DAYS: Final = 120
_TRIP_DAYS: Final = 56


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Users and the items that they bought, with what is known of them at one instant.

    Parameters
    ----------
    user_N, item_N
        Rows of the histories.
    feature_NF
        For the logistic model.
    interval_days_N
        Usual days between two purchases.
    days_since_N
        Days since the last one.
    """

    user_N: IntArray
    item_N: IntArray
    feature_NF: Matrix
    interval_days_N: Matrix
    days_since_N: Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatModel:
    """What was learned of repeat purchases.

    Parameters
    ----------
    rate_I
        Chance that somebody who bought the item once buys it again within 120 days, drawn towards its category's.
    interval_days_I
        Usual days between two purchases by one user.
    logistic
        Chance that a pair is bought within ``horizon_days``; None where no history was long enough to learn it.
    """

    item_ids_I: StrArray
    rate_I: Matrix
    interval_days_I: Matrix
    horizon_days: int
    logistic: Logistic | None

    def pairs(self, histories: Interactions) -> Pairs:
        """Every user and item that the user bought, as of each user's ``now``; items must be those of the model."""
        return _pairs(histories, rate_I=self.rate_I, interval_days_I=self.interval_days_I)

    def due_N(self, pairs: Pairs) -> Matrix:
        """Chance that each pair is bought within ``horizon_days``."""
        if self.logistic is None:
            return np.asarray(1 - np.exp(-self.horizon_days / pairs.interval_days_N))
        return self.logistic.probability_N(pairs.feature_NF)

    def is_durable_I(self, *, min_rate: float) -> npt.NDArray[np.bool_]:
        """Items that hardly anybody buys twice."""
        return np.asarray(self.rate_I < min_rate)

    def to_config(self) -> dict[str, Any]:
        """Parameters, as JSON can write them."""
        learned = None if self.logistic is None else self.logistic.to_config()
        return {"horizon_days": self.horizon_days, "logistic": learned}


def fit_repeat(
    interactions: Interactions, *, category_ids_I: StrArray, horizon_days: int = HORIZON_DAYS, seed: int = 0
) -> RepeatModel:
    """Learn rates, intervals and the chance that a pair is due, from what happened before each user's ``now``.

    Parameters
    ----------
    category_ids_I
        Category of each item: what little is known of an item is completed by its category.
    """
    now = int(interactions.now_U.max())
    rate_I, interval_I = _rates(interactions, category_ids_I=category_ids_I)
    start = RepeatModel(
        item_ids_I=interactions.item_ids_I,
        rate_I=rate_I,
        interval_days_I=interval_I,
        horizon_days=horizon_days,
        logistic=None,
    )
    step = horizon_days * DAY_SECONDS
    earliest = int(interactions.time_E.min()) + 4 * step if interactions.num_events else now
    cuts = [now - step * back for back in range(_CUTS, 0, -1) if now - step * back >= earliest]
    if len(cuts) < 2:
        return start
    users = np.arange(interactions.num_users)
    if len(users) > _MAX_USERS:
        users = np.sort(np.random.default_rng(seed).choice(users, size=_MAX_USERS, replace=False))
    some = interactions.take(users)
    cases = [_cases(start, some, cut=cut, category_ids_I=category_ids_I) for cut in cuts]
    features, labels = (np.concatenate(column) for column in zip(*cases[:-1], strict=True))
    if not 0 < labels.sum() < len(labels):
        return start
    logistic = calibrated(fit_logistic(features, labels), *cases[-1])
    return RepeatModel(
        item_ids_I=start.item_ids_I,
        rate_I=rate_I,
        interval_days_I=interval_I,
        horizon_days=horizon_days,
        logistic=logistic,
    )


def bought_again_N(pairs: Pairs, interactions: Interactions, *, cut: int, horizon_days: int) -> npt.NDArray[np.bool_]:
    """Whether each pair was bought in the days from ``cut`` (seconds) on."""
    inside_E = (interactions.time_E >= cut) & (interactions.time_E < cut + horizon_days * DAY_SECONDS)
    inside_E &= interactions.behaviour_E == PURCHASE
    width = interactions.num_items
    told = interactions.user_E[inside_E] * width + interactions.item_E[inside_E]
    return np.isin(pairs.user_N * width + pairs.item_N, told)


def _cases(
    model: RepeatModel, interactions: Interactions, *, cut: int, category_ids_I: StrArray
) -> tuple[Matrix, npt.NDArray[np.bool_]]:
    """Features of all pairs as of a cut, and whether they were bought after it; rates are those known then."""
    before = interactions.before(cut)
    rate_I, interval_I = _rates(before, category_ids_I=category_ids_I)
    pairs = _pairs(before, rate_I=rate_I, interval_days_I=interval_I)
    return pairs.feature_NF, bought_again_N(pairs, interactions, cut=cut, horizon_days=model.horizon_days)


def _purchase_days(interactions: Interactions) -> tuple[IntArray, IntArray, IntArray]:
    """User, item and day of each purchase, once a day, in this order."""
    bought_E = interactions.behaviour_E == PURCHASE
    user_E, item_E = interactions.user_E[bought_E], interactions.item_E[bought_E].astype(np.int64)
    # One number per row: NumPy sorts numbers twenty times as fast as rows.
    day_E = interactions.time_E[bought_E] // DAY_SECONDS
    span = int(day_E.max(initial=0)) + 1
    key = np.unique((user_E * interactions.num_items + item_E) * span + day_E)
    pair, day_N = key // span, key % span
    return pair // interactions.num_items, pair % interactions.num_items, day_N


def _rates(interactions: Interactions, *, category_ids_I: StrArray) -> tuple[Matrix, Matrix]:
    """Chance of a second purchase, and usual days between two, per item; both drawn towards the category, then all."""
    user_N, item_N, day_N = _purchase_days(interactions)
    num_items = interactions.num_items
    first_N = np.ones(len(user_N), dtype=bool)
    first_N[1:] = (np.diff(user_N) != 0) | (np.diff(item_N) != 0)
    gap_N = np.where(first_N[1:], 0, np.diff(day_N)) if len(day_N) else np.zeros(0)
    again_N = np.zeros(len(user_N), dtype=bool)
    again_N[:-1] = (gap_N > 0) & (gap_N <= _FOLLOW_DAYS)
    today = int(interactions.now_U.max(initial=0)) // DAY_SECONDS
    # Who bought it lately may still come back: only buyers who were followed long enough, or did come back, count.
    counts_N = first_N & (
        again_N | (today - day_N >= min(_FOLLOW_DAYS, max((today - day_N.min(initial=today)) // 2, 1)))
    )
    _, category_I = np.unique(category_ids_I, return_inverse=True)
    buyers_I = np.bincount(item_N[counts_N], minlength=num_items).astype(np.float64)
    again_I = np.bincount(item_N[counts_N & again_N], minlength=num_items).astype(np.float64)
    rate_I = _drawn(again_I, buyers_I, category_I=category_I, prior=_PRIOR_BUYERS)
    is_gap = ~first_N[1:]
    log_gap = np.log(np.maximum(gap_N[is_gap], 1))
    sums_I = np.bincount(item_N[1:][is_gap], log_gap, minlength=num_items)
    nums_I = np.bincount(item_N[1:][is_gap], minlength=num_items).astype(np.float64)
    start = np.log(30.0)
    interval_I = np.exp(start + _drawn(sums_I - start * nums_I, nums_I, category_I=category_I, prior=5.0))
    return rate_I, interval_I


def _drawn(sum_I: Matrix, num_I: Matrix, *, category_I: IntArray, prior: float) -> Matrix:
    """Means, drawn towards those of the category as if ``prior`` cases more had been seen there, and it towards all."""
    overall = sum_I.sum() / max(num_I.sum(), 1.0)
    sum_C, num_C = np.bincount(category_I, sum_I), np.bincount(category_I, num_I)
    mean_C = (sum_C + prior * overall) / (num_C + prior)
    return np.asarray((sum_I + prior * mean_C[category_I]) / (num_I + prior))


def _pairs(histories: Interactions, *, rate_I: Matrix, interval_days_I: Matrix) -> Pairs:
    user_N, item_N, day_N = _purchase_days(histories)
    width = histories.num_items
    key_N = user_N * width + item_N
    first = np.flatnonzero(np.diff(key_N, prepend=-1) != 0)
    count_P = np.diff(np.append(first, len(key_N)))
    user_P, item_P = user_N[first], item_N[first]
    today_U = histories.now_U // DAY_SECONDS
    first_day_P, last_day_P = day_N[first], day_N[first + count_P - 1]
    since_P = np.maximum(today_U[user_P] - last_day_P, 0).astype(np.float64)
    own_P = np.log(np.maximum(last_day_P - first_day_P, 1) / np.maximum(count_P - 1, 1))
    gaps_P = count_P - 1.0
    log_interval_P = (_PRIOR_GAPS * np.log(interval_days_I[item_P]) + gaps_P * own_P) / (_PRIOR_GAPS + gaps_P)
    age_N = np.maximum(today_U[user_N] - day_N, 0)
    decayed = [np.add.reduceat(np.exp2(-age_N / life), first) if len(first) else np.zeros(0) for life in _HALF_LIVES]
    trips_P = _trips_per_day_U(histories)[user_P]
    feature_PF = _features(
        count_P=count_P,
        since_P=since_P,
        log_interval_P=log_interval_P,
        decayed=decayed,
        trips_P=trips_P,
        rate_P=rate_I[item_P],
    )
    return Pairs(
        user_N=user_P,
        item_N=item_P,
        feature_NF=feature_PF,
        interval_days_N=np.exp(log_interval_P),
        days_since_N=since_P,
    )


def _features(
    *,
    count_P: IntArray,
    since_P: Matrix,
    log_interval_P: Matrix,
    decayed: list[Matrix],
    trips_P: Matrix,
    rate_P: Matrix,
) -> Matrix:
    """How far into its interval a pair is (as hinges, since due is neither early nor late), how often, how lately."""
    into_P = np.log1p(since_P) - np.log1p(np.exp(log_interval_P))
    hinges = [np.maximum(into_P - knot, 0.0) for knot in (-1.5, -0.7, 0.0, 0.7)]
    often_P = np.log(count_P)
    columns = [into_P, *hinges, often_P, often_P * into_P, log_interval_P, np.log1p(since_P), rate_P]
    columns += [np.log(value + 0.01) for value in decayed]
    return np.column_stack([*columns, np.log(trips_P + 0.01), often_P * rate_P])


def _trips_per_day_U(histories: Interactions) -> Matrix:
    """Days with a purchase per day, the last eight weeks counting."""
    today_U = histories.now_U // DAY_SECONDS
    bought_E = histories.behaviour_E == PURCHASE
    day_E = histories.time_E[bought_E] // DAY_SECONDS
    span = int(day_E.max(initial=0)) + 1
    key = np.unique(histories.user_E[bought_E] * span + day_E)
    lately = today_U[key // span] - key % span <= _TRIP_DAYS
    return np.bincount(key[lately] // span, minlength=histories.num_users) / float(_TRIP_DAYS)


def load_repeat(
    config: dict[str, Any], *, item_ids_I: StrArray, rate_I: Matrix, interval_days_I: Matrix
) -> RepeatModel:
    """Model from the arrays and what :meth:`RepeatModel.to_config` wrote."""
    learned = config["logistic"]
    return RepeatModel(
        item_ids_I=item_ids_I,
        rate_I=rate_I,
        interval_days_I=interval_days_I,
        horizon_days=config["horizon_days"],
        logistic=None if learned is None else Logistic.from_config(learned),
    )
