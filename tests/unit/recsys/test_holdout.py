import numpy as np
import pytest
from behaviour_log import at, events_of, orders_of, random_orders, read

from cluster.errors import DataError
from recsys.holdout import hold_out_days, hold_out_last_basket, hold_out_next_basket, hold_out_tables

LINES = [
    ("a", "1", "x", 1),
    ("a", "2", "y", 10),
    ("a", "2", "x", 10),
    ("a", "3", "z", 12),
    ("b", "4", "x", 2),
    ("b", "5", "z", 30),
    ("c", "6", "y", 11),
]
CUT = int(at(5).timestamp())


def answers(holdout):
    ids = holdout.history
    return {
        str(ids.user_ids_U[user]): sorted(ids.item_ids_I[holdout.target_N[start:end]].tolist())
        for user, start, end in zip(holdout.user_V, holdout.offset_V1[:-1], holdout.offset_V1[1:], strict=True)
    }


def test_next_basket_is_the_first_after_the_cut_of_users_with_history():
    holdout = hold_out_next_basket(read(orders_of(LINES)), cut=CUT)
    assert answers(holdout) == {"a": ["x", "y"], "b": ["z"]}
    assert holdout.history.num_events == 2
    assert (holdout.history.now_U == CUT).all()


def test_days_are_everything_within_them():
    holdout = hold_out_days(read(orders_of(LINES)), cut=CUT, days=7)
    assert answers(holdout) == {"a": ["x", "y"]}
    assert answers(hold_out_days(read(orders_of(LINES)), cut=CUT, days=8)) == {"a": ["x", "y", "z"]}


def test_last_basket_needs_an_earlier_one():
    holdout = hold_out_last_basket(read(orders_of(LINES)))
    assert answers(holdout) == {"a": ["z"], "b": ["z"]}
    assert holdout.history.num_events == len(LINES) - 2


def test_purchases_are_to_be_found_not_views():
    events = events_of([("a", "z", 9, "view")])
    assert answers(hold_out_next_basket(read(orders_of(LINES), events), cut=CUT))["a"] == ["x", "y"]


@pytest.mark.parametrize("days", [None, 14])
def test_tables_give_the_same_as_one_log(days):
    orders = random_orders(seed=3)
    whole, cut = read(orders), int(at(21).timestamp())
    expected = hold_out_next_basket(whole, cut=cut) if days is None else hold_out_days(whole, cut=cut, days=days)
    history = read(orders, until=21)
    found = hold_out_tables(history, orders, since=at(21), until=at(999), days=days)
    assert set(history.item_ids_I) == set(whole.item_ids_I)
    assert answers(found) == answers(expected)


def test_tables_without_a_known_user_say_so():
    history = read(orders_of([("a", "1", "x", 1)]))
    with pytest.raises(DataError, match="no user known"):
        hold_out_tables(history, orders_of([("stranger", "2", "x", 9)]), since=at(5), until=at(20))


def test_a_sample_keeps_each_users_items():
    holdout = hold_out_next_basket(read(random_orders(seed=1)), cut=int(at(21).timestamp()))
    few = holdout.sample(7)
    assert len(few) == 7
    assert answers(few).items() <= answers(holdout).items()
    assert np.array_equal(holdout.sample(10_000).target_N, holdout.target_N)
