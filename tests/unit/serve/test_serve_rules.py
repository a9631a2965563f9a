"""What the recommender shows where the shop gives stock and suppliers, and what else its answer names."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from serving_home import AFTER_ON, CATEGORIES, ITEMS, USERS, Home, make_home
from starlette.testclient import TestClient

from cluster.dataset import open_dataset
from cluster.privacy import open_user_ids
from serve.deployments.recommender import RecommenderReplica

GONE = ("item-1", "item-4")


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Two items are out of stock: one has no units, those of the other are promised. Item 7 fills the shelf."""
    folder = tmp_path_factory.mktemp("stocked")
    units = dict.fromkeys(ITEMS, 20.0) | {"item-1": 0.0, "item-4": 5.0, "item-7": 5_000.0}
    stock = pl.DataFrame(
        {
            "item_id": list(units),
            "on_hand_qty": list(units.values()),
            "reserved_qty": [5.0 if item == "item-4" else 0.0 for item in units],
            "snapshot_on": [AFTER_ON] * len(units),
        }
    )
    stock.write_csv(folder / "stock.csv")
    return make_home(
        folder / "shop",
        overrides=(f'data.tables.stock.uri="{folder / "stock.csv"}"', "rules.overstock_weight=100"),
    )


@pytest.fixture(scope="module")
def with_new_items(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Three items were never sold: one is on the shelf, one is not, one is like nothing else."""
    folder = tmp_path_factory.mktemp("arrivals")
    names = {item: f"cheese number{row}" for row, item in enumerate(ITEMS)}
    names |= {"arrival": "number3 cheese", "announced": "number3 cheese", "strange": "wheelbarrow"}
    categories = [None if item == "strange" else CATEGORIES[0] for item in names]
    items = pl.DataFrame({"item_id": list(names), "name": list(names.values()), "category_id": categories})
    items.write_csv(folder / "items.csv")
    stocked_items = [*ITEMS, "arrival", "strange"]
    stock = pl.DataFrame(
        {
            "item_id": stocked_items,
            "on_hand_qty": [20.0] * len(stocked_items),
            "snapshot_on": [AFTER_ON] * len(stocked_items),
        }
    )
    stock.write_csv(folder / "stock.csv")
    tables = {name: folder / f"{name}.csv" for name in ("items", "stock")}
    uris = [f'data.tables.{name}.uri="{path}"' for name, path in tables.items()]
    return make_home(folder / "shop", overrides=(*uris, "rules.new_item_weight=1", "rules.diversity=0"))


def replica_of(home: Home) -> RecommenderReplica:
    replica = RecommenderReplica(home.settings)
    digest = open_dataset(home.settings).digest
    asyncio.run(replica.reconfigure({"version": home.store.load("recommender").version, "data": digest}))
    return replica


def users_of(home: Home) -> list[str]:
    """The shop's users, called as models call them."""
    users = open_user_ids(home.settings)
    return [users.hash_id(user) for user in USERS]


def test_what_is_out_of_stock_or_promised_is_not_recommended_to_anybody(stocked: Home) -> None:
    answer = asyncio.run(replica_of(stocked).recommend([*users_of(stocked), "stranger"], k=len(ITEMS)))
    shown = set(answer.item_ids_UK.ravel().tolist()) - {""}
    assert shown == set(ITEMS) - set(GONE)


def test_a_new_item_on_the_shelf_is_shown_and_says_what_it_is_like(with_new_items: Home) -> None:
    answer = asyncio.run(replica_of(with_new_items).recommend(users_of(with_new_items), k=len(ITEMS) + 3))
    for items, reasons, scores in zip(answer.item_ids_UK, answer.reason_UK, answer.score_UK, strict=True):
        told = dict(zip(items.tolist(), reasons.tolist(), strict=True))
        worth = dict(zip(items.tolist(), scores.tolist(), strict=True))
        assert told["arrival"] == "new, and like item-3"
        assert 0 < worth["arrival"] <= max(worth.values())
        assert "announced" not in told
        assert [item for item, reason in told.items() if reason.startswith("new")] == ["arrival"]


def test_new_items_are_not_shown_where_nobody_asks_for_it(stocked: Home) -> None:
    answer = asyncio.run(replica_of(stocked).recommend(users_of(stocked), k=20))
    assert set(answer.item_ids_UK.ravel().tolist()) - {""} <= set(ITEMS)


def test_what_fills_the_shelf_comes_first_and_says_why(stocked: Home) -> None:
    answer = asyncio.run(replica_of(stocked).recommend(users_of(stocked), k=3))
    assert set(answer.item_ids_UK[:, 0].tolist()) == {"item-7"}
    assert set(answer.reason_UK[:, 0].tolist()) == {"we have more of it than we need"}


def test_the_answer_names_interests_and_what_is_due(client: TestClient) -> None:
    answer = client.get("/v1/recommendations", params={"user_id": "user-1", "k": 4}).json()
    shares = [interest["share"] for interest in answer["interests"]]
    assert {interest["category_id"] for interest in answer["interests"]} == set(CATEGORIES)
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1, abs=0.001)
    chances = [due["probability"] for due in answer["due_items"]]
    assert len(chances) == 4
    assert chances == sorted(chances, reverse=True)
    assert all(0 < chance < 1 for chance in chances)
    assert answer["due_within_days"] == 7


def test_a_stranger_is_interested_in_what_all_are_and_nothing_is_due(client: TestClient) -> None:
    answer = client.get("/v1/recommendations", params={"user_id": "nobody"}).json()
    assert answer["due_items"] == []
    assert np.isclose(sum(interest["share"] for interest in answer["interests"]), 1, atol=0.001)


def test_intent_is_null_where_the_shop_has_no_events_to_learn_from(client: TestClient) -> None:
    event = {"item_id": "item-1", "event_type": "view", "occurred_at": datetime.now(UTC).isoformat()}
    response = client.post("/v1/intents", json={"events": [event]})
    assert response.status_code == 200
    assert response.json()["probability"] is None
    assert client.post("/v1/intents", json={"events": []}).status_code == 422
    assert client.post("/v1/intents", json={"events": [event | {"event_type": "stole"}]}).status_code == 422


def test_a_recommender_that_was_stored_alone_still_answers(stocked: Home, tmp_path: Path) -> None:
    own = make_home(tmp_path)
    folder = own.store.load("recommender").folder
    (folder / "insight").rename(tmp_path / "elsewhere")
    answer = asyncio.run(replica_of(own).recommend(users_of(own)[:1], k=2)).to_json(0)
    assert len(answer["items"]) == 2
    assert answer["interests"] == answer["due_items"] == []
    assert answer["due_within_days"] is None
