from datetime import date

import numpy as np
import pytest
from behaviour_log import at, orders_of

from cluster.errors import DataError
from recsys.baskets import GUEST, Baskets, make_baskets
from recsys.bundles import Campaign, Offer, suggest_bundles
from recsys.pairs import count_pairs, false_discovery_q_N, find_pairs, fisher_p_N
from recsys.uplift import PromotionEffects

NUM_ITEMS = 60
PLANTED = [(0, 1), (2, 3), (10, 40)]


def simulate(*, seed, planted=(), num_users=150, num_baskets=12):
    """Customers with tastes of their own and baskets of very different sizes; planted pairs are bought together."""
    rng = np.random.default_rng(seed)
    items, sizes, users = [], [], []
    for user in range(num_users):
        taste = rng.dirichlet(np.full(NUM_ITEMS, 0.4))
        for _ in range(num_baskets):
            size = int(rng.choice([2, 3, 15]))
            chosen = set(np.unique(rng.choice(NUM_ITEMS, size=size, p=taste)).tolist())
            for first, second in planted:
                if rng.random() < 0.06:
                    chosen |= {first, second}
            items += sorted(chosen)
            sizes.append(len(chosen))
            users.append(user)
    return Baskets(
        item_ids_I=np.array([f"i{item:02d}" for item in range(NUM_ITEMS)]),
        offset_G1=np.concatenate([[0], np.cumsum(sizes)]),
        item_N=np.array(items, dtype=np.int32),
        user_G=np.array(users),
        day_G=np.zeros(len(users), dtype=np.int64),
    )


def test_planted_bundles_are_found_first():
    found = find_pairs(simulate(seed=1, planted=PLANTED)).found(false_discovery_rate=0.05)
    first = set(zip(found.first_N[:3].tolist(), found.second_N[:3].tolist(), strict=True))
    assert first == set(PLANTED)
    assert (found.lift_N[:3] > 1.5).all()


def test_false_discoveries_stay_below_the_rate_where_fishers_test_calls_noise_a_find():
    shares, fisher = [], []
    for seed in range(8):
        pairs = find_pairs(simulate(seed=100 + seed, planted=PLANTED))
        planted = np.array([pair in PLANTED for pair in zip(pairs.first_N, pairs.second_N, strict=True)])
        called = pairs.q_N <= 0.05
        shares.append((called & ~planted).sum() / max(called.sum(), 1))
        textbook = false_discovery_q_N(fisher_p_N(pairs), num_tests=NUM_ITEMS * (NUM_ITEMS - 1) // 2) <= 0.05
        fisher.append((textbook & ~planted).sum() / max(textbook.sum(), 1))
    assert np.mean(shares) <= 0.05
    assert np.mean(fisher) > 0.5


def test_without_any_planted_pair_hardly_a_run_finds_one():
    runs = [len(find_pairs(simulate(seed=seed)).found(false_discovery_rate=0.05)) for seed in range(12)]
    assert np.mean(np.array(runs) > 0) <= 0.1


def test_counts_of_given_pairs_are_those_of_all_pairs():
    baskets = simulate(seed=3, num_users=20)
    pairs = find_pairs(baskets)
    together_N, expected_N = count_pairs(baskets, first_N=pairs.first_N, second_N=pairs.second_N)
    np.testing.assert_array_equal(together_N, pairs.together_N)
    np.testing.assert_allclose(expected_N, pairs.expected_N, rtol=1e-4)


def test_a_customer_who_takes_both_in_the_same_share_of_baskets_expects_their_product():
    """One customer, baskets of two: x_i x_j sum s(s-1) / (S (S-1)) by hand."""
    lines = [("u", f"o{day}", item, day) for day in range(6) for item in (("a", "b") if day < 2 else (f"c{day}", "d"))]
    baskets = make_baskets(orders_of(lines))
    rows = [int(np.flatnonzero(baskets.item_ids_I == item)[0]) for item in ("a", "b")]
    together_N, expected_N = count_pairs(baskets, first_N=np.array(rows[:1]), second_N=np.array(rows[1:]))
    assert together_N.tolist() == [2]
    assert expected_N[0] == pytest.approx(2 * 2 * (6 * 2) / (12 * 11), rel=1e-5)


def test_baskets_read_guests_leave_out_returns_and_count_a_line_once():
    lines = [("u", "1", "a", 1), ("u", "1", "a", 1), ("u", "1", "b", 1, -1.0), (None, "2", "a", 2), (None, "2", "c", 9)]
    baskets = make_baskets(orders_of(lines), until=at(5))
    assert baskets.item_ids_I.tolist() == ["a"]
    assert sorted(baskets.user_G.tolist()) == [GUEST, 0]
    assert baskets.size_G.tolist() == [1, 1]
    with pytest.raises(DataError, match="bring more history"):
        make_baskets(orders_of(lines), until=at(0))


def make_offer(*, free=np.inf):
    return Offer(
        item_ids_S=np.array([f"i{item:02d}" for item in range(NUM_ITEMS)]),
        category_ids_S=np.array([f"c{item % 7}" for item in range(NUM_ITEMS)]),
        price_S=np.full(NUM_ITEMS, 2.0),
        free_S=np.full(NUM_ITEMS, free),
        base_S=np.full(NUM_ITEMS, 10.0),
    )


EFFECTS = PromotionEffects(
    category_ids_C=(),
    promotion_names=("display",),
    effect_CP=np.array([[np.log(2.0)]]),
    variance_CP=np.array([[0.01]]),
    item_spread=0.1,
    dispersion=1.0,
)
CAMPAIGN = Campaign(channel="display", start_on=date(2026, 2, 2), end_on=date(2026, 2, 15))


def test_a_campaign_adds_what_the_channel_adds_in_its_weeks_to_both_items():
    pairs = find_pairs(simulate(seed=1, planted=PLANTED))
    bundles = suggest_bundles(pairs, make_offer(), EFFECTS, campaign=CAMPAIGN)
    assert len(bundles) >= 3
    np.testing.assert_allclose(bundles.extra_N, 2 * 20.0)
    assert (bundles.low_N < bundles.extra_N).all()
    assert (bundles.high_N > bundles.extra_N).all()
    items = np.concatenate([bundles.pairs.first_N, bundles.pairs.second_N])
    assert len(np.unique(items)) == len(items)


def test_the_shelf_bounds_what_a_bundle_adds_and_an_empty_one_takes_it_out():
    pairs = find_pairs(simulate(seed=1, planted=PLANTED))
    assert (suggest_bundles(pairs, make_offer(free=3.0), EFFECTS, campaign=CAMPAIGN).extra_N <= 6.0).all()
    assert len(suggest_bundles(pairs, make_offer(free=0.0), EFFECTS, campaign=CAMPAIGN)) == 0


def test_the_campaign_is_a_promotion_of_each_item():
    pairs = find_pairs(simulate(seed=1, planted=PLANTED))
    bundles = suggest_bundles(pairs, make_offer(), EFFECTS, campaign=CAMPAIGN, limit=2)
    rows = bundles.to_promotions(CAMPAIGN, announced_on=date(2026, 1, 1)).to_pylist()
    assert len(rows) == 4
    assert {row["item_id"] for row in rows} == set(bundles.to_table()["item_id"].to_pylist()) | set(
        bundles.to_table()["other_item_id"].to_pylist()
    )
    assert {(row["promotion_type"], row["start_on"], row["end_on"], row["intensity"]) for row in rows} == {
        ("display", date(2026, 2, 2), date(2026, 2, 15), 1.0)
    }


def test_a_channel_without_a_past_and_a_campaign_that_ends_first_are_refused():
    pairs = find_pairs(simulate(seed=1))
    with pytest.raises(ValueError, match="channels with a past: display"):
        suggest_bundles(
            pairs,
            make_offer(),
            EFFECTS,
            campaign=Campaign(channel="radio", start_on=CAMPAIGN.start_on, end_on=CAMPAIGN.end_on),
        )
    with pytest.raises(ValueError, match="before it starts"):
        suggest_bundles(
            pairs,
            make_offer(),
            EFFECTS,
            campaign=Campaign(channel="display", start_on=CAMPAIGN.end_on, end_on=CAMPAIGN.start_on),
        )
