import json

import numpy as np
import pytest
from behaviour_log import ANYTHING, at, events_of, orders_of, random_orders, read
from fresh_process import loaded_by
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import ArtifactError
from recsys.evaluate import evaluate
from recsys.holdout import Holdout, hold_out_tables
from recsys.models.blend import RECENT, Blend, choose_weights, seen_share
from recsys.models.frequency import PersonalFrequency
from recsys.models.popularity import Popularity
from recsys.models.sequence import SequenceModel
from recsys.predict import Recommender
from recsys.reasons import POPULAR, POPULAR_EVER, reasons_UK
from recsys.sessions import LiveEvent
from recsys.train import blend_models, hold_out_validation

SETTINGS = ANYTHING.model_copy(
    update={"hidden": 8, "max_sequence": 10, "epochs": 2, "validation_days": 7, "popular_days": 14.0}
)
ORDERS = random_orders(seed=7)
END = 36.0


def fit(log, *, with_sequence=True):
    holdout = hold_out_validation(log, settings=SETTINGS)
    judged = {"sequence": SequenceModel(settings=SETTINGS).fit(holdout.history)} if with_sequence else {}
    refitted = {"sequence": SequenceModel(settings=SETTINGS).fit(log)} if with_sequence else {}
    return blend_models(log, holdout=holdout, judged=judged, refitted=refitted, settings=SETTINGS, curve=[{"epoch": 1}])


RECOMMENDER = fit(read(ORDERS, until=END))
WEIGHTED = Recommender(
    histories=RECOMMENDER.histories,
    blend=type(RECOMMENDER.blend)(
        models=RECOMMENDER.blend.models, weights=dict.fromkeys(RECOMMENDER.models, 0.5), seen_allowed=True
    ),
)
ITEMS = RECOMMENDER.item_ids.tolist()


@given(
    users=st.lists(st.sampled_from(["u00", "u01", "u05", "stranger", ""]), min_size=1, max_size=5),
    barred=st.lists(st.sampled_from([*ITEMS, "never heard of"]), max_size=12),
    k=st.integers(1, 20),
)
@settings(max_examples=60, deadline=None)
def test_excluded_items_are_never_returned_and_none_comes_twice(users, barred, k):
    found = WEIGHTED.recommend(users, k=k, exclude_item_ids=barred)
    assert found.item_ids_UK.shape == found.score_UK.shape == found.reason_UK.shape == (len(users), k)
    for items, scores, reasons in zip(found.item_ids_UK, found.score_UK, found.reason_UK, strict=True):
        real = [item for item in items if item]
        assert not set(real) & set(barred)
        assert len(set(real)) == len(real) == min(k, len(set(ITEMS) - set(barred)))
        assert (np.diff(scores[: len(real)]) <= 0).all()
        assert all(reasons[: len(real)])
        assert not any(reasons[len(real) :])


def test_a_stranger_gets_what_is_popular_lately():
    recent = RECOMMENDER.models[RECENT].count_I
    found = RECOMMENDER.recommend(["stranger"], k=3)
    assert found.item_ids_UK[0].tolist() == [ITEMS[row] for row in np.argsort(-recent, kind="stable")[:3]]
    assert set(found.reason_UK[0]) == {POPULAR}


def test_what_is_not_popular_lately_is_not_called_so():
    log = read(orders_of([("a", "1", "old", 1), ("b", "2", "new", 29), ("b", "3", "new", 30)]), until=END)
    found = fit(log, with_sequence=False).recommend(["stranger"], k=2)
    assert found.item_ids_UK[0].tolist() == ["new", "old"]
    assert found.reason_UK[0].tolist() == [POPULAR, POPULAR_EVER]


def test_duplicate_users_and_unknown_items_are_harmless():
    twice = WEIGHTED.recommend(["u03", "u03"], k=5, exclude_item_ids=["?"], histories={"u03": [LiveEvent(item_id="?")]})
    assert twice.item_ids_UK[0].tolist() == twice.item_ids_UK[1].tolist()
    assert twice.item_ids_UK[0].tolist() == WEIGHTED.recommend(["u03"], k=5).item_ids_UK[0].tolist()


def test_a_live_session_changes_the_answer():
    before = WEIGHTED.recommend(["stranger"], k=4)
    after = WEIGHTED.recommend(
        ["stranger"], k=4, histories={"stranger": [LiveEvent(item_id="i02"), LiveEvent(item_id="i05")]}
    )
    assert before.item_ids_UK.tolist() != after.item_ids_UK.tolist()
    assert "because you looked at it before" in after.reason_UK[0].tolist()
    assert WEIGHTED.recommend(["u01"], k=4, histories={}).score_UK.tolist() == (
        WEIGHTED.recommend(["u01"], k=4).score_UK.tolist()
    )


def only(name):
    weights = {other: float(other == name) for other in RECOMMENDER.models}
    blend = type(RECOMMENDER.blend)(models=RECOMMENDER.blend.models, weights=weights, seen_allowed=True)
    return Recommender(histories=RECOMMENDER.histories, blend=blend)


def test_a_neighbour_reason_names_something_bought_that_leads_to_the_item():
    found = only("neighbours").recommend(RECOMMENDER.histories.user_ids_U.tolist(), k=5)
    near = RECOMMENDER.neighbours
    checked = 0
    for user, (items, reasons) in enumerate(zip(found.item_ids_UK, found.reason_UK, strict=True)):
        bought = set(RECOMMENDER.item_ids[RECOMMENDER.histories.take(np.array([user])).item_E])
        for item, reason in zip(items, reasons, strict=True):
            if reason.startswith("because you bought "):
                named = reason.removeprefix("because you bought ")
                row = int(RECOMMENDER.histories.item_rows([named])[0])
                assert named in bought
                assert item in near.item_ids_I[near.item_IK[row][near.item_IK[row] >= 0]]
                checked += 1
    assert checked > 50


def test_a_frequency_reason_counts_right():
    found = only("frequency-90").recommend(RECOMMENDER.histories.user_ids_U.tolist(), k=3)
    words = {1: "before", 2: "twice"}
    for user, (items, reasons) in enumerate(zip(found.item_ids_UK, found.reason_UK, strict=True)):
        bought = RECOMMENDER.item_ids[RECOMMENDER.histories.take(np.array([user])).item_E].tolist()
        for item, reason in zip(items, reasons, strict=True):
            count = bought.count(item)
            assert reason == f"because you bought it {words.get(count, f'{count} times')}"


def test_a_reason_counts_what_was_bought_and_else_what_was_done_last():
    orders = orders_of([("a", "1", "x", 1), ("a", "2", "x", 2)])
    told = events_of([("a", "x", 3, "cart"), ("a", "y", 3, "view"), ("a", "y", 4, "cart"), ("a", "y", 5, "cart")])
    log = read(orders, told, until=10)
    blend = Blend(models={"frequency": PersonalFrequency().fit(log)}, weights={"frequency": 1.0}, seen_allowed=True)
    item_UK = log.item_rows(["x", "y"])[None]
    reasons = reasons_UK(blend, log, parts=blend.parts(log), item_UK=item_UK)
    assert reasons[0].tolist() == ["because you bought it twice", "because you put it in your cart twice"]


def test_similar_items_are_the_neighbours():
    near = RECOMMENDER.neighbours
    found, scores = RECOMMENDER.similar([ITEMS[4], "never heard of"], k=3)
    assert found[0].tolist() == near.item_ids_I[near.item_IK[4, :3]].tolist()
    np.testing.assert_allclose(scores[0], near.score_IK[4, :3], rtol=1e-6)
    assert found[1].tolist() == ["", "", ""]
    assert scores[1].tolist() == [0, 0, 0]


def test_k_must_be_positive():
    with pytest.raises(ValueError, match="k must be"):
        RECOMMENDER.recommend(["u01"], k=0)


def test_save_and_load_give_equal_answers(tmp_path):
    WEIGHTED.save(tmp_path)
    loaded = Recommender.load(tmp_path)
    users = [*RECOMMENDER.histories.user_ids_U.tolist(), "stranger"]
    left, right = (model.recommend(users, k=6, exclude_item_ids=["i01"]) for model in (WEIGHTED, loaded))
    np.testing.assert_array_equal(left.item_ids_UK, right.item_ids_UK)
    np.testing.assert_array_equal(left.score_UK, right.score_UK)
    np.testing.assert_array_equal(left.reason_UK, right.reason_UK)
    assert loaded.trained_until == at(END)
    assert loaded.learning_curve == WEIGHTED.learning_curve


FILES = ["recommender.json", "items.parquet", "histories.parquet", "sequence.safetensors", "neighbours.safetensors"]


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_artifact_is_refused(tmp_path, name, damage):
    RECOMMENDER.save(tmp_path)
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:middle])
    else:
        content[middle] ^= 0xFF
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match="train"):
        Recommender.load(tmp_path)


def test_another_format_is_refused(tmp_path):
    RECOMMENDER.save(tmp_path)
    index = json.loads((tmp_path / "recommender.json").read_text()) | {"format": 99}
    (tmp_path / "recommender.json").write_text(json.dumps(index))
    with pytest.raises(ArtifactError, match="format 99"):
        Recommender.load(tmp_path)


def test_the_blend_is_at_least_as_good_as_each_model_where_it_was_chosen():
    holdout = hold_out_validation(RECOMMENDER.histories, settings=SETTINGS)
    _, together = choose_weights(RECOMMENDER.models, holdout, seen_allowed=True, k=5)
    for name, model in RECOMMENDER.models.items():
        assert together >= choose_weights({name: model}, holdout, seen_allowed=True, k=5)[1]


def test_validation_has_a_row_for_each_model_and_can_be_written():
    assert {row["model"] for row in RECOMMENDER.validation} == {*RECOMMENDER.models, "blend"}
    json.dumps(RECOMMENDER.validation)


def test_evaluation_gives_a_row_per_model_on_the_same_users():
    holdout = hold_out_tables(RECOMMENDER.histories, ORDERS, since=at(30), until=at(99))
    rows = evaluate(RECOMMENDER, holdout, protocol="rest")
    assert len(rows) == len(RECOMMENDER.models) + 1
    assert {row["num_users"] for row in rows} == {len(holdout)}
    assert all(0 <= row[measure] <= 1 for row in rows for measure in ("recall_at_10", "ndcg_at_10"))
    assert [row["model"] for row in rows if row["served"]] == ["blend"]


def test_weights_ignore_a_model_that_only_misleads():
    log = read(ORDERS, until=END)
    holdout = hold_out_validation(log, settings=SETTINGS)
    count_I = np.bincount(holdout.history.item_E, minlength=log.num_items).astype(np.float32)
    good, bad = Popularity(count_I=count_I), Popularity(count_I=1.0 / (1.0 + count_I))
    weights, value = choose_weights({"good": good, "bad": bad}, holdout, seen_allowed=True, k=3)
    assert weights["good"] > 0
    assert value >= choose_weights({"good": good}, holdout, seen_allowed=True, k=3)[1]


def test_people_who_do_not_rebuy_get_nothing_they_have():
    lines = [
        (f"u{user}", f"{user}-{step}", f"i{(user + step) % 9}", 7.0 * step) for user in range(20) for step in range(5)
    ]
    recommender = fit(read(orders_of(lines), until=END), with_sequence=False)
    assert not recommender.blend.seen_allowed
    found = recommender.recommend(["u3"], k=9).item_ids_UK[0]
    assert set(found) - {""} == {f"i{item % 9}" for item in range(9)} - {f"i{(3 + step) % 9}" for step in range(5)}


def test_users_with_one_event_and_nothing_to_hold_out_are_served():
    log = read(orders_of([("a", "1", "x", 1), ("b", "2", "x", 2), ("c", "3", "y", 3)]), until=END)
    recommender = fit(log, with_sequence=False)
    assert recommender.validation == []
    assert recommender.recommend(["c"], k=2).item_ids_UK.tolist() == [["y", "x"]]


def test_seen_share_counts_rebuys():
    history = read(orders_of([("a", "1", "x", 1), ("b", "2", "y", 1)]))
    holdout = Holdout(
        history=history,
        user_V=np.array([0, 1]),
        target_N=np.array([0, 1, 0], dtype=np.int32),
        offset_V1=np.array([0, 2, 3]),
    )
    assert seen_share(holdout) == pytest.approx(1 / 3)


def test_views_alone_are_enough_to_learn_from():
    views = events_of(
        (f"u{user}", f"i{(user + step) % 5}", step + 1.0, "view") for user in range(9) for step in range(6)
    )
    recommender = fit(read(orders_of([]), views, until=7.0))
    assert recommender.recommend(["u1"], k=1).item_ids_UK[0, 0] in recommender.item_ids


def test_serving_imports_no_ray():
    assert loaded_by("import recsys.predict", among=["ray"]) == []
