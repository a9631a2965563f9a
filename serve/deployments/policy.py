"""All category policies in one replica: a plan of any categories takes one hop.

Shapes: S series, L periods until arrival.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from cluster.artifacts import StoredVersion, open_store
from cluster.config import Settings
from cluster.manifest import slug_of
from forecasting.forecast import Forecast
from rl.inventory import InventoryState, SupplyTerms
from rl.ordering import ask_policies
from rl.policies.protocol import JointPolicies, Policy
from serve.answers import AnsweredWishes, ServedModelInfo, StrArray
from serve.deployments.stored import check_unseen, describe
from serve.deployments.worker import Worker
from serve.problems import NotReadyError
from serve.watch.log import write_to_output
from serve.watch.metrics import BATCH_SIZE, Measured, meter

PREFIX = "policy/"
DEFAULT = "policy/default"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """Policies and their stored versions by model name; ``DEFAULT`` is among them."""

    policies: Mapping[str, Policy]
    stored: Mapping[str, StoredVersion]
    stacks: Sequence[JointPolicies]

    def name_of(self, category_id: str) -> str:
        """Model that orders for a category: its own, else the default textbook rule."""
        name = PREFIX + slug_of(category_id)
        return name if name in self.policies else DEFAULT


class PolicyReplica(Measured):
    """Answers how much each series' policy wishes to order.

    ``user_config``: ``{"versions": {"policy/default": "v0001", "policy/<slug of category>": "v0002", ...}}``.
    """

    def __init__(self, settings: Settings) -> None:
        write_to_output()
        self._settings = settings
        self._loaded: _Loaded | None = None
        self._worker = Worker("policy")

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve the given versions; policies whose version stays are kept."""
        self._loaded = await asyncio.to_thread(self._load, user_config["versions"])

    async def wish(
        self, category_ids_S: StrArray, *, state: InventoryState, forecast: Forecast, terms: SupplyTerms, as_of: date
    ) -> AnsweredWishes:
        """Ask each category's policy about its series, all in one call.

        Raises
        ------
        StaleInputError
            If one of these policies has seen history after ``as_of``.
        """
        meter().observe(BATCH_SIZE, len(category_ids_S), "policy")
        return await self._worker.run(_wish, self._current(), category_ids_S, state, forecast, terms, as_of)

    async def check(self) -> str:
        """Say which default answers; the planner's check asks the policies for wishes."""
        return self._current().stored[DEFAULT].version

    async def describe(self) -> list[ServedModelInfo]:
        """Which versions answer, in the order of their names."""
        return [describe(stored) for _, stored in sorted(self._current().stored.items())]

    def _current(self) -> _Loaded:
        if self._loaded is None:
            raise NotReadyError("the policies are not loaded yet; try again in a moment")
        return self._loaded

    def _load(self, versions: Mapping[str, str]) -> _Loaded:
        # Here: the ONNX runtime belongs to this replica only.
        from rl.policies.stacks import make_stacks
        from rl.policies.store import load_policy

        store = open_store(self._settings)
        stored = {name: store.load(name, version) for name, version in versions.items()}
        kept = self._loaded.stored if self._loaded is not None else {}
        policies = {
            name: self._loaded.policies[name]
            if self._loaded is not None and name in kept and kept[name].version == found.version
            else load_policy(found.folder)
            for name, found in stored.items()
        }
        return _Loaded(policies=policies, stored=stored, stacks=make_stacks(policies.values()))


def _wish(
    loaded: _Loaded,
    category_ids_S: StrArray,
    state: InventoryState,
    forecast: Forecast,
    terms: SupplyTerms,
    as_of: date,
) -> AnsweredWishes:
    name_S = [loaded.name_of(category_id) for category_id in category_ids_S.tolist()]
    used = sorted(set(name_S))
    for name in used:
        check_unseen(loaded.stored[name], as_of=as_of)
    wishes = ask_policies(
        [loaded.policies[name] for name in name_S], state=state, forecast=forecast, terms=terms, stacks=loaded.stacks
    )
    return AnsweredWishes(
        wish_S=wishes.wish_S,
        policy_S=wishes.policy_S,
        is_fallback_S=np.array([name == DEFAULT for name in name_S], dtype=bool),
        model_versions={name: loaded.stored[name].version for name in used},
    )
