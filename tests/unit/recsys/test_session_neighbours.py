import pytest
from test_transitions import paths, score

from recsys.models.session_neighbours import SessionNeighbours

NEAR = SessionNeighbours(recency=0.5, nearness=0.5)


def test_what_came_after_the_shared_item_counts_by_likeness_and_distance():
    log = paths("abc", "xb")
    # Of "b", the first session shares one item of three, the second one of two; what came before it counts nothing.
    expected = {"a": 0, "b": 3**-0.5 + 2**-0.5, "c": 0.5 * 3**-0.5, "x": 0}
    assert score(NEAR.fit(log), log, "b") == pytest.approx(expected, rel=1e-5)


def test_the_paper_counts_what_came_before_alike():
    log = paths("abc")
    scores = score(SessionNeighbours(nearness=0.5, before=1.0).fit(log), log, "b")
    assert scores["a"] == pytest.approx(scores["c"])


def test_the_latest_shared_item_is_where_distance_counts_from():
    log = paths("abxyc")
    scores = score(NEAR.fit(log), log, "abx")
    assert scores["y"] == pytest.approx(2 * scores["c"])
    # x weighs 1, b half, a a quarter.
    assert scores["y"] == pytest.approx(0.5 * 1.75 * 5**-0.5)


def test_a_session_that_has_nothing_new_is_no_neighbour():
    log = paths("ab", "abc")
    alone = score(NEAR.fit(paths("abc")), paths("abc"), "ab")
    assert score(NEAR.fit(log), log, "ab") == pytest.approx(alone)


def test_only_the_nearest_sessions_are_summed_over():
    log = paths("abc", "axyd")
    scores = score(SessionNeighbours(num_neighbours=1).fit(log), log, "ab")
    assert scores["c"] > 0
    assert scores["d"] == 0


def test_only_the_latest_sessions_are_kept():
    log = paths("ab", "cde")
    kept = SessionNeighbours(max_sessions=1).fit(log)
    assert log.item_ids_I[kept.item_E].tolist() == ["c", "d", "e"]
