import numpy as np
import pytest
from behaviour_log import orders_of, random_orders, read
from recommender_cases import fit_counts

from cluster.settings.models import RuleSettings
from recsys.rules import OVERSTOCKED, UNKNOWN, ItemFacts, RuleBook, codes_of, exposure, pick_items

PLAIN = RuleSettings(diversity=0.0, min_repeat_rate=0.0)


def facts_of(num_items, **changes):
    facts = {
        "available_I": np.ones(num_items, dtype=bool),
        "category_I": np.full(num_items, UNKNOWN, dtype=np.int32),
        "seller_I": np.full(num_items, UNKNOWN, dtype=np.int32),
        "repeat_rate_I": np.ones(num_items),
        "overstock_I": np.zeros(num_items),
    }
    return ItemFacts(**{**facts, **changes})


def scores_of(rows):
    return np.array(rows, dtype=np.float32)


NOBODY = read(random_orders(seed=0, num_users=2, num_items=6)).take(np.array([-1]))


def pick(scores, *, facts, settings=PLAIN, k=3, histories=None):
    histories = NOBODY.take(np.full(len(scores), -1)) if histories is None else histories
    return pick_items(scores_of(scores), histories, facts=facts, settings=settings, k=k)


def test_nothing_out_of_stock_is_shown_in_100_000_random_requests():
    """Whatever the scores, the histories, the rules and the stock are."""
    log = read(random_orders(seed=3, num_users=50, num_items=40, num_baskets=4))
    rng = np.random.default_rng(0)
    asked = 0
    while asked < 100_000:
        settings = RuleSettings(
            diversity=rng.choice([0.0, 0.2, 0.9]),
            max_seller_share=rng.choice([0.1, 0.5, 1.0]),
            overstock_weight=rng.choice([0.0, 1.0, 50.0]),
            min_repeat_rate=rng.choice([0.0, 0.5]),
        )
        facts = facts_of(
            log.num_items,
            available_I=rng.random(log.num_items) < rng.choice([0.0, 0.1, 0.5, 1.0]),
            category_I=rng.integers(-1, 5, log.num_items).astype(np.int32),
            seller_I=rng.integers(-1, 4, log.num_items).astype(np.int32),
            repeat_rate_I=rng.random(log.num_items),
            overstock_I=rng.random(log.num_items),
        )
        users = rng.integers(-1, log.num_users, 1_000)
        histories = log.take(users)
        score_UI = rng.random((len(users), log.num_items), dtype=np.float32)
        score_UI[score_UI < 0.2] = -np.inf
        barred_UI = ~np.isfinite(score_UI)
        k = int(rng.integers(1, 25))
        item_UK = pick_items(score_UI, histories, facts=facts, settings=settings, k=k).item_UK
        shown_UK = item_UK >= 0
        user_N = np.nonzero(shown_UK)[0]
        assert facts.available_I[item_UK[shown_UK]].all()
        assert not barred_UI[user_N, item_UK[shown_UK]].any()
        key = user_N * log.num_items + item_UK[shown_UK]
        assert len(np.unique(key)) == len(key)
        asked += len(users)


def test_without_rules_the_best_scores_win():
    found = pick([[0.1, 0.9, 0.5, 0.7]], facts=facts_of(4))
    assert found.item_UK.tolist() == [[1, 3, 2]]
    assert found.bonus_UK.tolist() == [[0, 0, 0]]


def test_bought_consumables_stay_and_bought_durables_go():
    log = read(orders_of([("a", "1", item, 1) for item in ("drill", "milk", "saw")]))
    assert log.item_ids_I.tolist() == ["drill", "milk", "saw"]
    facts = facts_of(3, repeat_rate_I=np.array([0.02, 0.7, 0.3]))
    settings = RuleSettings(min_repeat_rate=0.1, diversity=0.0)
    assert pick([[0.9, 0.8, 0.7]], facts=facts, settings=settings, histories=log).item_UK.tolist() == [[1, 2, -1]]
    stranger = log.take(np.array([-1]))
    assert pick([[0.9, 0.8, 0.7]], facts=facts, settings=settings, histories=stranger).item_UK.tolist() == [[0, 1, 2]]


def test_diversity_brings_other_categories_forward():
    facts = facts_of(4, category_I=np.array([0, 0, 0, 1], dtype=np.int32))
    scores = [[1.0, 0.9, 0.8, 0.7]]
    assert pick(scores, facts=facts).item_UK.tolist() == [[0, 1, 2]]
    varied = RuleSettings(diversity=0.3, min_repeat_rate=0.0)
    assert pick(scores, facts=facts, settings=varied).item_UK.tolist() == [[0, 3, 1]]


@pytest.mark.parametrize(("share", "most"), [(0.25, 1), (0.5, 2), (0.75, 3)])
def test_no_seller_gets_more_than_its_share_of_an_answer(share, most):
    rng = np.random.default_rng(1)
    facts = facts_of(40, seller_I=rng.choice([0, 0, 0, 1, 2, 3, -1], 40).astype(np.int32))
    settings = RuleSettings(max_seller_share=share, diversity=0.0, min_repeat_rate=0.0)
    found = pick(rng.random((200, 40)), facts=facts, settings=settings, k=4)
    for row in found.item_UK:
        sellers = facts.seller_I[row[row >= 0]]
        assert max(np.bincount(sellers[sellers >= 0], minlength=1)) <= most


def test_the_cap_makes_exposure_fairer_and_the_metric_says_so():
    rng = np.random.default_rng(2)
    seller_I = np.repeat([0, 1, 2, 3], [25, 5, 5, 5]).astype(np.int32)
    facts = facts_of(40, seller_I=seller_I)
    scores = rng.random((300, 40)) + (seller_I == 0)
    capped = RuleSettings(max_seller_share=0.3, diversity=0.0, min_repeat_rate=0.0)
    free, fair = (
        exposure(pick(scores, facts=facts, settings=settings, k=10).item_UK, seller_I) for settings in (PLAIN, capped)
    )
    assert free["top_share"] == 1.0
    assert free["gini"] == pytest.approx(0.75)
    assert fair["top_share"] < 0.5
    assert fair["gini"] < 0.3
    assert exposure(np.array([[-1]]), seller_I) == {"sellers": 4.0, "top_share": 0.0, "gini": 0.0}


def test_overstock_raises_an_item_by_its_weight_and_no_more():
    facts = facts_of(3, overstock_I=np.array([0.0, 1.0, 0.0]))
    for weight, first in ((0.0, 0), (0.5, 0), (1.5, 1)):
        settings = RuleSettings(overstock_weight=weight, diversity=0.0, min_repeat_rate=0.0)
        found = pick([[1.0, 0.5, 0.1]], facts=facts, settings=settings)
        assert found.item_UK[0, 0] == first
        rank = found.item_UK[0].tolist().index(1)
        assert found.bonus_UK[0, rank] == pytest.approx(0.5 * weight, abs=1e-6)


def test_the_reason_is_overstock_only_where_that_added_most():
    recommender = fit_counts(read(random_orders(seed=7)))
    num_items = len(recommender.item_ids)
    plenty = facts_of(num_items, overstock_I=(np.arange(num_items) == 5).astype(float))
    for weight, expected in ((0.1, False), (40.0, True)):
        rules = RuleBook(
            facts=plenty, settings=RuleSettings(overstock_weight=weight, diversity=0.0, min_repeat_rate=0.0)
        )
        found = recommender.recommend(["u03"], k=num_items, rules=rules)
        reasons = dict(zip(found.item_ids_UK[0], found.reason_UK[0], strict=True))
        assert (reasons["i05"] == OVERSTOCKED) == expected
        assert OVERSTOCKED not in {reason for item, reason in reasons.items() if item != "i05"}


def test_rules_that_forbid_nothing_change_nothing():
    recommender = fit_counts(read(random_orders(seed=7)))
    rules = RuleBook(facts=facts_of(len(recommender.item_ids)), settings=PLAIN)
    users = recommender.histories.user_ids_U.tolist()
    left, right = recommender.recommend(users, k=7), recommender.recommend(users, k=7, rules=rules)
    np.testing.assert_array_equal(left.item_ids_UK, right.item_ids_UK)
    np.testing.assert_array_equal(left.reason_UK, right.reason_UK)


def test_names_become_codes():
    codes = codes_of(np.array(["b", "", "a", "b"]))
    assert codes.tolist()[1] == UNKNOWN
    assert codes[0] == codes[3] != codes[2]
