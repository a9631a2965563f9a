import numpy as np
import pytest
from behaviour_log import at, orders_of, random_orders, read
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.interactions import PURCHASE, VIEW, seconds_of
from recsys.predict import append_events
from recsys.sessions import LiveEvent, SessionStore

NOW = 1_000_000


def store_of(**limits):
    return SessionStore(**({"max_users": 3, "max_items": 100, "events_per_user": 3, "ttl_s": 100} | limits))


def items(store, user="u", now_s=NOW):
    return [event.item_id for event in store.events(user, now_s=now_s)]


def view(item_id, at_s=None, behaviour="view"):
    return LiveEvent(item_id=item_id, behaviour=behaviour, at_s=at_s)


def test_events_come_back_oldest_first_with_what_was_done():
    store = store_of()
    assert store.add("u", view("b", NOW - 5, "cart"), now_s=NOW)
    assert store.add("u", view("a", NOW - 9), now_s=NOW), "one that arrives late is put where its time belongs"
    assert store.add("u", view("c"), now_s=NOW)
    assert store.events("u", now_s=NOW) == (view("a", NOW - 9), view("b", NOW - 5, "cart"), view("c", NOW))
    assert store.events("somebody else", now_s=NOW) == ()


def test_an_event_told_twice_counts_once_and_one_from_the_future_is_of_now():
    store = store_of()
    assert store.add("u", view("a", NOW - 1), now_s=NOW)
    assert not store.add("u", view("a", NOW - 1), now_s=NOW)
    assert store.add("u", view("a", NOW - 1, "cart"), now_s=NOW), "another behaviour is another event"
    assert store.add("u", view("z", NOW + 9_999), now_s=NOW)
    assert store.events("u", now_s=NOW)[-1] == view("z", NOW)


def test_only_the_latest_events_of_a_user_are_kept_however_many_come():
    store = store_of()
    for number in range(5_000):
        store.add("u", view(f"i{number % 7}", NOW - 50 + number // 200), now_s=NOW)
    assert len(store.events("u", now_s=NOW)) == 3
    assert not store.add("u", view("old", NOW - 90), now_s=NOW), "older than all that is kept"
    assert "old" not in items(store)


def test_a_session_ends_and_asking_does_not_prolong_it():
    store = store_of()
    store.add("u", view("a"), now_s=NOW)
    assert items(store, now_s=NOW + 99) == ["a"]
    assert items(store, now_s=NOW + 100) == []
    store.add("u", view("b"), now_s=NOW + 150)
    assert items(store, now_s=NOW + 150) == ["b"], "a new session begins empty"
    assert not store.add("u", view("c", NOW), now_s=NOW + 150), "an event from before the session can last"
    assert store.expire(now_s=NOW + 300) == 1
    assert len(store) == 0


def test_the_user_idle_longest_makes_room():
    store = store_of()
    for user in ("a", "b", "c", "a", "d"):
        store.add(user, view("x"), now_s=NOW)
    assert len(store) == 3
    assert [user for user in "abcd" if items(store, user)] == ["a", "c", "d"]


def test_a_clock_that_goes_back_ends_no_session():
    store = store_of()
    store.add("u", view("a"), now_s=NOW)
    store.add("u", view("b"), now_s=NOW - 80)
    assert sorted(items(store, now_s=NOW + 50)) == ["a", "b"]


def test_memory_stays_what_it_is_when_a_million_users_pass():
    store = store_of(max_users=2_000, ttl_s=10_000)
    for number in range(20_000):
        store.add(f"user-{number}", view("x"), now_s=NOW + number // 100)
    assert len(store) == 2_000
    assert store.num_bytes == 2_000 * (3 * (4 + 8 + 1) + 8)
    assert items(store, "user-19999", NOW + 200) == ["x"]


def test_one_item_too_many_is_not_kept_and_no_user_id_is():
    store = store_of(max_items=1)
    assert store.add("mary@example.org", view("x"), now_s=NOW)
    assert not store.add("mary@example.org", view("y"), now_s=NOW)
    assert "mary" not in repr(vars(store))
    assert store.forget("mary@example.org")
    assert not store.forget("mary@example.org")
    assert items(store, "mary@example.org") == []


def test_wrong_limits_and_behaviours_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        store_of(max_users=0)
    with pytest.raises(ValueError, match="behaviour must be one of"):
        view("a", behaviour="theft")


@given(
    st.lists(
        st.tuples(st.sampled_from("abcde"), st.sampled_from("xyz"), st.integers(-150, 20), st.integers(0, 40)),
        max_size=60,
    )
)
@settings(max_examples=150, deadline=None)
def test_whatever_comes_events_are_few_ordered_and_within_the_session(calls):
    store, now_s = store_of(), NOW
    for user, item, shift, step in calls:
        now_s += step
        store.add(user, view(item, now_s + shift), now_s=now_s)
        assert len(store) <= 3
        for name in "abcde":
            times = [event.at_s for event in store.events(name, now_s=now_s)]
            assert times == sorted(times)
            assert len(times) <= 3
            assert all(at_s <= now_s for at_s in times)


def test_live_events_follow_the_history_and_age_it():
    log = read(random_orders(seed=2))
    known = log.take(np.array([0, 1]))
    end = int(log.now_U.max())
    late = [[view("?"), view("i01", end + 86_400, "purchase"), view("i02")], []]
    rows = [log.item_rows([event.item_id for event in events]) for events in late]
    after = append_events(known, late, item_rows=rows)
    assert np.diff(after.offset_U1).tolist() == (np.diff(known.offset_U1) + np.array([2, 0])).tolist()
    added = slice(int(after.offset_U1[1]) - 2, int(after.offset_U1[1]))
    assert after.item_E[added].tolist() == log.item_rows(["i02", "i01"]).tolist(), "in order of time"
    assert after.behaviour_E[added].tolist() == [VIEW, PURCHASE]
    assert after.now_U.tolist() == [end + 86_400, end]
    assert (np.diff(after.basket_E) >= 0).all()


def test_duplicates_and_order_of_arrival_in_the_log_change_nothing():
    lines = [("a", "1", "x", 1), ("a", "2", "y", 2), ("b", "3", "x", 5)]
    once, shuffled = read(orders_of(lines)), read(orders_of([*lines[::-1], *lines]))
    np.testing.assert_array_equal(once.item_E, shuffled.item_E)
    np.testing.assert_array_equal(once.time_E, shuffled.time_E)
    assert once.time_E[0] == seconds_of(at(1))
