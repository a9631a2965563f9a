import numpy as np
import pyarrow as pa

from cluster.item_content import make_content
from cluster.schema import ITEMS
from recsys.baskets import Baskets
from recsys.likeness import nearest_items
from recsys.pairs import find_pairs
from recsys.substitution import find_complements, find_substitutes

NAMES = {
    "b1": ("white bread sliced", "bread"),
    "b2": ("white bread sliced", "bread"),
    "b3": ("white bread sliced", "bread"),
    "jam": ("strawberry jam", "spreads"),
    "tea": ("black tea", "drinks"),
    "salt": ("sea salt", "spices"),
}
FILLERS = {f"z{row:02d}": (f"thing number {row}", f"aisle {row % 5}") for row in range(40)}
SHOP = {**NAMES, **FILLERS}


def items_table(names=SHOP):
    rows = [{"item_id": item, "name": name, "category_id": category} for item, (name, category) in names.items()]
    return pa.Table.from_pylist(rows, schema=ITEMS)


def simulate(*, seed, out_of_stock=lambda basket: False, num_users=120, num_baskets=20):
    """A basket wants bread: b1 or, in its place, b2; b3 is only bought along with b1. Jam goes with bread."""
    rng = np.random.default_rng(seed)
    ids = sorted(SHOP)
    row_of = {item: row for row, item in enumerate(ids)}
    lines, sizes, users, days = [], [], [], []
    for user in range(num_users):
        for basket in range(num_baskets):
            chosen = {item for item in ("tea", "salt") if rng.random() < 0.2}
            chosen |= {f"z{row:02d}" for row in rng.integers(0, 40, rng.integers(1, 5))}
            if rng.random() < 0.6:
                first = "b1" if rng.random() < 0.6 and not out_of_stock(basket) else "b2"
                chosen.add(first)
                if first == "b1" and rng.random() < 0.5:
                    chosen.add("b3")
                if rng.random() < 0.6:
                    chosen.add("jam")
            lines += sorted(row_of[item] for item in chosen)
            sizes.append(len(chosen))
            users.append(user)
            days.append(basket)
    return Baskets(
        item_ids_I=np.array(ids),
        offset_G1=np.concatenate([[0], np.cumsum(sizes)]),
        item_N=np.array(lines, dtype=np.int32),
        user_G=np.array(users),
        day_G=np.array(days),
    )


def named(neighbours, item):
    row = neighbours.item_ids_I.tolist().index(item)
    return [neighbours.item_ids_I[other] for other in neighbours.item_IK[row] if other >= 0]


def test_a_planted_substitute_comes_before_the_one_that_is_bought_along():
    """b2 and b3 are described alike; only b2 is taken in the place of b1."""
    found = find_substitutes(make_content(items_table()), simulate(seed=0), k=3)
    assert named(found, "b1") == ["b2", "b3"]
    assert found.kind == "substitute"


def test_the_planted_substitute_is_what_sells_when_the_item_is_out_of_stock():
    """Simulated truth: from basket 10 on, b1 is out of stock; what was learned before names who gains."""
    baskets = simulate(seed=1, out_of_stock=lambda basket: basket >= 10)
    before, after = baskets.keep(baskets.day_G < 10), baskets.keep(baskets.day_G >= 10)
    best = named(find_substitutes(make_content(items_table()), before, k=3), "b1")[0]
    gain = dict(zip(baskets.item_ids_I, (after.num_I - before.num_I).tolist(), strict=True))
    assert gain[best] == max(gain.values())
    assert gain[best] > 0.7 * before.num_I[baskets.item_ids_I.tolist().index("b1")]
    assert abs(gain["tea"]) < 0.2 * gain[best]


def test_a_planted_complement_is_found_both_ways_and_nothing_else():
    baskets = simulate(seed=2)
    category_ids_I = np.array([SHOP[item][1] for item in baskets.item_ids_I])
    found = find_complements(find_pairs(baskets), category_ids_I=category_ids_I, k=4)
    assert set(named(found, "jam")) == {"b1", "b2", "b3"}
    assert named(found, "b2") == ["jam"]
    assert named(found, "tea") == named(found, "salt") == []
    assert found.kind == "complement"


def test_an_item_that_nothing_is_written_of_has_no_substitute_and_a_new_one_has_like_items():
    names = {**SHOP, "new": ("white bread dark crust", "bread"), "blank": (None, None)}
    content = make_content(items_table(names))
    like = nearest_items(content, k=3)
    assert set(named(like, "new")) == {"b1", "b2", "b3"}
    assert named(like, "blank") == []
    some = make_content(items_table({name: value for name, value in SHOP.items() if name != "b1"}))
    assert named(find_substitutes(some, simulate(seed=0)), "b1") == []


def test_like_items_can_be_limited_to_those_that_sell():
    content = make_content(items_table())
    like = nearest_items(content, k=5, among_I=content.item_ids_I == "b3")
    assert named(like, "b1") == ["b3"]
    assert like.score_IK.max() <= 1 + 1e-6


def test_blocks_give_the_same_neighbours_as_one(monkeypatch):
    content = make_content(items_table())
    whole = nearest_items(content, k=4)
    monkeypatch.setattr("recsys.likeness._BLOCK", 2)
    parts = nearest_items(content, k=4)
    np.testing.assert_array_equal(whole.item_IK, parts.item_IK)
    np.testing.assert_allclose(whole.score_IK, parts.score_IK)
