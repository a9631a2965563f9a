"""Habits: how likely what a user took before is taken again next, learned from how often, how regularly and how lately.

Personal frequency with the decay learned instead of given, and the item's repeat cycle read beside it. A small network
rates each item of a history. It learns what it will be asked for: from every user's own last baskets where baskets
follow each other, from what users took after earlier days where a calendar does, each time from what lay before.

Shapes: U users, I items, E events, G baskets, N pairs of a user and an item of the history, F features.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import nn

from recsys.holdout import Holdout, hold_out_days, hold_out_next_basket
from recsys.interactions import DAY_SECONDS, IntArray, Interactions
from recsys.metrics import ScoreArray
from recsys.models.matrices import user_matrix
from recsys.models.protocol import Arrays, like_JI
from recsys.models.weights import event_weight_E

FeatureArray = npt.NDArray[np.float32]
_HALF_LIVES_BASKETS: Final = (2.0, 8.0, 32.0)
_HALF_LIVES_DAYS: Final = (14.0, 60.0, 240.0)
_LATELY_DAYS: Final = 28
_CUTS: Final = 8
_DAYS_BETWEEN_CUTS: Final = 7
_STEP_PAIRS: Final = 4_096
_WIDTH: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class HabitModel:
    """Chance that an item of the history is taken next; 0 for what the user never took.

    Parameters
    ----------
    target
        What "next" is: the basket after a history, whenever it comes ("last-basket": each user's last ones are learned
        from); or, seen from a day, the first basket from then on, or all that is taken in ``target_days``.
    targets_per_user
        Last baskets of each user that are learned from with "last-basket".
    max_pairs
        Pairs of a user and an item learned from, at most.
    item_IF
        Of each item: share of its users who took it more than once, log of how many took it; and, where a calendar
        asks, log of how often it was taken in the last one and four weeks, and of the latter over sixteen weeks.
    """

    kind: ClassVar[str] = "habits"
    target: Literal["last-basket", "next-basket", "next-days"] = "last-basket"
    target_days: int = 7
    targets_per_user: int = 4
    max_pairs: int = 2_000_000
    epochs: int = 4
    seed: int = 0
    item_IF: ScoreArray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    vector_ID: ScoreArray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    weights: Arrays = field(default_factory=dict)

    def fit(self, interactions: Interactions) -> Self:
        """Learn from what all users took after earlier moments."""
        parts = list(self._examples(interactions))
        feature_NF = np.concatenate([part[0] for part in parts])
        taken_N = np.concatenate([part[1] for part in parts])
        kept = np.random.default_rng(self.seed).permutation(len(taken_N))[: self.max_pairs]
        weights = _train(feature_NF[kept], taken_N[kept], epochs=self.epochs, seed=self.seed)
        code_UD = np.random.default_rng(self.seed).standard_normal((interactions.num_users, 64), dtype=np.float32)
        vector_ID = _taken(interactions).sign().T @ code_UD
        return replace(self._knowing(interactions), weights=weights, vector_ID=vector_ID)

    def score_UI(self, histories: Interactions) -> ScoreArray:
        """Chance of each item of the history."""
        user_N, item_N, feature_NF = self._features(histories)
        chance_N = _rate(self.weights, feature_NF)
        shape = (histories.num_users, histories.num_items)
        return sparse.csr_array((chance_N, (user_N, item_N)), shape=shape).toarray()

    def similar_JI(self, item_J: IntArray) -> ScoreArray:
        """Items that the same users take."""
        return like_JI(self.vector_ID, item_J)

    def to_config(self) -> dict[str, Any]:
        """Parameters."""
        names = ("target", "target_days", "targets_per_user", "max_pairs", "epochs", "seed")
        return {name: getattr(self, name) for name in names}

    def arrays(self) -> Arrays:
        """What is known of items, and the network."""
        items = {name: getattr(self, name) for name in ("item_IF", "vector_ID")}
        return items | {f"network.{name}": values for name, values in self.weights.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any], *, arrays: Arrays) -> Self:
        """Model with these parameters and arrays."""
        weights = {name.removeprefix("network."): values for name, values in arrays.items() if "network." in name}
        return cls(
            **config,
            item_IF=arrays["item_IF"],
            vector_ID=arrays["vector_ID"],
            weights=weights,
        )

    def _knowing(self, interactions: Interactions) -> Self:
        """The same model, with what these histories say of items: all that a pair's features need."""
        taken_UI = _taken(interactions)
        users_I = np.bincount(taken_UI.indices, minlength=interactions.num_items)
        again_I = np.bincount(taken_UI.indices[taken_UI.data > 1], minlength=interactions.num_items)
        columns = [(again_I + 1) / (users_I + 10), np.log1p(users_I)]
        if self.target != "last-basket":
            columns += _lately(interactions)
        return replace(self, item_IF=np.stack(columns, axis=1).astype(np.float32))

    def _examples(self, interactions: Interactions) -> Iterator[tuple[FeatureArray, npt.NDArray[np.bool_]]]:
        """Features of histories at earlier moments, and what was taken after each."""
        if self.target == "last-basket":
            model = self._knowing(interactions)
            yield from (model._before_basket(interactions, back=back + 1) for back in range(self.targets_per_user))
            return
        latest, days = int(interactions.now_U.max(initial=0)), self.target_days
        earliest = int(interactions.time_E.min(initial=latest)) + days * DAY_SECONDS
        cuts = [latest - (days + _DAYS_BETWEEN_CUTS * back) * DAY_SECONDS for back in range(_CUTS)]
        # The latest day is learned from however little lies before it: a model must have seen some example.
        for cut in cuts[:1] + [cut for cut in cuts[1:] if cut >= earliest]:
            hidden = (
                hold_out_days(interactions, cut=cut, days=days)
                if self.target == "next-days"
                else hold_out_next_basket(interactions, cut=cut)
            )
            yield self._knowing(hidden.history)._after(hidden)

    def _after(self, hidden: Holdout) -> tuple[FeatureArray, npt.NDArray[np.bool_]]:
        """Features of the histories of users who took something, and whether that was it."""
        user_N, item_N, feature_NF = self._features(hidden.history.take(hidden.user_V))
        width = hidden.history.num_items
        wanted = np.repeat(np.arange(len(hidden)), hidden.size_V) * width + hidden.target_N
        return feature_NF, np.isin(user_N * width + item_N, wanted)

    def _before_basket(self, interactions: Interactions, *, back: int) -> tuple[FeatureArray, npt.NDArray[np.bool_]]:
        """Features of the history before each user's ``back``-th last basket, and whether that one has the item."""
        place_E = _places_E(interactions)
        last_U = np.full(interactions.num_users, -1)
        last_U[interactions.user_E] = place_E  # the last event of a user is written last
        target_E = place_E == (last_U - back + 1)[interactions.user_E]
        before = interactions.keep(
            (place_E < (last_U - back + 1)[interactions.user_E]) & (last_U >= back)[interactions.user_E]
        )
        user_N, item_N, feature_NF = self._features(before)
        width = interactions.num_items
        wanted = interactions.user_E[target_E] * width + interactions.item_E[target_E]
        return feature_NF, np.isin(user_N * width + item_N, wanted)

    def _features(self, histories: Interactions) -> tuple[IntArray, IntArray, FeatureArray]:
        """User, item and features of each pair in the histories."""
        kept = histories.keep(event_weight_E(histories) > 0)
        place_E = _places_E(kept)
        user_E = kept.user_E
        key_N, pair_E = np.unique(user_E * kept.num_items + kept.item_E, return_inverse=True)
        user_N, item_N = np.divmod(key_N, max(kept.num_items, 1))
        events_U = np.diff(kept.offset_U1)
        last = np.maximum(kept.offset_U1[1:] - 1, 0)
        place_U = np.append(place_E, 0)[last] * (events_U > 0)
        last_time_U = np.append(kept.time_E, 0)[last]
        # Without a calendar a user's time stands still until the basket that is asked for.
        now_U = last_time_U if self.target == "last-basket" else np.maximum(kept.now_U, last_time_U)
        back_E = (place_U[user_E] - place_E).astype(np.float64)
        day_E = (now_U[user_E] - kept.time_E) / DAY_SECONDS
        count_N = np.bincount(pair_E, minlength=len(key_N)).astype(np.float64)
        baskets_N = (place_U + 1.0)[user_N]
        lately_U = np.bincount(user_E[kept.basket_start_E & (day_E <= _LATELY_DAYS)], minlength=kept.num_users)
        columns = [
            np.log1p(count_N),
            count_N / baskets_N,
            np.log1p(baskets_N),
            np.log1p((events_U / (place_U + 1.0))[user_N]),
            np.log1p(((now_U - last_time_U) / DAY_SECONDS)[user_N]),
            np.log1p(lately_U[user_N]),
        ]
        for values_E, half_lives in ((back_E, _HALF_LIVES_BASKETS), (day_E, _HALF_LIVES_DAYS)):
            columns += _cycle(values_E, pair_E, count_N)
            columns += [np.log1p(_sum(np.exp2(-values_E / half), pair_E, len(key_N))) for half in half_lives]
        return user_N, item_N, np.column_stack([*columns, self.item_IF[item_N]]).astype(np.float32)


def _taken(interactions: Interactions) -> sparse.csr_array:
    """How often each user took each item."""
    return user_matrix(interactions, weight_E=np.ones(interactions.num_events, np.float32))


def _lately(interactions: Interactions) -> list[npt.NDArray[np.float64]]:
    """Log of how often each item was taken in the last one and four weeks, and of the latter over sixteen weeks."""
    weeks_E = interactions.age_days_E / 7.0
    week_I, month_I, season_I = (
        np.bincount(interactions.item_E[weeks_E <= weeks], minlength=interactions.num_items) for weeks in (1, 4, 16)
    )
    return [np.log1p(week_I), np.log1p(month_I), np.log1p(month_I) - np.log1p(season_I / 4)]


def _places_E(histories: Interactions) -> IntArray:
    """Number of each event's basket within its user, from 0."""
    number_E = np.cumsum(histories.basket_start_E)
    first_U = np.append(number_E, 0)[np.minimum(histories.offset_U1[:-1], max(histories.num_events - 1, 0))]
    return number_E - first_U[histories.user_E]


def _cycle(
    back_E: npt.NDArray[np.float64], pair_E: IntArray, count_N: npt.NDArray[np.float64]
) -> list[npt.NDArray[np.float64]]:
    """Log of how far back a pair was last, of its mean gap, and of the first over the second: whether it is due."""
    latest_N = np.full(len(count_N), np.inf)
    earliest_N = np.zeros(len(count_N))
    np.minimum.at(latest_N, pair_E, back_E)
    np.maximum.at(earliest_N, pair_E, back_E)
    gap_N = np.where(count_N > 1, (earliest_N - latest_N) / np.maximum(count_N - 1, 1), earliest_N + 1)
    return [np.log1p(latest_N), np.log1p(gap_N), np.log1p(latest_N / np.maximum(gap_N, 0.5))]


def _sum(value_E: npt.NDArray[np.float64], pair_E: IntArray, size: int) -> npt.NDArray[np.float64]:
    return np.bincount(pair_E, weights=value_E, minlength=size).astype(np.float64)


def _network(num_features: int) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm1d(num_features, affine=False),
        nn.Linear(num_features, _WIDTH),
        nn.ReLU(),
        nn.Linear(_WIDTH, _WIDTH),
        nn.ReLU(),
        nn.Linear(_WIDTH, 1),
    )


def _train(feature_NF: FeatureArray, taken_N: npt.NDArray[np.bool_], *, epochs: int, seed: int) -> Arrays:
    """Least cross-entropy by Adam, the rate falling to zero."""
    torch.manual_seed(seed)
    network = _network(feature_NF.shape[1])
    feature, taken = torch.from_numpy(feature_NF), torch.from_numpy(taken_N.astype(np.float32))
    steps = epochs * max(-(-len(taken) // _STEP_PAIRS), 1)
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(taken)).split(_STEP_PAIRS):
            if len(rows) < 2:
                continue
            loss = nn.functional.binary_cross_entropy_with_logits(network(feature[rows])[:, 0], taken[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return {name: values.numpy() for name, values in network.state_dict().items()}


def _rate(weights: Arrays, feature_NF: FeatureArray) -> ScoreArray:
    network = _network(feature_NF.shape[1])
    network.load_state_dict({name: torch.as_tensor(values) for name, values in weights.items()})
    with torch.inference_mode():
        rated: ScoreArray = torch.sigmoid(network.eval()(torch.from_numpy(feature_NF))[:, 0]).numpy()
    return rated
