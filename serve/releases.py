"""Which versions serve, and how another one comes to serve instead.

A promotion is checked apart from traffic (``serve.golden``), then the alias moves, then the running replicas are
reconfigured: they load the new version beside the old one and swap. If they do not, the alias goes back. So an alias
says what serves, and a version that failed its check never had it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from cluster.artifacts import open_store
from cluster.config import Settings
from cluster.dataset import open_dataset
from cluster.errors import ArtifactError, ConflictError, DataError
from cluster.promotions import Promotion
from serve.deployments import forecaster, policy, recommender
from serve.layout import Versions

_MAX_REASON = 300
_log = logging.getLogger("restock.serve")


class UnknownModelError(DataError):
    """The request names a model or a version that is not stored."""

    title = "Unknown model"


def serving_versions(settings: Settings, *, candidates: Mapping[str, str] | None = None) -> Versions:
    """``user_config`` of each replica: the versions that the champion aliases point to now, and the dataset.

    Parameters
    ----------
    candidates
        Versions by model name that are meant in place of their champions.

    Raises
    ------
    ArtifactError, DataError
        If one is missing or cannot be read: found here, before anything has started.
    """
    store, chosen = open_store(settings), candidates or {}
    data = open_dataset(settings).digest
    names = [name for name in store.names(policy.PREFIX) if name in chosen or "champion" in store.aliases(name)]

    def version_of(name: str) -> str:
        return store.load(name, chosen.get(name, "champion")).version

    return {
        "forecaster": {"version": version_of(forecaster.NAME), "data": data},
        "recommender": {"version": version_of(recommender.NAME), "data": data},
        "policy": {"versions": {name: version_of(name) for name in sorted({*names, policy.DEFAULT})}},
        "planner": {"data": data},
    }


class Releases:
    """Promotes and rolls back models of a running service.

    Parameters
    ----------
    check
        Raises if versions cannot serve; may take long, and runs in a thread.
    deploy
        Makes running replicas serve versions; returns when they do, raises if they do not.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        check: Callable[[Settings, Versions], None],
        deploy: Callable[[Settings, Versions], None],
    ) -> None:
        self._settings = settings
        self._store = open_store(settings)
        self._check = check
        self._deploy = deploy
        self._one_at_a_time = asyncio.Lock()
        self._going_on: set[asyncio.Task[Promotion]] = set()

    async def promote(self, name: str, version: str, *, by: str | None, reason: str) -> Promotion:
        """Check a version, make it champion and serve it.

        A caller that stops waiting does not stop it.

        Raises
        ------
        UnknownModelError
            If there is no such version.
        ConflictError
            If it fails its check or does not come to serve: the champion is the one of before.
        """
        self._known(name, version)
        return await self._through(name, version, kind="promote", by=by, reason=reason)

    async def roll_back(self, name: str, *, by: str | None, reason: str) -> Promotion:
        """Serve the champion of before; it is checked too, since data may have changed since.

        Raises
        ------
        UnknownModelError, ConflictError
            As :meth:`promote`; there may be no champion of before.
        """
        try:
            version = self._store.champion_before(name)
        except ArtifactError as error:
            raise UnknownModelError(self._said(error)) from error
        return await self._through(name, version, kind="roll_back", by=by, reason=reason)

    async def _through(self, name: str, version: str, **moved: Any) -> Promotion:
        task = asyncio.create_task(self._release(name, version, **moved))
        self._going_on.add(task)
        task.add_done_callback(self._going_on.discard)
        return await asyncio.shield(task)

    async def _release(self, name: str, version: str, *, kind: str, by: str | None, reason: str) -> Promotion:
        async with self._one_at_a_time:
            champion = self._store.aliases(name).get("champion")
            versions = serving_versions(self._settings, candidates={name: version})
            try:
                await asyncio.to_thread(self._check, self._settings, versions)
            except Exception as error:
                raise self._refused(name, version, champion, error) from error
            if kind == "roll_back":
                moved = self._store.roll_back(name, by=by, reason=reason, expected=champion)
            else:
                moved = self._store.promote(name, version, by=by, reason=reason, expected=champion)
            try:
                await asyncio.to_thread(self.go_live)
            except Exception as error:
                if champion is not None:
                    self._store.promote(name, champion, by=by, reason=f"{version} did not come to serve")
                    await asyncio.to_thread(self.go_live)
                raise self._refused(name, version, champion, error) from error
            return moved

    def go_live(self) -> None:
        """Serve what the aliases say; again if they have moved meanwhile, so that the last one to deploy is right."""
        deployed = None
        while (wanted := serving_versions(self._settings)) != deployed:
            self._deploy(self._settings, wanted)
            deployed = wanted

    def _known(self, name: str, version: str) -> None:
        try:
            self._store.load(name, version)
        except ArtifactError as error:
            raise UnknownModelError(self._said(error)) from error

    def _refused(self, name: str, version: str, champion: str | None, error: Exception) -> ConflictError:
        cause = getattr(error, "cause", None) or error
        _log.warning("release of %s %s refused: %s", name, version, cause)
        goes_on = f"{champion} goes on serving" if champion else "nothing has changed"
        return ConflictError(f"{version} of '{name}' cannot serve, {goes_on}: {self._said(cause)}")

    def _said(self, error: Exception) -> str:
        # What is wrong, but not where the shop keeps its files.
        text = str(error) or type(error).__name__
        return text.replace(str(self._store.root), "the store").replace(str(self._settings.home), "home")[:_MAX_REASON]
