"""What is answered while a model does not: something older or simpler, marked; and never in place of a refusal."""

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from serving_home import AFTER_ON, CATEGORIES, ITEMS, Home, make_home
from starlette.testclient import TestClient

from cluster.dataset import open_dataset
from serve.deployments.planner import PlannerReplica
from serve.deployments.popular import popular_items
from serve.handles import LocalHandle, PatientHandle, Services
from serve.ingress import make_api
from serve.layout import LocalReplicas
from serve.releases import serving_versions
from serve.schemas.forecasts import ForecastAnswer
from serve.schemas.order_plans import OrderPlanAnswer
from serve.schemas.recommendations import RecommendationAnswer
from serve.store.stored_forecasts import ForecastStore

BODY = {"series": [{"item_id": "item-3"}, {"item_id": "item-0"}]}


class Broken:
    """A deployment whose every method fails, or never answers."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def options(self, **_: Any) -> "Broken":
        return self

    def __getattr__(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(remote=self._fail)

    async def _fail(self, *_: Any, **__: Any) -> None:
        if self._error is None:
            await asyncio.sleep(60)
        else:
            raise self._error


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("degraded")
    stock = pl.DataFrame(
        {
            "item_id": ITEMS,
            "on_hand_qty": [0.0 if item == "item-1" else 20.0 for item in ITEMS],
            "snapshot_on": [AFTER_ON] * len(ITEMS),
        }
    )
    stock.write_csv(folder / "stock.csv")
    overrides = ("serve.patience_s=0.2", f'data.tables.stock.uri="{folder / "stock.csv"}"')
    return make_home(folder / "shop", overrides=overrides)


@pytest.fixture(scope="module")
def healthy(own: Home) -> Services:
    replicas = LocalReplicas(own.settings)

    async def load() -> None:
        await replicas.reconfigure(serving_versions(own.settings))
        await replicas.settled()

    asyncio.run(load())
    return replicas.services


def client_of(services: Services, home: Home) -> TestClient:
    return TestClient(make_api(services, settings=home.settings), raise_server_exceptions=False)


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), None], ids=["fails", "is silent"])
class TestWithoutTheForecaster:
    def test_forecasts_are_the_last_stored_ones(self, own: Home, healthy: Services, error: Exception | None) -> None:
        body = BODY | {"levels": [0.2, 0.5]}
        before = client_of(healthy, own).post("/v1/forecasts", json=body).json()
        after = client_of(replace(healthy, forecaster=Broken(error)), own).post("/v1/forecasts", json=body)
        answer = ForecastAnswer.model_validate(after.json()).model_dump(mode="json")
        assert (before.pop("is_fallback"), answer.pop("is_fallback")) == (False, True)
        # Stored beside others and predicted with fewer: rounding differs in the last digit.
        for stored, predicted in zip(answer.pop("series"), before.pop("series"), strict=True):
            for name in ("mean", "marginal", "cumulative"):
                np.testing.assert_allclose(stored[name], predicted[name], atol=2e-4)
        assert answer == before

    def test_plans_go_on_and_say_so(self, own: Home, healthy: Services, error: Exception | None) -> None:
        before = client_of(healthy, own).post("/v1/order-plans", json=BODY).json()
        planner = planner_of(own, healthy, forecaster=Broken(error))
        after = client_of(replace(healthy, planner=planner), own).post("/v1/order-plans", json=BODY).json()
        assert after["lines"] == before["lines"]
        asked = client_of(replace(healthy, planner=planner), own).post("/v1/order-plans", json=BODY | {"drivers": True})
        assert asked.json()["lines"] == before["lines"], "drivers of stored forecasts are not known"
        assert after["notes"][0] == "The forecaster did not answer: its last stored forecasts (v0001) are used."


def planner_of(home: Home, healthy: Services, **others: Any) -> LocalHandle:
    asked = {"forecaster": healthy.forecaster, "policy": healthy.policy} | others
    planner = PlannerReplica(home.settings, **asked)
    asyncio.run(planner.reconfigure({"data": open_dataset(home.settings).digest}))
    return LocalHandle(planner)


def test_stored_forecasts_are_cut_to_what_is_asked(own: Home, healthy: Services) -> None:
    client = client_of(replace(healthy, forecaster=Broken(RuntimeError("gone"))), own)
    answer = client.post("/v1/forecasts", json=BODY | {"horizon": 3, "levels": [0.5]}).json()
    assert len(answer["dates"]) == 3
    assert np.shape([row["cumulative"] for row in answer["series"]]) == (2, 3, 1)


def test_another_day_than_that_of_the_stored_forecasts_is_not_answered(own: Home, healthy: Services) -> None:
    client = client_of(replace(healthy, forecaster=Broken(RuntimeError("gone"))), own)
    assert client.post("/v1/forecasts", json=BODY | {"as_of": "2024-04-20"}).status_code == 500


def test_a_refusal_is_passed_on(own: Home, healthy: Services) -> None:
    response = client_of(healthy, own).post("/v1/forecasts", json={"series": [{"item_id": "nothing"}]})
    assert response.status_code == 422


def test_without_policies_the_textbook_orders_and_says_so(own: Home, healthy: Services) -> None:
    planner = planner_of(own, healthy, policy=Broken(RuntimeError("gone")))
    plan = client_of(replace(healthy, planner=planner), own).post("/v1/order-plans", json=BODY).json()
    OrderPlanAnswer.model_validate(plan)
    assert {line["policy"] for line in plan["lines"]} == {"newsvendor"}
    assert all(line["is_fallback"] for line in plan["lines"])
    assert plan["notes"][0] == "The policies did not answer: the textbook newsvendor rule ordered."
    assert set(plan["model_versions"]) == {"forecaster"}


def test_without_the_recommender_the_best_of_each_category_are_shown(own: Home, healthy: Services) -> None:
    client = client_of(replace(healthy, recommender=Broken(None)), own)
    answer = client.get("/v1/recommendations", params={"user_id": "user-1", "k": 6}).json()
    RecommendationAnswer.model_validate(answer)
    assert answer["is_fallback"] is True
    assert answer["model_version"] == "popular"
    reasons = [item["reason"] for item in answer["items"]]
    assert {reason.split()[2] for reason in reasons[:3]} == set(CATEGORIES)
    assert "item-1" not in {item["item_id"] for item in answer["items"]}, "it is out of stock"


def test_popular_items_come_in_rounds_of_categories(own: Home) -> None:
    panel = open_dataset(own.settings).panel()
    found = popular_items(panel, sold_out=frozenset())
    assert sum(share for _, _, share in found) == pytest.approx(1)
    for first in range(0, 6, 3):
        assert len({category for _, category, _ in found[first : first + 3]}) == 3
    for category in CATEGORIES:
        shares = [share for _, of, share in found if of == category]
        assert shares == sorted(shares, reverse=True)


def test_no_stored_forecasts_leave_the_first_reason(tmp_path: Path, own: Home, healthy: Services) -> None:
    empty = own.settings.model_copy(update={"home": tmp_path})
    with pytest.raises(Exception, match="no forecasts have been stored"):
        ForecastStore(empty, data="none").read(np.array([0]))


class TestPatience:
    def test_a_lost_replica_is_asked_again(self) -> None:
        from ray.exceptions import ActorDiedError

        outcomes: list[Any] = [ActorDiedError(), ActorDiedError(), 7]

        async def method(number: int) -> int:
            outcome = outcomes.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return int(outcome) + number

        handle = PatientHandle(SimpleNamespace(ask=SimpleNamespace(remote=method)))
        assert asyncio.run(handle.ask.remote(1)) == 8

    def test_an_error_of_the_replica_is_not_asked_for_again(self) -> None:
        asked = []

        async def method() -> None:
            asked.append(1)
            raise KeyError("bug")

        handle = PatientHandle(SimpleNamespace(ask=SimpleNamespace(remote=method)))
        with pytest.raises(KeyError):
            asyncio.run(handle.ask.remote())
        assert len(asked) == 1
