import numpy as np
import pytest
from behaviour_log import orders_of, random_orders, read

from recsys.models.ease import EaseModel
from recsys.models.factors import AlsModel, BprModel
from recsys.models.tifu import TifuKnn
from recsys.models.transitions import TransitionModel


def paths(*routes):
    """One user per route, one item per basket."""
    return read(
        orders_of(
            [(f"u{n}", f"{n}-{day}", item, day) for n, route in enumerate(routes) for day, item in enumerate(route, 1)]
        )
    )


def score(model, log, history):
    asked = read(orders_of([("asked", str(day), item, day) for day, item in enumerate(history, 1)]))
    rows = log.item_rows(asked.item_ids_I)
    moved = type(asked)(
        **{name: getattr(asked, name) for name in asked.__slots__}
        | {"item_ids_I": log.item_ids_I, "item_E": rows[asked.item_E].astype(np.int32)}
    )
    return dict(zip(log.item_ids_I.tolist(), model.score_UI(moved)[0].tolist(), strict=True))


def test_shares_of_what_came_next():
    log = paths("ab", "ab", "ac", "bc")
    scores = score(TransitionModel().fit(log), log, "a")
    assert scores == pytest.approx({"a": 0, "b": 2 / 3, "c": 1 / 3})


def test_the_textbook_chain_reads_the_last_basket_only_and_recency_reads_on():
    log = paths("ab", "cd")
    assert score(TransitionModel().fit(log), log, "ac")["b"] == 0
    assert score(TransitionModel(recency=0.5).fit(log), log, "ac") == pytest.approx({"a": 0, "b": 0.5, "c": 0, "d": 1})


def test_later_lags_count_their_reciprocal():
    log = paths("abc")
    counted = score(TransitionModel(max_lag=2, shares=False).fit(log), log, "a")
    assert counted == pytest.approx({"a": 0, "b": 1, "c": 0.5})


def test_the_second_order_tells_pairs_apart_where_the_first_cannot():
    log = paths("axb", "axb", "cxd", "cxd")
    first, second = TransitionModel().fit(log), TransitionModel(order=2, back_off=0.5).fit(log)
    assert score(first, log, "ax")["b"] == score(first, log, "ax")["d"]
    assert score(second, log, "ax") == pytest.approx({"a": 0, "b": 1.25, "c": 0, "d": 0.25, "x": 0})
    assert score(second, log, "bx")["b"] == pytest.approx(0.25), "a pair that nobody had falls back to the first order"


def test_ease_is_the_ridge_regression_of_each_item_on_the_others():
    log = read(random_orders(seed=3))
    model = EaseModel(ridge=2.0, num_neighbours=1_000).fit(log)
    taken = np.zeros((log.num_users, log.num_items))
    taken[log.user_E, log.item_E] = 1
    for item in range(log.num_items):
        others = np.delete(taken, item, axis=1)
        gram = others.T @ others + 2.0 * np.eye(log.num_items - 1)
        wanted = np.insert(np.linalg.solve(gram, others.T @ taken[:, item]), item, 0.0)
        np.testing.assert_allclose(model.weight_II[:, [item]].toarray()[:, 0], np.maximum(wanted, 0), atol=1e-4)


def test_als_solves_for_the_vector_of_a_history():
    log = read(random_orders(seed=4))
    model = AlsModel(num_factors=3, confidence=5.0, ridge=0.5).fit(log)
    taken = np.zeros((log.num_users, log.num_items))
    taken[log.user_E, log.item_E] = 1
    for user in range(log.num_users):
        weight = np.diag(1 + 5.0 * taken[user])
        left = model.item_ID.T @ weight @ model.item_ID + 0.5 * np.eye(3)
        vector = np.linalg.solve(left, model.item_ID.T @ weight @ taken[user])
        expected = np.maximum(model.item_ID @ vector, 0)
        np.testing.assert_allclose(model.score_UI(log.take(np.array([user])))[0], expected, atol=1e-4)


@pytest.mark.parametrize("model", [AlsModel(num_factors=8), BprModel(num_factors=8, epochs=60)], ids=["als", "bpr"])
def test_factors_find_the_other_items_of_a_taste(model):
    log = paths(*["abc", "bcd", "acd", "abd"] * 6, *["wxy", "xyz", "wyz", "wxz"] * 6)
    scores = score(model.fit(log), log, "ab")
    assert min(scores["c"], scores["d"]) > max(scores[item] for item in "wxyz")


def test_tifu_weighs_baskets_by_place_in_group_and_groups_by_age():
    log = paths("abc", "z")
    model = TifuKnn(group_size=2, basket_decay=0.5, group_decay=0.1, own_share=1.0).fit(log)
    scores = score(model, log, "abc")
    assert scores == pytest.approx({"a": 0.1 / 4, "b": 0.5 / 4, "c": 1 / 4, "z": 0}), "two groups of two baskets"


def test_tifu_adds_what_near_users_take():
    log = paths("ab", "ab", "yz")
    scores = score(TifuKnn(own_share=0.5, num_neighbours=2).fit(log), log, "a")
    assert scores["b"] > 0
    assert scores["y"] == scores["z"] == 0
