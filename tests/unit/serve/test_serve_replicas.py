"""The replicas alone: loading, swapping, and what they do before and after."""

import asyncio
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fresh_process import loaded_by
from serving_home import (
    AFTER_ON,
    ITEMS,
    TRAINED_UNTIL_ON,
    Home,
    make_home,
    publish_forecaster,
    publish_learned_policy,
    publish_policy,
)

from cluster.dataset import open_dataset
from cluster.errors import ArtifactError, StaleInputError
from cluster.manifest import slug_of
from rl.assumptions import make_supply_terms
from rl.inventory import InventoryState
from serve.answers import PlanAnswer, PlanQuestion
from serve.deployments.forecaster import ForecasterReplica
from serve.deployments.planner import PlannerReplica
from serve.deployments.policy import PolicyReplica
from serve.deployments.recommender import RecommenderReplica
from serve.problems import NotReadyError

DAIRY = f"policy/{slug_of('dairy')}"
KEY = ("item-1", "main")


@pytest.fixture
def own(tmp_path: Path) -> Home:
    """A home that a test may change."""
    return make_home(tmp_path)


def test_nothing_answers_before_it_has_loaded(home: Home) -> None:
    forecaster, recommender = ForecasterReplica(home.settings), RecommenderReplica(home.settings)
    policy, planner = PolicyReplica(home.settings), PlannerReplica(home.settings, forecaster=None, policy=None)
    for replica in (forecaster, recommender, policy, planner):
        with pytest.raises(NotReadyError, match="try again in a moment"):
            asyncio.run(replica.check())


def test_forecaster_swaps_versions_and_keeps_the_old_one_if_the_new_does_not_load(own: Home) -> None:
    async def scenario() -> None:
        digest = open_dataset(own.settings).digest
        replica = ForecasterReplica(own.settings)
        await replica.reconfigure({"version": "v0001", "data": digest})
        first = await replica.predict([KEY], horizon=None, levels=None, as_of=None)
        with pytest.raises(ArtifactError):
            await replica.reconfigure({"version": "v0009", "data": digest})
        assert await replica.check() == "v0001"
        await replica.reconfigure({"version": publish_forecaster(own, seed=1), "data": digest})
        second = await replica.predict([KEY], horizon=None, levels=None, as_of=None)
        assert (first.model_version, second.model_version) == ("v0001", "v0002")
        assert not np.allclose(first.forecast.mean_SH, second.forecast.mean_SH)

    asyncio.run(scenario())


def test_a_damaged_model_is_refused_on_loading(own: Home) -> None:
    (own.store.load("recommender").folder / "recommender.json").write_text("{")
    with pytest.raises(ArtifactError):
        asyncio.run(RecommenderReplica(own.settings).reconfigure({"version": "v0001"}))


def test_history_is_read_again_only_when_the_data_change(own: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    monkeypatch.setattr(
        "serve.deployments.forecaster.open_dataset",
        lambda settings: reads.append(settings) or open_dataset(settings),
    )

    async def scenario() -> None:
        digest = open_dataset(own.settings).digest
        replica = ForecasterReplica(own.settings)
        for version in ("v0001", publish_forecaster(own, seed=1)):
            await replica.reconfigure({"version": version, "data": digest})

    asyncio.run(scenario())
    assert len(reads) == 1


class TestPolicies:
    async def _wishes(
        self, replica: PolicyReplica, home: Home, *, as_of: date, category_ids: list[str] | None = None
    ) -> tuple[list[float], list[bool]]:
        panel = open_dataset(home.settings).panel()
        terms, _ = make_supply_terms(None, panel=panel, settings=home.settings)
        forecaster = ForecasterReplica(home.settings)
        await forecaster.reconfigure({"version": "v0001", "data": ""})
        keys = list(zip(panel.index.item_ids_S.tolist(), panel.index.location_ids_S.tolist(), strict=True))
        forecast = (await forecaster.predict(keys, horizon=None, levels=None, as_of=None)).forecast
        none_S = np.zeros(len(keys), dtype=np.float32)
        state = InventoryState(on_hand_S=none_S, on_order_SL=none_S[:, None], backorder_S=none_S, reserved_S=none_S)
        category_ids_S = panel.index.category_ids_S if category_ids is None else np.array(category_ids)
        answer = await replica.wish(category_ids_S, state=state, forecast=forecast, terms=terms, as_of=as_of)
        return answer.wish_S.tolist(), answer.is_fallback_S.tolist()

    def test_each_category_gets_its_own_version_and_others_the_default(self, own: Home) -> None:
        async def scenario() -> None:
            replica = PolicyReplica(own.settings)
            await replica.reconfigure({"versions": {"policy/default": "v0001"}})
            defaults, fallbacks = await self._wishes(replica, own, as_of=AFTER_ON)
            assert all(fallbacks)
            await replica.reconfigure({"versions": {"policy/default": "v0001", DAIRY: "v0001"}})
            wishes, fallbacks = await self._wishes(replica, own, as_of=AFTER_ON)
            assert fallbacks == [False] * 3 + [True] * 5
            assert wishes[3:] == defaults[3:]
            # dairy orders up to the 0.9 quantile, the default up to the median
            assert all(own > default for own, default in zip(wishes[:3], defaults[:3], strict=True))

        asyncio.run(scenario())

    def test_a_swap_reloads_only_what_changed(self, own: Home) -> None:
        async def scenario() -> None:
            replica = PolicyReplica(own.settings)
            await replica.reconfigure({"versions": {"policy/default": "v0001", DAIRY: "v0001"}})
            before = replica._current().policies
            publish_policy(own, DAIRY, cycle_service_level=0.6)
            await replica.reconfigure({"versions": {"policy/default": "v0001", DAIRY: "v0002"}})
            after = replica._current().policies
            assert after["policy/default"] is before["policy/default"]
            assert after[DAIRY] is not before[DAIRY]

        asyncio.run(scenario())

    def test_learned_policies_of_many_categories_are_asked_as_one_stack_and_each_wishes_its_own(
        self, own: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        categories = [f"category-{number}" for number in range(8)]
        names = [f"policy/{slug_of(category)}" for category in categories]
        versions = {name: publish_learned_policy(own, name, seed=seed) for seed, name in enumerate(names)}

        async def scenario() -> None:
            replica = PolicyReplica(own.settings)
            await replica.reconfigure({"versions": {"policy/default": "v0001"} | versions})
            policies = replica._current().policies
            alone = []
            for number in range(8):
                wishes, _ = await self._wishes(
                    replica, own, as_of=AFTER_ON, category_ids=categories[number : number + 1] * 8
                )
                alone.append(wishes[number])
            # From here on only the stack can answer.
            for name in names:
                monkeypatch.setattr(policies[name], "_session", None)
            together, fallbacks = await self._wishes(replica, own, as_of=AFTER_ON, category_ids=categories)
            assert together == pytest.approx(alone, rel=1e-5, abs=1e-3)
            assert len(set(together)) > 2
            assert not any(fallbacks)

        asyncio.run(scenario())

    def test_a_day_that_a_policy_has_seen_is_refused(self, home: Home) -> None:
        async def scenario() -> None:
            replica = PolicyReplica(home.settings)
            await replica.reconfigure({"versions": {"policy/default": "v0001"}})
            await self._wishes(replica, home, as_of=TRAINED_UNTIL_ON)
            with pytest.raises(StaleInputError, match="'policy/default' has seen history"):
                await self._wishes(replica, home, as_of=TRAINED_UNTIL_ON - timedelta(days=1))

        asyncio.run(scenario())


@pytest.mark.parametrize(("counted_on", "is_assumed"), [(AFTER_ON, False), (AFTER_ON - timedelta(days=1), True)])
def test_the_shops_own_stock_is_used_if_it_is_of_the_day(tmp_path: Path, counted_on: date, is_assumed: bool) -> None:
    stock = tmp_path / "stock.csv"
    stock.write_text("item_id,on_hand_qty,snapshot_on\n" + "".join(f"{item},7,{counted_on}\n" for item in ITEMS))
    own = make_home(tmp_path, overrides=(f"data.tables.stock.uri={stock}",))

    async def scenario() -> PlanAnswer:
        digest = open_dataset(own.settings).digest
        forecaster, policy = ForecasterReplica(own.settings), PolicyReplica(own.settings)
        await forecaster.reconfigure({"version": "v0001", "data": digest})
        await policy.reconfigure({"versions": {"policy/default": "v0001"}})
        planner = PlannerReplica(own.settings, forecaster=Handle(forecaster), policy=Handle(policy))
        await planner.reconfigure({"data": digest})
        return await planner.plan(PlanQuestion(series=None, limit=8, as_of=None, stock=None, open_orders=None))

    answer = asyncio.run(scenario())
    assert answer.stock_is_assumed is is_assumed
    assert ([line.on_hand_qty for line in answer.plan.lines] == [7.0] * 8) is not is_assumed


class Handle:
    """What Serve's handles look like to the planner, without a hop."""

    def __init__(self, replica: Any) -> None:
        self._replica = replica

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._replica, name))


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("serve.ingress, serve.deployments.planner", ["torch", "ray", "onnxruntime"]),
        ("serve.deployments.policy", ["torch", "ray"]),
        ("serve.cli", ["torch", "ray", "fastapi"]),
    ],
)
def test_a_replica_imports_only_what_it_needs(module: str, forbidden: list[str]) -> None:
    assert loaded_by(f"import {module}", among=forbidden) == []
