"""Why an item is recommended: the model that added most to its score, in one sentence.

Shapes: U users, I items, K ranks, N cells (user, rank).
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from recsys.interactions import BEHAVIOURS, PURCHASE, IntArray, Interactions, RowArray, StrArray
from recsys.metrics import ScoreArray
from recsys.models.blend import RECENT, Blend
from recsys.models.ease import EaseModel
from recsys.models.factors import AlsModel, BprModel
from recsys.models.frequency import PersonalFrequency
from recsys.models.habits import HabitModel
from recsys.models.neighbours import EVENTS_READ, NeighbourModel
from recsys.models.sequence import SequenceModel
from recsys.models.tifu import TifuKnn
from recsys.models.transitions import TransitionModel

POPULAR: Final = "popular in the last weeks"
POPULAR_EVER: Final = "popular with other customers"
_SEQUENCE: Final = "often comes next after your latest purchases"
_NEXT: Final = "others took it soon after what you took last"
_ALIKE: Final = "customers who take what you take also take it"
_DONE: Final = {
    "view": "looked at {}",
    "click": "clicked on {}",
    "cart": "put {} in your cart",
    "purchase": "bought {}",
    "review": "reviewed {}",
    "poor review": "reviewed {}",
}


def reasons_UK(
    blend: Blend, histories: Interactions, *, parts: Mapping[str, ScoreArray], item_UK: RowArray
) -> StrArray:
    """Reason of each recommended item, '' where there is none."""
    names = list(parts)
    safe_UK = np.maximum(item_UK, 0)
    added_MUK = np.stack([np.take_along_axis(parts[name], safe_UK, axis=1) for name in names])
    most_UK = added_MUK.argmax(axis=0)
    reason_UK = np.full(item_UK.shape, POPULAR, dtype=object)
    for place, name in enumerate(names):
        user_N, rank_N = np.nonzero((most_UK == place) & (item_UK >= 0))
        if len(user_N):
            item_N = item_UK[user_N, rank_N].astype(np.int64)
            reason_UK[user_N, rank_N] = _sentences_N(blend, name, histories, user_N=user_N, item_N=item_N)
    reason_UK[item_UK < 0] = ""
    return reason_UK.astype(str)


def _sentences_N(blend: Blend, name: str, histories: Interactions, *, user_N: IntArray, item_N: IntArray) -> list[str]:
    model = blend.models[name]
    if isinstance(model, PersonalFrequency | HabitModel):
        return _counted_N(histories, user_N=user_N, item_N=item_N)
    if isinstance(model, NeighbourModel):
        return _because_N(model, histories, user_N=user_N, item_N=item_N)
    if isinstance(model, SequenceModel):
        return [_SEQUENCE] * len(user_N)
    if isinstance(model, TransitionModel):
        return [_NEXT] * len(user_N)
    if isinstance(model, TifuKnn | EaseModel | AlsModel | BprModel):
        return [_ALIKE] * len(user_N)
    return [POPULAR if name == RECENT else POPULAR_EVER] * len(user_N)


def _counted_N(histories: Interactions, *, user_N: IntArray, item_N: IntArray) -> list[str]:
    """How often the user bought the very item; or, if never, how often they last did what they did with it."""
    width = histories.num_items
    key_E = histories.user_E * width + histories.item_E
    order = np.argsort(key_E, kind="stable")
    first = np.searchsorted(key_E[order], user_N * width + item_N)
    behind = np.searchsorted(key_E[order], user_N * width + item_N, side="right")
    sentences = []
    for start, end in zip(first, behind, strict=True):
        done = histories.behaviour_E[order[start:end]]
        told = PURCHASE if (done == PURCHASE).any() else done[-1]
        sentences.append(f"because you {_DONE[BEHAVIOURS[told]].format('it')} {_times(int((done == told).sum()))}")
    return sentences


def _times(count: int) -> str:
    return {1: "before", 2: "twice"}.get(count, f"{count} times")


def _because_N(model: NeighbourModel, histories: Interactions, *, user_N: IntArray, item_N: IntArray) -> list[str]:
    """The event of the history that added most to the neighbour score."""
    weight_E = model.weight_E(histories)
    sentences = []
    for user, item in zip(user_N, item_N, strict=True):
        end = histories.offset_U1[user + 1]
        events = np.arange(max(histories.offset_U1[user], end - EVENTS_READ), end)
        closeness = np.where(
            model.item_IK[histories.item_E[events]] == item, model.score_IK[histories.item_E[events]], 0
        )
        event = events[int(np.argmax(closeness.sum(axis=1) * weight_E[events]))]
        done = _DONE[BEHAVIOURS[histories.behaviour_E[event]]]
        sentences.append(f"because you {done.format(histories.item_ids_I[histories.item_E[event]])}")
    return sentences
