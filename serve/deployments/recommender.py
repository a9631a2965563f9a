"""The recommender as a deployment: one model version, swapped by one assignment."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cluster.artifacts import StoredVersion, open_store
from cluster.config import Settings
from cluster.dataset import open_dataset
from recsys.sessions import LiveEvent, SessionStore
from serve.answers import ServedModelInfo, UserRecommendations, VisitIntent
from serve.deployments.stored import describe
from serve.deployments.worker import Worker
from serve.problems import NotReadyError
from serve.watch.log import write_to_output
from serve.watch.metrics import BATCH_SIZE, Measured, meter

if TYPE_CHECKING:
    from recsys.insight import Insight
    from recsys.predict import Recommender
    from recsys.rules import RuleBook

NAME = "recommender"
_NUM_INTERESTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    model: "Recommender"
    insight: "Insight | None"
    rules: "RuleBook"
    stored: StoredVersion


class RecommenderReplica(Measured):
    """Answers recommendations, many users at a time, and keeps what its users do right now.

    Requests of one user come to one replica (``session_id``). Events are kept in this process: a restart forgets them,
    and recommendations then follow stored history alone.

    ``user_config``: ``{"version": "v0003", "data": "<digest>"}``; rules read the stock of that dataset.
    """

    def __init__(self, settings: Settings) -> None:
        write_to_output()
        self._settings = settings
        self._loaded: _Loaded | None = None
        self._worker = Worker(NAME)
        limits = settings.serve
        self._sessions = SessionStore(
            max_users=limits.session_users,
            max_items=limits.session_items,
            events_per_user=limits.session_events,
            ttl_s=limits.session_ttl_s,
        )

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve the given version; one that does not load leaves the old one serving."""
        self._loaded = await asyncio.to_thread(self._load, user_config["version"])

    async def recommend(self, user_ids: list[str], *, k: int) -> UserRecommendations:
        """Best items of each user, after what they did just now; a user of whom nothing is known gets popular ones."""
        meter().observe(BATCH_SIZE, len(user_ids), NAME)
        now_s = int(time.time())
        live = {user_id: self._sessions.events(user_id, now_s=now_s) for user_id in user_ids}
        return await self._worker.run(_recommend, self._current(), user_ids, k, live)

    async def observe(self, user_id: str, events: Sequence[LiveEvent]) -> int:
        """Keep events of one user; how many were new."""
        now_s = int(time.time())
        return sum(self._sessions.add(user_id, event, now_s=now_s) for event in events)

    async def intent(self, events: list[tuple[str, str, float]]) -> VisitIntent:
        """Chance that something is bought later in a visit of these events: item, what was done, seconds since 1970."""
        return await self._worker.run(_intent, self._current(), events)

    async def check(self) -> str:
        """Recommend one item to a stranger; return the version that did."""
        answer = await self.recommend([""], k=1)
        if not answer.item_ids_UK[0, 0]:
            raise NotReadyError("the recommender has nothing to recommend; promote another version")
        return answer.model_version

    async def describe(self) -> ServedModelInfo:
        """Which version answers."""
        return describe(self._current().stored)

    def _current(self) -> _Loaded:
        if self._loaded is None:
            raise NotReadyError("the recommender has not loaded a model yet; try again in a moment")
        return self._loaded

    def _load(self, version: str) -> _Loaded:
        from recsys.insight import Insight  # here: torch and polars belong to this replica only
        from recsys.item_facts import make_rule_book
        from recsys.predict import Recommender

        stored = open_store(self._settings).load(NAME, version)
        model, insight = Recommender.load(stored.folder), Insight.load(stored.folder)
        rules = make_rule_book(
            open_dataset(self._settings),
            item_ids_I=model.item_ids,
            repeat_rate_I=_repeat_rate_I(model, insight),
            settings=self._settings.rules,
        )
        return _Loaded(model=model, insight=insight, rules=rules, stored=stored)


def _recommend(
    loaded: _Loaded, user_ids: list[str], k: int, live: Mapping[str, Sequence[LiveEvent]]
) -> UserRecommendations:
    found = loaded.model.recommend(user_ids, k=k, histories=live, rules=loaded.rules)
    histories = loaded.model.histories.take(loaded.model.histories.user_rows(user_ids))
    told_U = np.array([bool(live.get(user_id)) for user_id in user_ids])
    insight = loaded.insight
    return UserRecommendations(
        user_ids=tuple(user_ids),
        item_ids_UK=found.item_ids_UK,
        score_UK=found.score_UK,
        reason_UK=found.reason_UK,
        is_fallback_U=(np.diff(histories.offset_U1) == 0) & ~told_U,
        interests=None if insight is None else insight.top_interests(histories, k=_NUM_INTERESTS),
        due_items=None if insight is None else insight.due_items(histories, k=k),
        due_within_days=None if insight is None else insight.repeat.horizon_days,
        model_version=loaded.stored.version,
    )


def _intent(loaded: _Loaded, events: list[tuple[str, str, float]]) -> VisitIntent:
    from recsys.intent import probability_of  # here: polars belongs to this replica only

    model = None if loaded.insight is None else loaded.insight.intent
    chance = None if model is None else probability_of(model, events)
    return VisitIntent(probability=chance, model_version=loaded.stored.version)


def _repeat_rate_I(model: "Recommender", insight: "Insight | None") -> npt.NDArray[np.float64]:
    """Learned rates; without them all items are as the blend found the shop: bought again, or not."""
    if insight is None:
        return np.full(len(model.item_ids), float(model.blend.seen_allowed))
    return insight.repeat.rate_I
