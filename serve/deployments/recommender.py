"""The recommender as a deployment: one model version, swapped by one assignment."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from cluster.artifacts import StoredVersion, open_store
from cluster.config import Settings
from cluster.dataset import open_dataset
from recsys.sessions import LiveEvent, SessionStore
from serve.answers import ServedModelInfo, UserRecommendations, VisitIntent
from serve.deployments.batcher import Batcher
from serve.deployments.stored import describe, device_of
from serve.deployments.worker import Worker
from serve.problems import NotReadyError
from serve.store.follower import Follower
from serve.store.live_events import EventReader, ForgottenReader
from serve.store.live_stock import StockReader
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
    row_of: dict[str, int]
    stored: StoredVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """Users of one request, and how many items each is to be recommended."""

    user_ids: list[str]
    k: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _News:
    """What the database was told since the last look.

    Parameters
    ----------
    forgotten
        Users who asked for it.
    events
        By user, with the second of telling.
    is_free
        Items that are on the shelf or not.
    """

    forgotten: list[str]
    events: list[tuple[str, LiveEvent, int]]
    is_free: dict[str, bool]


class RecommenderReplica(Measured):
    """Answers recommendations, many users at a time, and keeps what its users do right now.

    Requests of one user come to one replica (``session_id``), which is told at once. What others were told, and what
    was told before this replica started, it reads from the database. So it does with stock: what is sold out is not
    recommended. While the database is down it goes on with what it knows.

    ``user_config``: ``{"version": "v0003", "data": "<digest>"}``; rules begin with the stock of that dataset.
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
        self._batcher = Batcher(self._recommend_all, most=limits.batch_users)
        self._is_free: dict[str, bool] = {}
        self._forgotten: set[str] = set()
        self._departures = ForgottenReader(ttl_s=limits.session_ttl_s)
        self._events, self._stock = EventReader(ttl_s=limits.session_ttl_s), StockReader()
        self._follower = Follower(settings, read=self._read, take=self._take)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve the given version; one that does not load leaves the old one serving."""
        loaded = await asyncio.to_thread(self._load, user_config["version"])
        self._loaded = _with_stock(loaded, self._is_free)
        await self._follower.catch_up(patience_s=self._settings.serve.database_timeout_s)

    async def recommend(self, user_ids: list[str], *, k: int) -> UserRecommendations:
        """Best items of each user, after what they did just now; a user of whom nothing is known gets popular ones."""
        await self._follower.catch_up()
        # Of one number of items: a longer list does not begin with the shorter one.
        return await self._batcher.ask(_Wanted(user_ids=user_ids, k=k), kind=k)

    async def observe(self, user_id: str, events: Sequence[LiveEvent]) -> int:
        """Keep events of one user; how many were new."""
        now_s = int(time.time())
        return sum(self._sessions.add(user_id, event, now_s=now_s) for event in events)

    async def intent(self, events: list[tuple[str, str, float]]) -> VisitIntent:
        """Chance that something is bought later in a visit of these events: item, what was done, seconds since 1970."""
        return await self._worker.run(_intent, self._current(), events)

    async def check(self) -> str:
        """Recommend one item to a stranger, sold out or not; return the version that did."""
        loaded = self._current()
        whole = replace(loaded, rules=loaded.rules.regardless_of_stock())
        answer = await self._worker.run(_recommend, whole, [""], 1, {})
        if not answer.item_ids_UK[0, 0]:
            raise NotReadyError("the recommender has nothing to recommend; promote another version")
        return answer.model_version

    async def describe(self) -> ServedModelInfo:
        """Which version answers."""
        return describe(self._current().stored)

    async def _recommend_all(self, wanted: Sequence[_Wanted]) -> list[UserRecommendations]:
        """Answers to requests for the same number of items each."""
        user_ids = [user_id for one in wanted for user_id in one.user_ids]
        meter().observe(BATCH_SIZE, len(user_ids), NAME)
        now_s = int(time.time())
        names = [self._name_of(user_id) for user_id in user_ids]
        live = {
            name: self._sessions.events(user_id, now_s=now_s) for name, user_id in zip(names, user_ids, strict=True)
        }
        found = await self._worker.run(_recommend, self._current(), names, wanted[0].k, live)
        answer = replace(found, user_ids=tuple(user_ids))
        ends = list(accumulate(len(one.user_ids) for one in wanted))
        return [answer.of(slice(end - len(one.user_ids), end)) for one, end in zip(wanted, ends, strict=True)]

    def _name_of(self, user_id: str) -> str:
        """Name by which the model is asked: one that no model knows, of users who were forgotten meanwhile."""
        return f"\0{user_id}" if user_id in self._forgotten else user_id

    def _read(self, session: Session) -> _News:
        return _News(
            forgotten=self._departures.read(session),
            events=self._events.read(session),
            is_free=self._stock.read(session),
        )

    def _take(self, news: _News) -> None:
        # Before the events: what these users do from then on is a new session.
        for user_id in news.forgotten:
            self._sessions.forget(user_id)
        self._forgotten |= set(news.forgotten)
        for user_id, event, told_s in news.events:
            self._sessions.add(user_id, event, now_s=told_s)
        self._is_free |= news.is_free
        if self._loaded is not None:
            self._loaded = _with_stock(self._loaded, news.is_free)

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
        model.move(device_of(self._settings, "recommender"))
        rules = make_rule_book(
            open_dataset(self._settings),
            item_ids_I=model.item_ids,
            repeat_rate_I=_repeat_rate_I(model, insight),
            settings=self._settings.rules,
        )
        new_ids = [] if rules.new_items is None else rules.new_items.item_ids_N.tolist()
        row_of = {item_id: row for row, item_id in enumerate([*model.item_ids.tolist(), *new_ids])}
        return _Loaded(model=model, insight=insight, rules=rules, row_of=row_of, stored=stored)


def _with_stock(loaded: _Loaded, is_free: Mapping[str, bool]) -> _Loaded:
    """The same model, with what is known of the shelf now."""
    found = {loaded.row_of[item_id]: free for item_id, free in is_free.items() if item_id in loaded.row_of}
    if not found:
        return loaded
    rows_J, is_free_J = np.array(list(found), dtype=np.int64), np.array(list(found.values()), dtype=bool)
    return replace(loaded, rules=loaded.rules.with_stock(rows_J, is_free_J))


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
