"""The replicas behind the routes, all in this process: the ``fused`` layout, the check of a release, and tests.

The ``composed`` layout runs the same classes as deployments (``serve.app``). This module imports no torch and no Ray;
replicas import what they need when they load.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from cluster.config import Settings
from serve.deployments.forecaster import ForecasterReplica
from serve.deployments.planner import PlannerReplica
from serve.deployments.policy import PolicyReplica
from serve.deployments.recommender import RecommenderReplica
from serve.handles import LocalHandle, Services

Versions = Mapping[str, dict[str, Any]]
"""``user_config`` of each replica, by its name."""


class LocalReplicas:
    """One replica of each kind in this process, ``replicas`` by name, and the ``services`` that routes ask.

    Parameters
    ----------
    is_strict
        Nothing answers in place of a model that does not: for checks.
    """

    def __init__(self, settings: Settings, *, is_strict: bool = False) -> None:
        forecaster, policy = ForecasterReplica(settings), PolicyReplica(settings)
        planner = PlannerReplica(
            settings, forecaster=LocalHandle(forecaster), policy=LocalHandle(policy), is_strict=is_strict
        )
        self.replicas: dict[str, Any] = {
            "forecaster": forecaster,
            "recommender": RecommenderReplica(settings),
            "policy": policy,
            "planner": planner,
        }
        self.services = Services(**{name: LocalHandle(replica) for name, replica in self.replicas.items()})

    async def reconfigure(self, versions: Versions) -> None:
        """Serve the given versions; a replica whose version does not load goes on with its old one.

        Raises
        ------
        RestockError
            What stopped the first one that did not load; the others have their new version.
        """
        loading = [self.replicas[name].reconfigure(config) for name, config in versions.items()]
        outcomes = await asyncio.gather(*loading, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def settled(self) -> None:
        """Return when what goes on beside the requests is done: forecasts are stored."""
        await self.replicas["forecaster"].stored()
