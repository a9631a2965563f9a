import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.metrics import ranking_metrics, top_items


def slow_metrics(ranked, wanted, k):
    """Recall and NDCG as one would write them down for one user after the other."""
    recalls, gains = [], []
    for items, targets in zip(ranked, wanted, strict=True):
        found = [item in targets for item in list(items)[:k]]
        recalls.append(sum(found) / len(targets))
        gain = sum(1 / math.log2(place + 2) for place, hit in enumerate(found) if hit)
        gains.append(gain / sum(1 / math.log2(place + 2) for place in range(min(len(targets), k))))
    return {"recall": sum(recalls) / len(recalls), "ndcg": sum(gains) / len(gains)}


@given(seed=st.integers(0, 10_000), num_users=st.integers(1, 7), num_items=st.integers(1, 12), k=st.integers(1, 15))
@settings(max_examples=200, deadline=None)
def test_metrics_equal_the_slow_loop(seed, num_users, num_items, k):
    rng = np.random.default_rng(seed)
    wanted = [rng.permutation(num_items)[: rng.integers(1, num_items + 1)].tolist() for _ in range(num_users)]
    ranked = np.stack([rng.permutation(num_items) for _ in range(num_users)])[:, : rng.integers(1, num_items + 1)]
    ranked[rng.random(ranked.shape) < 0.2] = -1
    offset = np.concatenate([[0], np.cumsum([len(items) for items in wanted])])
    found = ranking_metrics(ranked, target_N=np.concatenate(wanted), offset_U1=offset, k=k)
    expected = slow_metrics(ranked.tolist(), wanted, k)
    assert math.isclose(found["recall"], expected["recall"], abs_tol=1e-12)
    assert math.isclose(found["ndcg"], expected["ndcg"], abs_tol=1e-12)


@given(
    seed=st.integers(0, 10_000),
    num_items=st.one_of(st.integers(1, 30), st.integers(100, 1_000)),
    k=st.integers(1, 40),
    num_equal=st.sampled_from([1, 1, 3, 500]),
)
@settings(max_examples=200, deadline=None)
def test_top_items_equal_a_full_sort(seed, num_items, k, num_equal):
    rng = np.random.default_rng(seed)
    scores = rng.permuted(np.tile(np.arange(num_items, dtype=np.float32), (3, 1)), axis=1) // num_equal
    scores[rng.random(scores.shape) < 0.3] = -np.inf
    items, values = top_items(scores, k=k)
    for row in range(3):
        expected = [i for i in np.argsort(-scores[row], kind="stable")[:k] if np.isfinite(scores[row, i])]
        assert items[row][items[row] >= 0].tolist() == expected
        assert values[row][: len(expected)].tolist() == scores[row, expected].tolist()
