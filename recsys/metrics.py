"""How good a ranking is: Recall@k and NDCG@k over all items, never over a sample of them.

Shapes: U users, I items, K ranks, N items to find.
"""

import numpy as np
import numpy.typing as npt

from recsys.interactions import IntArray, RowArray

ScoreArray = npt.NDArray[np.float32]


def top_items(score_UI: ScoreArray, *, k: int) -> tuple[RowArray, ScoreArray]:
    """Rows and scores of the k best items per user, best first; equal scores in row order, -1 where a score is -inf."""
    num_items = score_UI.shape[1]
    k = min(k, num_items)
    if k < num_items:
        part = np.argpartition(-score_UI, k - 1, axis=1)[:, :k]
        part.sort(axis=1)
    else:
        part = np.broadcast_to(np.arange(num_items), score_UI.shape)
    order = np.argsort(-np.take_along_axis(score_UI, part, axis=1), axis=1, kind="stable")
    item_UK = np.take_along_axis(part, order, axis=1)
    score_UK = np.take_along_axis(score_UI, item_UK, axis=1)
    return np.where(np.isfinite(score_UK), item_UK, -1).astype(np.int32), score_UK


def ranking_metrics(item_UK: RowArray, *, target_N: RowArray, offset_U1: IntArray, k: int) -> dict[str, float]:
    """Mean Recall@k and NDCG@k of ranked items against the items to find.

    Recall is hits over items to find; NDCG's ideal ranking holds ``min(items to find, k)`` hits
    (Järvelin & Kekäläinen 2002, binary gain, base-2 discount).

    Parameters
    ----------
    item_UK
        Ranked item rows, best first; -1 is no item.
    target_N, offset_U1
        Items to find of user ``u`` are ``target_N[offset_U1[u]:offset_U1[u + 1]]``, each once and at least one.

    Returns
    -------
    ``{"recall": ..., "ndcg": ...}``, each in 0..1.

    Examples
    --------
    >>> found = ranking_metrics(np.array([[7, 3]]), target_N=np.array([3, 9]), offset_U1=np.array([0, 2]), k=2)
    >>> found["recall"], round(found["ndcg"], 4)
    (0.5, 0.3869)
    """
    measured = user_metrics_U(item_UK, target_N=target_N, offset_U1=offset_U1, k=k)
    return {name: float(measured[name].mean()) for name in ("recall", "ndcg")}


def user_metrics_U(
    item_UK: RowArray, *, target_N: RowArray, offset_U1: IntArray, k: int
) -> dict[str, npt.NDArray[np.float64]]:
    """Recall@k, NDCG@k and reciprocal rank of the first hit within k, of each user.

    Parameters are those of :func:`ranking_metrics`.
    """
    size_U = np.diff(offset_U1)
    hit_UK = hits(item_UK[:, :k], target_N=target_N, offset_U1=offset_U1)
    discount_K = 1.0 / np.log2(np.arange(2, k + 2))
    first_U = hit_UK.argmax(axis=1)
    return {
        "recall": hit_UK.sum(axis=1) / size_U,
        "ndcg": hit_UK @ discount_K[: hit_UK.shape[1]] / ideal_gain_K(k)[np.minimum(size_U, k)],
        "mrr": hit_UK.any(axis=1) / (first_U + 1.0),
    }


def ideal_gain_K(k: int) -> npt.NDArray[np.float64]:
    """Discounted gain of 0, 1, ... k hits at the top of a ranking, shape (k + 1,)."""
    return np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))])


def hits(item_UK: RowArray, *, target_N: RowArray, offset_U1: IntArray) -> npt.NDArray[np.bool_]:
    """Whether each ranked item is among its user's items to find."""
    num_users = len(offset_U1) - 1
    width = max(int(item_UK.max(initial=0)), int(target_N.max(initial=0))) + 1
    wanted = np.repeat(np.arange(num_users), np.diff(offset_U1)) * width + target_N
    ranked = np.arange(num_users)[:, None] * width + item_UK
    return np.isin(ranked, wanted) & (item_UK >= 0)
