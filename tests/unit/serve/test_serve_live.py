"""Promotions and late orders in a request: forecasts and plans follow them, and nobody else's do."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from serving_home import AFTER_ON, FIRST_ON, HORIZON, ITEMS, Home, make_home
from starlette.testclient import TestClient

from cluster.dataset import open_dataset
from forecasting.explain import driver_phrases
from forecasting.explain_blend import explain_served
from forecasting.live import LiveForecasts
from forecasting.team import load_forecaster
from rl.assumptions import make_supply_terms
from serve.ingress import make_api
from serve.layout import LocalReplicas
from serve.releases import serving_versions

YESTERDAY = AFTER_ON - timedelta(days=1)
SERIES = {"series": [{"item_id": "item-3"}, {"item_id": "item-0"}]}
OFFER = {"item_id": "item-3", "promotion_type": "mailer", "start_on": str(AFTER_ON), "end_on": "2024-05-03"}
LATE = {"item_id": "item-3", "sold_on": str(YESTERDAY), "sold_qty": 40.0}


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("promoted")
    offers = pl.DataFrame(
        {
            "item_id": ITEMS,
            "promotion_type": ["mailer"] * len(ITEMS),
            "start_on": [FIRST_ON + timedelta(days=20 + row) for row in range(len(ITEMS))],
            "end_on": [FIRST_ON + timedelta(days=24 + row) for row in range(len(ITEMS))],
        }
    )
    offers.write_csv(folder / "promotions.csv")
    return make_home(folder / "shop", overrides=(f'data.tables.promotions.uri="{folder / "promotions.csv"}"',))


@pytest.fixture(scope="module")
def shop(promoted: Home) -> Iterator[TestClient]:
    replicas = LocalReplicas(promoted.settings)
    asyncio.run(replicas.reconfigure(serving_versions(promoted.settings)))
    with TestClient(make_api(replicas.services, settings=promoted.settings)) as client:
        yield client


def means(client: TestClient, **changes: Any) -> np.ndarray:
    response = client.post("/v1/forecasts", json=SERIES | changes)
    assert response.status_code == 200, response.text
    return np.array([row["mean"] for row in response.json()["series"]])


def test_forecasts_are_those_of_a_history_that_holds_the_changes(promoted: Home, shop: TestClient) -> None:
    panel = open_dataset(promoted.settings).panel()
    live = LiveForecasts(load_forecaster(promoted.store.load("forecaster").folder), panel)
    rows, last = np.array([3, 0]), panel.num_periods - 1
    live.correct_sales(rows[:1], period=last, sold_R=panel.sales_ST[3:4, last] + 40)
    live.announce_promotions(rows[:1], promotion_RAP=np.ones((1, 3, 1), dtype=np.float32))
    offer = OFFER | {"end_on": str(AFTER_ON + timedelta(days=2))}
    got = means(shop, promotions=[offer], late_orders=[LATE])
    np.testing.assert_allclose(got, live.forecast(rows).mean_SH, atol=1e-3)


@pytest.mark.parametrize("changes", [{"promotions": [OFFER]}, {"late_orders": [LATE]}], ids=["promotion", "order"])
def test_a_change_moves_its_own_series_only(shop: TestClient, changes: dict[str, Any]) -> None:
    before, after = means(shop), means(shop, **changes)
    assert np.abs(after[0] - before[0]).max() > 0.01
    np.testing.assert_allclose(after[1], before[1], atol=2e-4)
    np.testing.assert_allclose(means(shop), before, atol=2e-4, err_msg="nothing of it is kept")


def test_a_plan_follows_the_changes(shop: TestClient) -> None:
    def expected(**changes: Any) -> list[float]:
        lines = shop.post("/v1/order-plans", json=SERIES | changes).json()["lines"]
        return [line["forecast_qty"] for line in lines]

    before, after = expected(), expected(late_orders=[LATE], promotions=[OFFER])
    assert after[0] != pytest.approx(before[0], abs=0.01)
    assert after[1] == pytest.approx(before[1], abs=1e-3)


def test_a_plan_names_what_moves_demand_if_asked(promoted: Home, shop: TestClient) -> None:
    def lines(**asked: Any) -> list[dict[str, Any]]:
        plan = shop.post("/v1/order-plans", json=SERIES | {"late_orders": [LATE]} | asked).json()
        return list(plan["lines"])

    plain, told = lines(), lines(drivers=True)
    panel = open_dataset(promoted.settings).panel().take(np.array([3, 0]))
    panel.sales_ST[0, -1] += 40
    terms, _ = make_supply_terms(None, panel=panel, settings=promoted.settings)
    periods_S = terms.protection_interval_S.astype(np.int64)
    model = load_forecaster(promoted.store.load("forecaster").folder)
    phrases = driver_phrases(explain_served(model, panel, periods=periods_S))
    assert any(phrases)
    for line, silent, phrase in zip(told, plain, phrases, strict=True):
        assert (f"({phrase})" in line["reason"]) == bool(phrase)
        assert "usual" not in silent["reason"]
        assert {name: line[name] for name in line if name != "reason"} == {
            name: silent[name] for name in silent if name != "reason"
        }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"promotions": [OFFER | {"promotion_type": "radio"}]}, "no such channel"),
        ({"late_orders": [LATE | {"sold_on": str(AFTER_ON)}]}, "history holds the days from"),
        ({"late_orders": [LATE | {"sold_on": "2020-01-01"}]}, "history holds the days from"),
        ({"promotions": [OFFER | {"end_on": "2024-01-01"}]}, "not as documented"),
        ({"late_orders": [LATE | {"sold_qty": -1.0}]}, "not as documented"),
    ],
)
def test_what_cannot_be_is_refused(shop: TestClient, changes: dict[str, Any], said: str) -> None:
    for path in ("/v1/forecasts", "/v1/order-plans"):
        response = shop.post(path, json=SERIES | changes)
        assert response.status_code == 422
        assert said in response.json()["detail"]


def test_the_promotion_is_known_as_far_as_the_calendar(shop: TestClient) -> None:
    far = OFFER | {"start_on": str(AFTER_ON + timedelta(days=HORIZON + 300)), "end_on": "2030-01-01"}
    np.testing.assert_allclose(means(shop, promotions=[far]), means(shop), atol=2e-4)
