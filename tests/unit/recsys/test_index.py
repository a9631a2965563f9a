"""The approximate index: exact scores of nearly the same items, and the same answers from a model that uses it."""

import numpy as np
import pytest
from behaviour_log import ANYTHING, random_orders, read

from recsys.index import NUM_FOUND, make_index
from recsys.models.sequence import SequenceModel

pytest.importorskip("faiss")


def clumped(num_items, *, seed=0):
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal((200, 16), dtype=np.float32)
    vector = centre[rng.integers(0, 200, num_items)] + 0.1 * rng.standard_normal((num_items, 16), dtype=np.float32)
    return vector, rng.standard_normal(num_items).astype(np.float32)


def test_scores_are_exact_and_the_best_are_found():
    vector_ID, bias_I = clumped(20_000)
    asked_UD = clumped(50, seed=1)[0]
    score_UI = asked_UD @ vector_ID.T + bias_I
    item_UN, found_UN = make_index(vector_ID, bias_I).search(asked_UD)
    assert item_UN.shape == (50, NUM_FOUND)
    real = item_UN >= 0
    exact = np.take_along_axis(score_UI, np.maximum(item_UN, 0), axis=1)
    np.testing.assert_allclose(found_UN[real], exact[real], rtol=1e-3, atol=1e-3)
    best_UK = np.argsort(-score_UI, axis=1)[:, :10]
    recall = np.mean([np.isin(best, found).mean() for best, found in zip(best_UK, item_UN, strict=True)])
    assert recall > 0.8


def test_fewer_items_than_are_found_leave_places_empty():
    vector_ID, bias_I = clumped(30)
    item_UN, _ = make_index(vector_ID, bias_I).search(vector_ID[:2])
    assert sorted(item_UN[0, :30]) == list(range(30))
    assert (item_UN[:, 30:] == -1).all()


def test_a_small_model_with_an_index_ranks_as_without_and_keeps_its_choice_in_its_files():
    log = read(random_orders(seed=7))
    wanted = SequenceModel(settings=ANYTHING.model_copy(update={"hidden": 8, "epochs": 1})).fit(log)
    config = wanted.to_config()
    config["settings"]["index"] = "approximate"
    indexed = SequenceModel.from_config(config, arrays=wanted.arrays())
    assert indexed.index is not None
    score_UI, found_UI = wanted.score_UI(log), indexed.score_UI(log)
    best_U1 = score_UI.max(axis=1, keepdims=True)
    np.testing.assert_allclose(found_UI, score_UI / np.maximum(best_U1, 1e-30), rtol=1e-3, atol=1e-6)
