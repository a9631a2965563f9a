from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from behaviour_log import at, events_of, orders_of, random_orders, read
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import DataError
from cluster.settings.models import RecommenderSettings
from recsys.interactions import BEHAVIOURS, PURCHASE, make_interactions, rows_of, seconds_of

ARRAYS = ("user_ids_U", "item_ids_I", "offset_U1", "item_E", "behaviour_E", "basket_E", "time_E", "now_U")


def assert_same(left, right):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)


def sequence(interactions, user):
    row = int(interactions.user_rows([user])[0])
    part = interactions.take(np.array([row]))
    return [(interactions.item_ids_I[i], BEHAVIOURS[b]) for i, b in zip(part.item_E, part.behaviour_E, strict=True)]


def test_sequences_are_in_time_order_with_baskets_together():
    found = read(orders_of([("b", "2", "y", 5), ("b", "1", "x", 1), ("a", "3", "z", 2), ("a", "3", "x", 2.01)]))
    assert list(found.user_ids_U) == ["a", "b"]
    assert list(found.item_ids_I[found.item_E]) == ["x", "z", "x", "y"]
    assert list(found.offset_U1) == [0, 2, 4]
    assert list(found.basket_E) == [0, 0, 1, 2]
    assert found.time_E[0] == found.time_E[1] == int(at(2).timestamp())


def test_guests_returns_and_repeated_lines_are_no_events():
    lines = [(None, "1", "x", 1), ("a", "2", "x", 1), ("a", "2", "x", 1), ("a", "3", "y", 2, -1.0), ("b", "4", "y", 3)]
    found = read(orders_of(lines))
    assert sequence(found, "a") == [("x", "purchase")]
    assert sequence(found, "b") == [("y", "purchase")]


def test_events_join_purchases_and_a_told_purchase_counts_once():
    orders = orders_of([("a", "1", "x", 2)])
    events = events_of(
        [
            ("a", "y", 1, "view"),
            ("a", "x", 2.2, "purchase"),
            ("a", "x", 9, "purchase"),
            ("a", "x", 3, "review", 2.0),
            ("a", "y", 4, "review", 5.0),
            (None, "y", 4, "view"),
        ]
    )
    expected = [("y", "view"), ("x", "purchase"), ("x", "poor review"), ("y", "review"), ("x", "purchase")]
    found = read(orders, events)
    assert sequence(found, "a") == expected
    assert list(np.diff(found.basket_E)) == [1, 1, 1, 1]


def test_a_rare_item_is_left_out():
    orders = orders_of([("a", "1", "x", 1), ("b", "2", "x", 1), ("a", "3", "y", 2), ("a", "4", "y", 3)])
    found = make_interactions(orders, until=at(9), settings=RecommenderSettings(min_item_users=2))
    assert list(found.item_ids_I) == ["x"]
    assert found.num_events == 2


@given(seed=st.integers(0, 1_000), cut=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_nothing_at_or_after_until_is_read(seed, cut):
    orders = random_orders(seed=seed)
    before = [instant < at(cut) for instant in orders["ordered_at"].to_pylist()]
    assert_same(read(orders, until=cut), read(orders.filter(pa.array(before)), until=cut))


@given(seed=st.integers(0, 1_000))
@settings(max_examples=25, deadline=None)
def test_the_order_of_rows_does_not_matter(seed):
    orders = random_orders(seed=seed)
    shuffled = orders.take(np.random.default_rng(seed).permutation(orders.num_rows))
    assert_same(read(orders), read(shuffled))


@pytest.mark.parametrize("min_users", [1, 3])
def test_nothing_to_learn_from_says_what_to_do(min_users):
    settings_ = RecommenderSettings(min_item_users=min_users)
    guests = orders_of([(None, "1", "x", 1)] if min_users == 1 else [("a", "1", "x", 1), ("b", "2", "y", 1)])
    with pytest.raises(DataError, match="user_id" if min_users == 1 else "min_item_users"):
        make_interactions(guests, until=at(9), settings=settings_)


def test_take_repeats_reorders_and_leaves_strangers_empty():
    found = read(orders_of([("a", "1", "x", 1), ("a", "2", "y", 2), ("b", "3", "z", 3)]))
    taken = found.take(np.array([1, -1, 0, 0]))
    assert list(taken.offset_U1) == [0, 1, 1, 3, 5]
    assert list(found.item_ids_I[taken.item_E]) == ["z", "x", "y", "x", "y"]
    assert list(taken.basket_E) == [0, 1, 2, 3, 4]
    assert list(taken.user_ids_U) == ["b", "", "a", "a"]


def test_before_forgets_and_counts_ages_from_there():
    found = read(orders_of([("a", "1", "x", 1), ("a", "2", "y", 4)])).before(int(at(3).timestamp()))
    assert found.num_events == 1
    assert found.age_days_E.tolist() == [2.0]


def test_latest_keeps_the_end_of_each_history():
    found = read(orders_of([("a", "1", "x", 1), ("a", "2", "y", 4), ("b", "3", "x", 4)])).latest(1)
    assert list(found.item_ids_I[found.item_E]) == ["y", "x"]
    assert list(found.offset_U1) == [0, 1, 2]


def test_small_tools():
    assert rows_of(np.array(["a", "c"]), ["c", "b", "a"]).tolist() == [1, -1, 0]
    assert rows_of(np.array([], dtype=str), ["c"]).tolist() == [-1]
    assert seconds_of(date(1970, 1, 2)) == 86_400
    assert BEHAVIOURS[PURCHASE] == "purchase"
