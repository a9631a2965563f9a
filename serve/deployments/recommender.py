"""The recommender as a deployment: one model version, swapped by one assignment."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.artifacts import StoredVersion, open_store
from cluster.config import Settings
from serve.answers import ServedModelInfo, UserRecommendations
from serve.deployments.stored import describe
from serve.deployments.worker import Worker
from serve.problems import NotReadyError

if TYPE_CHECKING:
    from recsys.predict import Recommender

NAME = "recommender"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    model: "Recommender"
    stored: StoredVersion


class RecommenderReplica:
    """Answers recommendations, many users at a time.

    ``user_config``: ``{"version": "v0003"}``.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loaded: _Loaded | None = None
        self._worker = Worker(NAME)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve the given version; one that does not load leaves the old one serving."""
        self._loaded = await asyncio.to_thread(self._load, user_config["version"])

    async def recommend(self, user_ids: list[str], *, k: int) -> UserRecommendations:
        """Best items of each user; a user of whom nothing is known gets popular ones."""
        return await self._worker.run(_recommend, self._current(), user_ids, k)

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
        from recsys.predict import Recommender  # here: torch belongs to this replica only

        stored = open_store(self._settings).load(NAME, version)
        return _Loaded(model=Recommender.load(stored.folder), stored=stored)


def _recommend(loaded: _Loaded, user_ids: list[str], k: int) -> UserRecommendations:
    found = loaded.model.recommend(user_ids, k=k)
    histories = loaded.model.histories
    num_events_U = np.diff(histories.take(histories.user_rows(user_ids)).offset_U1)
    return UserRecommendations(
        user_ids=tuple(user_ids),
        item_ids_UK=found.item_ids_UK,
        score_UK=found.score_UK,
        reason_UK=found.reason_UK,
        is_fallback_U=num_events_U == 0,
        model_version=loaded.stored.version,
    )
