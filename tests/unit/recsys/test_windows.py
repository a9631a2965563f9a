import numpy as np
from behaviour_log import events_of, orders_of, random_orders, read
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.windows import count_windows, last_events, make_windows, user_table

OPTIONS = {"windows_per_user": 50, "num_targets": 20, "purchases_only": True, "seed": 0}


def test_targets_are_the_items_of_the_next_basket():
    found = read(orders_of([("a", "1", "x", 1), ("a", "2", "y", 2), ("a", "2", "z", 2), ("a", "3", "x", 3)]))
    windows = make_windows(user_table(found, seed=0), length=5, **OPTIONS)
    x, y, z = found.item_rows(["x", "y", "z"])
    assert windows["item_WL"].tolist() == [[x, y, z, -1, -1]]
    assert set(windows["target_WLM"][0, 0]) == {y, z}
    assert (windows["target_WLM"][0, 1:3] == x).all()
    assert (windows["target_WLM"][0, 3:] == -1).all()


def test_only_purchases_are_targets_where_there_are_any():
    found = read(orders_of([("a", "1", "x", 1), ("a", "2", "y", 9)]), events_of([("a", "z", 5, "view")]))
    table = user_table(found, seed=0)
    y, z = found.item_rows(["y", "z"])
    assert set(make_windows(table, length=3, **OPTIONS)["target_WLM"][0, :2].ravel()) == {y}
    anything = make_windows(table, length=3, **(OPTIONS | {"purchases_only": False}))
    assert set(anything["target_WLM"][0, 0]) == {z}


@given(seed=st.integers(0, 500), length=st.integers(1, 9), most=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_windows_cover_the_latest_events_once(seed, length, most):
    found = read(random_orders(seed=seed, num_users=6))
    table = user_table(found, seed=seed)
    options = OPTIONS | {"windows_per_user": most}
    windows = make_windows(table, length=length, **options)
    counted = {name: options[name] for name in ("windows_per_user", "purchases_only")}
    assert len(windows["item_WL"]) == count_windows(table, length=length, **counted)
    last = found.basket_E[found.offset_U1[1:] - 1][found.user_E]
    labelled = np.bincount(found.user_E[found.basket_E != last], minlength=found.num_users)
    assert (windows["item_WL"] >= 0).sum() == np.minimum(labelled, most * length).sum()
    assert ((windows["item_WL"] >= 0) == (windows["target_WLM"][..., 0] >= 0)).all()


def test_last_events_stand_left_and_are_the_latest():
    found = read(orders_of([("a", str(day), item, day) for day, item in enumerate("xyz")] + [("b", "9", "z", 1)]))
    batch = last_events(found.take(np.array([0, 1, -1])), length=2)
    y, z = found.item_rows(["y", "z"])
    assert batch["item_WL"].tolist() == [[y, z], [z, -1], [-1, -1]]
    assert batch["length_W"].tolist() == [2, 1, 0]
    assert batch["gap_WL"][0, 1] > 0
    assert batch["gap_WL"][1, 0] == 0
