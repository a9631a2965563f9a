"""What is served: the fitted models, their blend and the histories that they read. Knows no Ray.

Shapes: U users asked for, J items asked for, I items, K ranks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.cold_start import NewItems
from recsys.holdout import Holdout
from recsys.interactions import IntArray, Interactions, RowArray, StrArray
from recsys.metrics import ScoreArray, top_items
from recsys.models.blend import Blend, sum_UI
from recsys.models.neighbours import NeighbourModel
from recsys.models.protocol import RecommenderModel, recommend, users_per_batch
from recsys.models.sequence import SequenceModel
from recsys.neighbours import ItemNeighbours
from recsys.private import PrivacyPlan
from recsys.reasons import reasons_UK
from recsys.rules import RuleBook, with_overstock_UK
from recsys.sessions import LiveEvent
from recsys.storage import read_recommender, write_recommender


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendations:
    """Best items for each user, best first.

    Parameters
    ----------
    item_ids_UK
        External ids; '' where nothing more may be recommended.
    score_UK
        Blend score: higher suits better, comparable within a user only; 0 where there is no item.
    reason_UK
        One sentence each, true by construction: it names what added most to the score.
    """

    user_ids_U: StrArray
    item_ids_UK: StrArray
    score_UK: ScoreArray
    reason_UK: StrArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommender:
    """Fitted models, the weights that validation chose, and the histories up to the training cut.

    Parameters
    ----------
    histories
        What each known user did before the cut.
    blend
        Models and weights that :meth:`recommend` uses.
    learning_curve
        One row per epoch of the sequence model.
    validation
        One row per model: Recall@10 and NDCG@10 on the validation baskets, and the weight it got.
    """

    histories: Interactions
    blend: Blend
    learning_curve: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)

    @property
    def trained_until(self) -> datetime:
        """First instant that was not learned from."""
        return datetime.fromtimestamp(int(self.histories.now_U.max()), tz=UTC)

    @property
    def item_ids(self) -> StrArray:
        """Items that can be recommended, sorted."""
        return self.histories.item_ids_I

    @property
    def models(self) -> Mapping[str, RecommenderModel]:
        """Every fitted model by name, also those that got no weight."""
        return self.blend.models

    def move(self, device: str) -> None:
        """Let the sequence network, the one model that gains from it, answer from a device of torch."""
        model = self.models.get(SequenceModel.kind)
        if isinstance(model, SequenceModel) and model.network is not None:
            model.network.to(device)

    @property
    def privacy(self) -> PrivacyPlan | None:
        """What the sequence model promises its users; None where it promises nothing or is missing."""
        model = self.models.get(SequenceModel.kind)
        return model.privacy if isinstance(model, SequenceModel) else None

    @property
    def neighbours(self) -> ItemNeighbours:
        """Items that are taken together or soon after one another."""
        model = self.models[NeighbourModel.kind]
        assert isinstance(model, NeighbourModel)
        return model.neighbours(self.item_ids)

    def recommend(
        self,
        user_ids: Sequence[str],
        *,
        k: int = 10,
        exclude_item_ids: Sequence[str] = (),
        histories: Mapping[str, Sequence[LiveEvent]] | None = None,
        rules: RuleBook | None = None,
    ) -> Recommendations:
        """Best ``k`` items for each user now.

        A user without any history gets what is popular lately. Items that the model does not know are ignored; a user
        who is asked for twice is answered twice.

        Parameters
        ----------
        exclude_item_ids
            Never in the answer, for nobody: out of stock, not for sale.
        histories
            What a user did since training; it follows the stored history.
        rules
            What may be shown. They decide item by item what may be bought again, instead of for all items at once.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        asked = self._histories(user_ids, live=histories or {})
        barred_J = self.histories.item_rows(list(exclude_item_ids))
        barred_J = barred_J[barred_J >= 0]
        size = users_per_batch(asked.num_items)
        answers = [
            self._rank(
                asked.take(np.arange(start, min(start + size, len(user_ids)))), k=k, barred_J=barred_J, rules=rules
            )
            for start in range(0, len(user_ids), size)
        ]
        item_UK, score_UK, reason_UK = (np.concatenate(column) for column in zip(*answers, strict=True))
        new_items = None if rules is None else rules.new_items
        return Recommendations(
            user_ids_U=np.asarray(user_ids, dtype=str),
            item_ids_UK=self._ids(item_UK, new_items=new_items),
            score_UK=np.where(item_UK >= 0, score_UK, 0.0).astype(np.float32),
            reason_UK=reason_UK,
        )

    def similar(self, item_ids: Sequence[str], *, k: int = 10) -> tuple[StrArray, ScoreArray]:
        """Ids and scores, shape (J, K), of the items that go with each given one; '' and 0 where there are no more.

        An item that the model does not know has none.
        """
        item_J = self.histories.item_rows(item_ids)
        score_JI = self.models[NeighbourModel.kind].similar_JI(np.maximum(item_J, 0))
        similar_JK, score_JK = top_items(score_JI, k=k)
        found_JK = (similar_JK >= 0) & (score_JK > 0) & (item_J >= 0)[:, None]
        return self._ids(np.where(found_JK, similar_JK, -1)), np.where(found_JK, score_JK, 0.0).astype(np.float32)

    def rank(self, holdout: Holdout, *, k: int) -> dict[str, RowArray]:
        """Ranked item rows by each model alone and by ``blend``, shape (V, K): for :func:`recsys.evaluate.evaluate`."""
        histories = holdout.history.take(holdout.user_V)
        allowed = self.blend.seen_allowed
        ranked = {name: recommend(model, histories, k=k, seen_allowed=allowed) for name, model in self.models.items()}
        return ranked | {"blend": recommend(self.blend, histories, k=k, seen_allowed=allowed)}

    def save(self, folder: Path) -> None:
        """Write the recommender into an existing folder: JSON, safetensors and Parquet, nothing that runs code."""
        write_recommender(
            folder,
            histories=self.histories,
            blend=self.blend,
            facts={"learning_curve": self.learning_curve, "validation": self.validation},
        )

    @classmethod
    def load(cls, folder: Path) -> "Recommender":
        """Read what :meth:`save` wrote.

        Raises
        ------
        ArtifactError
            If a file is missing or is not what was written.
        """
        histories, blend, facts = read_recommender(folder)
        return cls(histories=histories, blend=blend, **facts)

    def _histories(self, user_ids: Sequence[str], *, live: Mapping[str, Sequence[LiveEvent]]) -> Interactions:
        stored = self.histories.take(self.histories.user_rows(user_ids))
        added = [live.get(user, ()) for user in user_ids]
        rows = [self.histories.item_rows([event.item_id for event in events]) for events in added]
        return append_events(stored, added, item_rows=rows)

    def _rank(
        self, histories: Interactions, *, k: int, barred_J: IntArray, rules: RuleBook | None
    ) -> tuple[RowArray, ScoreArray, StrArray]:
        parts = self.blend.parts(histories)
        total_UI = sum_UI(parts)
        total_UI[total_UI <= 0] = -np.inf
        total_UI[:, barred_J] = -np.inf
        if rules is not None:
            picked = rules.pick(rules.with_new_items(total_UI), histories, k=k)
            reason_UK = reasons_UK(self.blend, histories, parts=parts, item_UK=self._known(picked.item_UK))
            reason_UK = with_overstock_UK(reason_UK, picked, parts=parts)
            return picked.item_UK, picked.score_UK, self._with_new_UK(reason_UK, picked.item_UK, rules=rules)
        if not self.blend.seen_allowed:
            total_UI[histories.user_E, histories.item_E] = -np.inf
        item_UK, score_UK = top_items(total_UI, k=k)
        short = k - item_UK.shape[1]
        if short > 0:
            item_UK = np.pad(item_UK, ((0, 0), (0, short)), constant_values=-1)
            score_UK = np.pad(score_UK, ((0, 0), (0, short)))
        return item_UK, score_UK, reasons_UK(self.blend, histories, parts=parts, item_UK=item_UK)

    def _ids(self, item_UK: npt.NDArray[np.integer], *, new_items: NewItems | None = None) -> StrArray:
        ids = self.item_ids if new_items is None else np.concatenate([self.item_ids, new_items.item_ids_N])
        return np.where(item_UK >= 0, ids[np.maximum(item_UK, 0)], "")

    def _known(self, item_UK: RowArray) -> RowArray:
        """Without the items that were not learned of."""
        return np.where(item_UK < len(self.item_ids), item_UK, -1)

    def _with_new_UK(self, reason_UK: StrArray, item_UK: RowArray, *, rules: RuleBook) -> StrArray:
        """Reasons, where a new item is shown: the known one that it is most like."""
        new_UK = item_UK >= len(self.item_ids)
        if rules.new_items is None or not new_UK.any():
            return reason_UK
        like_R = self.item_ids[rules.new_items.most_like_N[item_UK[new_UK] - len(self.item_ids)]]
        told_UK = reason_UK.astype(object)
        told_UK[new_UK] = [f"new, and like {like}" for like in like_R.tolist()]
        return told_UK.astype(str)


def append_events(
    histories: Interactions, live: Sequence[Sequence[LiveEvent]], *, item_rows: Sequence[IntArray]
) -> Interactions:
    """Add what each user did since training, in order of time, each a basket of its own; items of row -1 are left out.

    Ages then count from the latest event; an event without a time, or from before training, is one of that moment.
    """
    known = [
        [(event, row) for event, row in zip(*pair, strict=True) if row >= 0]
        for pair in zip(live, item_rows, strict=True)
    ]
    added_U = np.array([len(pairs) for pairs in known], dtype=np.int64)
    if not added_U.any():
        return histories
    now_N = np.repeat(histories.now_U, added_U)
    told_N = np.array(
        [-1 if event.at_s is None else event.at_s for pairs in known for event, _ in pairs], dtype=np.int64
    )
    time_N = np.maximum(told_N, now_N)
    user_N = np.repeat(np.arange(len(added_U)), added_U)
    order = np.lexsort((time_N, user_N))
    item_N = np.array([row for pairs in known for _, row in pairs], dtype=np.int32)[order]
    code_N = np.array([event.code for pairs in known for event, _ in pairs], dtype=np.int8)[order]
    place_N = np.repeat(histories.offset_U1[1:], added_U)
    basket_E = np.insert(histories.basket_start_E, place_N, np.ones(len(item_N), dtype=bool))
    now_U = histories.now_U.copy()
    np.maximum.at(now_U, user_N, time_N)
    return replace(
        histories,
        offset_U1=histories.offset_U1 + np.concatenate([[0], np.cumsum(added_U)]),
        item_E=np.insert(histories.item_E, place_N, item_N),
        behaviour_E=np.insert(histories.behaviour_E, place_N, code_N),
        basket_E=(np.cumsum(basket_E) - 1).astype(np.int32),
        time_E=np.insert(histories.time_E, place_N, time_N[order]),
        now_U=now_U,
    )
