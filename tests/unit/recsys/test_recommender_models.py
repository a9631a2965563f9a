import numpy as np
import pytest
from behaviour_log import ANYTHING, events_of, orders_of, random_orders, read

from recsys.models.ease import EaseModel
from recsys.models.factors import AlsModel, BprModel
from recsys.models.frequency import PersonalFrequency
from recsys.models.habits import HabitModel
from recsys.models.neighbours import NeighbourModel
from recsys.models.popularity import Popularity
from recsys.models.sequence import SequenceModel
from recsys.models.session_neighbours import SessionNeighbours
from recsys.models.tifu import TifuKnn
from recsys.models.transitions import TransitionModel

SMALL = ANYTHING.model_copy(update={"epochs": 1, "hidden": 8, "max_sequence": 10})
MODELS = [
    Popularity(),
    Popularity(days=7),
    PersonalFrequency(half_life_days=10),
    NeighbourModel(max_lag=2),
    TransitionModel(max_lag=2, recency=0.5, shares=False),
    TransitionModel(order=2),
    EaseModel(ridge=5.0, recency=0.5),
    EaseModel(ridge=5.0, max_items=4),
    AlsModel(num_factors=4),
    BprModel(num_factors=4, epochs=2),
    TifuKnn(num_neighbours=3),
    SessionNeighbours(before=0.5, num_neighbours=3),
    HabitModel(targets_per_user=2, epochs=1),
    HabitModel(target="next-basket", epochs=1),
    HabitModel(target="next-days", target_days=10, epochs=1),
    SequenceModel(settings=SMALL),
    SequenceModel(settings=SMALL.model_copy(update={"model": "gru"})),
    SequenceModel(settings=SMALL.model_copy(update={"model": "cnn"})),
    SequenceModel(settings=SMALL.model_copy(update={"model": "mlp"})),
]


def names(interactions, rows):
    return [str(interactions.item_ids_I[row]) for row in rows]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.kind)
def test_a_model_comes_back_from_its_config_and_arrays(model):
    log = read(random_orders(seed=0))
    fitted = model.fit(log)
    again = type(model).from_config(fitted.to_config(), arrays=fitted.arrays())
    np.testing.assert_array_equal(again.score_UI(log), fitted.score_UI(log))
    np.testing.assert_array_equal(again.similar_JI(np.array([1, 2])), fitted.similar_JI(np.array([1, 2])))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.kind)
def test_scores_are_not_negative_and_an_item_is_not_like_itself(model):
    log = read(random_orders(seed=1))
    fitted = model.fit(log)
    score_UI = fitted.score_UI(log)
    assert score_UI.shape == (log.num_users, log.num_items)
    assert score_UI.dtype == np.float32
    assert (score_UI >= 0).all()
    assert fitted.similar_JI(np.array([3]))[0].argmin() == 3


def test_popularity_counts_lately_or_ever():
    log = read(orders_of([("a", "1", "x", 1), ("b", "2", "x", 1), ("a", "3", "y", 99)]), until=100)
    assert Popularity().fit(log).count_I.tolist() == [2.0, 1.0]
    assert Popularity(days=7).fit(log).count_I.tolist() == [0.0, 1.0]
    assert Popularity(days=0.5).fit(log).count_I.tolist() == [2.0, 1.0], "an empty window falls back to all"


def test_frequency_halves_with_age_and_weighs_behaviour():
    orders = orders_of([("a", "1", "x", 90), ("a", "2", "x", 100), ("a", "3", "y", 80)])
    log = read(orders, events_of([("a", "z", 100, "view")]), until=110)
    scores = PersonalFrequency(half_life_days=10).fit(log).score_UI(log)
    np.testing.assert_allclose(scores, [[0.25 + 0.5, 0.125, 0.05]], rtol=1e-6)


def test_neighbours_in_baskets_are_found_with_their_cosine():
    lines = [("a", "1", "x", 1), ("a", "1", "y", 1), ("b", "2", "x", 1), ("b", "2", "y", 1), ("c", "3", "x", 1)]
    log = read(orders_of([*lines, ("d", "4", "z", 1)]))
    found = NeighbourModel(max_lag=1).fit(log).neighbours(log.item_ids_I)
    x, y, z = log.item_rows(["x", "y", "z"])
    assert found.item_IK[x, 0] == y
    assert found.score_IK[x, 0] == pytest.approx(2 / np.sqrt(3 * 2))
    assert (found.item_IK[z] == -1).all()
    assert found.score_IK[z].sum() == 0


def test_neighbours_follow_time_and_lags_fade():
    lines = [("a", "1", "x", 1), ("a", "2", "y", 2), ("a", "3", "z", 3), ("b", "4", "z", 1)]
    log = read(orders_of(lines))
    model = NeighbourModel(max_lag=2, lag_decay=0.5).fit(log)
    x, y, z = log.item_rows(["x", "y", "z"])
    like_x = model.similar_JI(np.array([x]))[0]
    assert like_x[y] == pytest.approx(1.0)
    assert like_x[z] == pytest.approx(0.5 / np.sqrt(2))
    assert model.similar_JI(np.array([z]))[0][x] == 0, "what came later does not lead back"


def test_the_last_basket_counts_most():
    lines = [(user, f"{user}1", "x", 1) for user in "abcd"] + [(user, f"{user}2", "y", 2) for user in "abcd"]
    lines += [(user, f"{user}1", "u", 1) for user in "efgh"] + [(user, f"{user}2", "v", 2) for user in "efgh"]
    log = read(orders_of(lines))
    model = NeighbourModel(recency=0.5).fit(log)
    asked = read(orders_of([("n", "1", "x", 1), ("n", "2", "u", 2), ("m", "3", "y", 1), ("m", "4", "v", 1)]))
    assert list(asked.item_ids_I) == list(log.item_ids_I)
    scores = model.score_UI(asked.take(asked.user_rows(["n"])))[0]
    assert names(log, np.argsort(-scores)[:2]) == ["v", "y"]
    assert scores[log.item_rows(["y"])[0]] == pytest.approx(0.5 * scores[log.item_rows(["v"])[0]])


def test_a_model_that_was_not_fitted_says_so():
    with pytest.raises(ValueError, match="fit"):
        SequenceModel(settings=SMALL).score_UI(read(random_orders(seed=0)))
    with pytest.raises(ValueError, match="fit"):
        PersonalFrequency().similar_JI(np.array([0]))


@pytest.mark.parametrize("target", ["next-days", "next-basket"])
def test_habits_tell_by_the_calendar_which_of_two_things_is_due(target):
    # Everybody buys x and y every four weeks, and never on one day: counts say nothing, days say all.
    lines = []
    for user in range(80):
        for item, phase in (("x", user % 28), ("y", (user + 14) % 28)):
            lines += [(f"u{user:02d}", f"{item}{user}-{turn}", item, phase + 28.0 * turn) for turn in range(8)]
    until = 203.0
    log = read(orders_of([line for line in lines if line[3] < until]), until=until)
    scores = HabitModel(target=target, epochs=40).fit(log).score_UI(log)
    days_to_x = (np.arange(80) % 28 - until) % 28
    assert np.mean((scores[:, 0] > scores[:, 1]) == (days_to_x < 14)) > 0.9
