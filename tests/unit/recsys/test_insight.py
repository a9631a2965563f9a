import json

import numpy as np
import pyarrow as pa
import pytest
from behaviour_log import at, events_of, orders_of, random_orders, read
from scipy import special

from cluster.errors import ArtifactError
from cluster.schema import EVENTS, ITEMS
from recsys.insight import FOLDER, Insight, fit_insight
from recsys.intent import Visits, ends_in_N, features_NF, fit_intent, make_visits, probability_of
from recsys.interactions import BEHAVIOURS, DAY_SECONDS, PURCHASE, seconds_of
from recsys.interests import fit_interests, future_UC, score_shares
from recsys.probability import Logistic, calibrated, fit_logistic, reliability, score_probabilities
from recsys.repeat import bought_again_N, fit_repeat


def test_planted_log_odds_are_found_and_what_tells_nothing_gets_no_weight():
    rng = np.random.default_rng(0)
    feature_NF = rng.standard_normal((20_000, 3)) * np.array([1.0, 5.0, 0.1])
    yes_N = rng.random(20_000) < special.expit(-2 + 1.5 * feature_NF[:, 0] - 0.2 * feature_NF[:, 1])
    model = fit_logistic(feature_NF, yes_N)
    np.testing.assert_allclose(model.weight_F / model.scale_F, [1.5, -0.2, 0.0], atol=0.35)
    np.testing.assert_allclose((model.weight_F / model.scale_F)[:2], [1.5, -0.2], atol=0.08)


def test_a_feature_that_hardly_varies_cannot_run_away_later():
    rng = np.random.default_rng(0)
    told_N = rng.normal(size=2_000)
    yes_N = rng.random(2_000) < 1 / (1 + np.exp(-told_N))
    level_N = 0.98 + 1e-5 * (np.arange(2_000) % 3)
    model = fit_logistic(np.column_stack([told_N, level_N]), yes_N)
    later = model.probability_N(np.column_stack([told_N, np.full(2_000, 0.975)]))
    assert later.mean() == pytest.approx(yes_N.mean(), abs=0.05)


def test_calibration_mends_promises_that_are_too_bold_and_keeps_the_order():
    rng = np.random.default_rng(1)
    odds_N = rng.standard_normal(20_000)
    yes_N = rng.random(20_000) < special.expit(0.5 * odds_N - 1)
    bold = Logistic(mean_F=np.zeros(1), scale_F=np.ones(1), weight_F=np.array([3.0]), bias=0.0)
    mended = calibrated(bold, odds_N[:10_000, None], yes_N[:10_000])
    before, after = (
        score_probabilities(model.probability_N(odds_N[10_000:, None]), yes_N[10_000:]) for model in (bold, mended)
    )
    assert after["calibration_error"] < 0.02 < before["calibration_error"]
    assert after["auc"] == pytest.approx(before["auc"])
    assert calibrated(bold, odds_N[:5, None], np.zeros(5, dtype=bool)) is bold


def test_reliability_adds_up():
    rows = reliability(np.linspace(0, 1, 95), np.arange(95) % 2 == 0)
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert [row["promised"] for row in rows] == sorted(row["promised"] for row in rows)


# Repeats


def repeat_log(*, until=400.0, seed=0, num_users=60):
    """Milk every 7 days, soap every 30, a drill once; each user begins somewhere."""
    rng = np.random.default_rng(seed)
    lines = []
    for user in range(num_users):
        for item, interval in (("milk", 7), ("soap", 30), ("drill", 10_000)):
            day = rng.uniform(1, 40)
            while day < until:
                lines.append((f"u{user:02d}", f"o{user}-{day:.3f}", item, day))
                day += interval * rng.uniform(0.8, 1.2)
    return read(orders_of(lines), until=until)


CATEGORIES = np.array(["tools", "food", "care"])


def test_intervals_and_repeat_rates_of_the_items_are_found():
    log = repeat_log()
    assert log.item_ids_I.tolist() == ["drill", "milk", "soap"]
    model = fit_repeat(log, category_ids_I=CATEGORIES)
    assert model.interval_days_I[1:] == pytest.approx([7, 30], rel=0.15)
    assert model.rate_I[1:].min() > 0.7
    assert model.rate_I[0] < 0.3


def test_what_is_due_is_more_likely_than_what_was_just_bought():
    log = repeat_log(until=400.0)
    cut = seconds_of(at(380))
    model = fit_repeat(log.before(cut), category_ids_I=CATEGORIES)
    pairs = model.pairs(log.before(cut))
    due_N = model.due_N(pairs)
    soap_N = pairs.item_N == 2
    into_N = pairs.days_since_N / pairs.interval_days_N
    assert due_N[soap_N & (into_N > 0.8)].mean() > 3 * due_N[soap_N & (into_N < 0.5)].mean()
    assert due_N[pairs.item_N == 1].mean() > 0.5
    assert due_N[pairs.item_N == 0].mean() < 0.1
    happened_N = bought_again_N(pairs, log, cut=cut, horizon_days=7)
    found = score_probabilities(due_N, happened_N)
    assert found["auc"] > 0.9
    assert found["calibration_error"] < 0.08


def test_a_history_too_short_to_learn_from_still_gives_intervals():
    log = read(orders_of([("a", "1", "x", 1), ("a", "2", "x", 8), ("b", "3", "y", 2)]), until=9.0)
    model = fit_repeat(log, category_ids_I=np.array(["c", "c"]))
    assert model.logistic is None
    assert ((model.due_N(model.pairs(log)) > 0) & (model.due_N(model.pairs(log)) < 1)).all()


def test_a_user_without_history_has_nothing_due():
    model = fit_repeat(repeat_log(), category_ids_I=CATEGORIES)
    assert len(model.pairs(repeat_log().take(np.array([-1]))).user_N) == 0


# Interests


def interest_log(*, until, seed=0):
    """Each user likes one of four categories until day 60 and the next one from then on."""
    rng = np.random.default_rng(seed)
    lines = []
    for user in range(40):
        for day in range(1, int(until)):
            liked = (user + (day > 60)) % 4
            category = liked if rng.random() < 0.8 else rng.integers(4)
            lines.append((f"u{user:02d}", f"o{user}-{day}", f"i{category}{rng.integers(3)}", float(day)))
    return read(orders_of(lines), until=until)


def categories_of_items(log):
    return np.array([item[1] for item in log.item_ids_I])


def test_interests_follow_a_change_of_taste_that_plain_frequency_misses():
    whole = interest_log(until=130.0)
    cut = seconds_of(at(100))
    before = whole.before(cut)
    model = fit_interests(before, category_ids_I=categories_of_items(before))
    actual_UC = future_UC(whole, category_I=model.category_I, num=4, since=cut)
    plain_UC = np.stack(
        [np.bincount(model.category_I[before.take(np.array([u])).item_E], minlength=4) + 0.5 for u in range(40)]
    )
    ours, plain, overall = (
        score_shares(share_UC / share_UC.sum(axis=1, keepdims=True), actual_UC)
        for share_UC in (model.shares_UC(before), plain_UC, np.tile(model.overall_C, (40, 1)))
    )
    assert ours["nats"] < plain["nats"] < overall["nats"]
    assert ours["explained"] > plain["explained"] > overall["explained"]


def test_shares_sum_to_one_and_a_stranger_gets_what_all_do():
    log = interest_log(until=80.0)
    model = fit_interests(log, category_ids_I=categories_of_items(log))
    share_UC = model.shares_UC(log.take(np.array([0, -1])))
    np.testing.assert_allclose(share_UC.sum(axis=1), 1)
    np.testing.assert_allclose(share_UC[1], model.overall_C)


# Intent


def simulate_visits(*, num_visits, seed):
    """Planted truth: a visit with a cart event ends in a purchase with chance 0.6, one that only looks with 0.05."""
    rng = np.random.default_rng(seed)
    rows = []
    for visit in range(num_visits):
        start = 600.0 * visit
        with_cart = rng.random() < 0.3
        looks = int(rng.integers(1, 6))
        events = ["view"] * looks + (["cart"] if with_cart else [])
        if rng.random() < (0.6 if with_cart else 0.05):
            events.append("purchase")
        for step, kind in enumerate(events):
            rows.append((f"v{visit:05d}", f"i{rng.integers(20)}", start + 20 * step, kind))
    return rows


def visits_of(rows):
    table = [
        {
            "session_id": session,
            "item_id": item,
            "occurred_at": at(0).timestamp() * 1_000_000 + second * 1_000_000,
            "event_type": kind,
        }
        for session, item, second, kind in rows
    ]
    return make_visits(pa.Table.from_pylist(table, schema=EVENTS))


def test_intent_finds_the_planted_probabilities_on_visits_it_has_not_seen():
    visits = visits_of(simulate_visits(num_visits=6_000, seed=0))
    model = fit_intent(visits.take(0, 4_000))
    assert model is not None
    judged = visits.take(4_000, 6_000)
    chance_N = model.probability_N(features_NF(judged))
    yes_N = ends_in_N(judged, judged.behaviour_N == PURCHASE)
    found = score_probabilities(chance_N, yes_N)
    assert found["calibration_error"] < 0.03
    assert found["auc"] > 0.57  # views tell nothing here, and most events are views
    in_cart_N = judged.behaviour_N == BEHAVIOURS.index("cart")
    assert chance_N[in_cart_N].mean() == pytest.approx(0.6, abs=0.05)
    assert found["brier"] < yes_N.mean() * (1 - yes_N.mean())


def test_features_know_nothing_of_what_comes_later():
    visits = visits_of(simulate_visits(num_visits=50, seed=1))
    whole = features_NF(visits)
    for visit in (0, 7, 30):
        first, last = visits.offset_V1[visit : visit + 2]
        for end in range(first + 1, last + 1):
            part = Visits(
                offset_V1=np.array([0, end - first]),
                time_N=visits.time_N[first:end],
                item_N=visits.item_N[first:end],
                behaviour_N=visits.behaviour_N[first:end],
            )
            np.testing.assert_allclose(features_NF(part)[-1], whole[end - 1])


def test_the_answer_for_one_visit_is_that_of_its_last_event():
    visits = visits_of(simulate_visits(num_visits=3_000, seed=0))
    model = fit_intent(visits)
    first, last = visits.offset_V1[5:7]
    events = [
        (f"x{visits.item_N[row]}", BEHAVIOURS[visits.behaviour_N[row]], float(visits.time_N[row]))
        for row in range(first, last)
    ]
    expected = model.probability_N(features_NF(visits))[last - 1]
    assert probability_of(model, events[::-1]) == pytest.approx(expected)


def test_events_without_a_session_and_equal_rows_do_not_count():
    rows = simulate_visits(num_visits=5, seed=2)
    once, twice = visits_of(rows), visits_of([*rows, *rows, (None, "i1", 5.0, "view")])
    np.testing.assert_array_equal(once.time_N, twice.time_N)
    assert len(once) == len(twice) == 5


def test_too_few_visits_teach_nothing():
    assert fit_intent(visits_of(simulate_visits(num_visits=30, seed=0))) is None


# All of it, stored


ITEM_TABLE = pa.Table.from_pylist(
    [{"item_id": f"i{row:02d}", "name": f"thing {row % 4}", "category_id": f"c{row % 3}"} for row in range(12)],
    schema=ITEMS,
)


def test_insight_is_stored_and_read_back(tmp_path):
    orders = random_orders(seed=7)
    log = read(orders, until=36.0)
    insight = fit_insight(log, orders=orders, events=events_of([("u01", "i01", 3.0, "view")]), items=ITEM_TABLE)
    insight.save(tmp_path)
    loaded = Insight.load(tmp_path)
    assert loaded is not None
    assert loaded.due_items(log, k=3) == insight.due_items(log, k=3)
    assert loaded.top_interests(log, k=2) == insight.top_interests(log, k=2)
    assert loaded.neighbour_table().equals(insight.neighbour_table())
    assert set(loaded.neighbours) == set(insight.neighbours) >= {"substitute", "like"}
    assert loaded.intent is None
    json.dumps(insight.repeat.to_config())


def test_due_items_were_bought_by_the_user_and_come_most_likely_first():
    orders = random_orders(seed=7)
    log = read(orders, until=36.0)
    insight = fit_insight(log, orders=orders, events=None, items=None)
    for user, due in enumerate(insight.due_items(log, k=4)):
        bought = set(log.item_ids_I[log.take(np.array([user])).item_E])
        assert 1 <= len(due) <= 4
        assert {item for item, _ in due} <= bought
        assert [chance for _, chance in due] == sorted((chance for _, chance in due), reverse=True)


def test_a_recommender_stored_without_insight_has_none_and_a_damaged_one_is_refused(tmp_path):
    assert Insight.load(tmp_path) is None
    log = read(random_orders(seed=7), until=36.0)
    fit_insight(log, orders=random_orders(seed=7), events=None, items=ITEM_TABLE).save(tmp_path)
    (tmp_path / FOLDER / "insight.json").write_text("{")
    with pytest.raises(ArtifactError, match="train the recommender again"):
        Insight.load(tmp_path)


def test_nothing_after_the_cut_is_read():
    orders = random_orders(seed=7)
    early = fit_insight(read(orders, until=20.0), orders=orders, events=None, items=ITEM_TABLE)
    table = orders.filter(
        pa.array([at(0).timestamp() + 20 * DAY_SECONDS > t.timestamp() for t in orders["ordered_at"].to_pylist()])
    )
    assert early.neighbour_table().equals(
        fit_insight(read(table, until=20.0), orders=table, events=None, items=ITEM_TABLE).neighbour_table()
    )
