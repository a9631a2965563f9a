"""How good a ranking is: Recall@k and NDCG@k over all items, never over a sample of them.

Shapes: U users, I items, K ranks, P candidates, B blocks of items, N items to find.
"""

import numpy as np
import numpy.typing as npt

from recsys.interactions import IntArray, RowArray

ScoreArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
_BLOCKS_PER_RANK = 2
_CROWD = 8


def top_items(score_UI: ScoreArray, *, k: int) -> tuple[RowArray, ScoreArray]:
    """Rows and scores of the k best items per user, best first; equal scores in row order, -1 where a score is -inf."""
    k = min(k, score_UI.shape[1])
    item_UP = _rows_UP(_candidates_UI(score_UI, k=k), least=k)
    score_UP = np.where(item_UP >= 0, np.take_along_axis(score_UI, np.maximum(item_UP, 0), axis=1), -np.inf)
    order_UK = np.argsort(-score_UP, axis=1, kind="stable")[:, :k]
    item_UK = np.take_along_axis(item_UP, order_UK, axis=1)
    score_UK = np.take_along_axis(score_UP, order_UK, axis=1).astype(np.float32, copy=False)
    return np.where(np.isfinite(score_UK), item_UK, -1).astype(np.int32), score_UK


def _candidates_UI(score_UI: ScoreArray, *, k: int) -> BoolArray:
    """Where the k best items of each user are, and few others; never a score of -inf.

    The k-th best of the maxima of blocks is no more than the k-th best score, and is found in a fraction of the time.
    Users with too many scores as good as that, most of them equal, get their k best from the whole row.
    """
    num_users, num_items = score_UI.shape
    block = num_items // (_BLOCKS_PER_RANK * k)
    if block < 2:
        return _best_UI(score_UI, k=k)
    whole = num_items - num_items % block
    best_UB = score_UI[:, :whole].reshape(num_users, -1, block).max(axis=2)
    kept_UI = score_UI >= np.maximum(_kth_U1(best_UB, k=k), np.finfo(np.float32).min)
    crowded_U = np.count_nonzero(kept_UI, axis=1) > _CROWD * k
    if crowded_U.any():
        kept_UI[crowded_U] = _best_UI(score_UI[crowded_U], k=k)
    return kept_UI


def _best_UI(score_UI: ScoreArray, *, k: int) -> BoolArray:
    """Where the k best items of each user are; of equal ones the first."""
    kth_U1 = _kth_U1(score_UI, k=k)
    above_UI, equal_UI = score_UI > kth_U1, score_UI == kth_U1
    room_U1 = k - np.count_nonzero(above_UI, axis=1, keepdims=True)
    return above_UI | (equal_UI & (np.cumsum(equal_UI, axis=1, dtype=np.int32) <= room_U1))


def _kth_U1(score_UX: ScoreArray, *, k: int) -> ScoreArray:
    # np.partition is ten times slower where many values are equal.
    place_U1 = np.argpartition(-score_UX, k - 1, axis=1)[:, k - 1 : k]
    return np.take_along_axis(score_UX, place_U1, axis=1)


def _rows_UP(kept_UI: BoolArray, *, least: int) -> IntArray:
    """Kept items of each user, in row order, then -1; at least so many columns."""
    num_users, num_items = kept_UI.shape
    user_N, item_N = np.divmod(np.flatnonzero(kept_UI), num_items)
    first_U1 = np.searchsorted(user_N, np.arange(num_users + 1))
    item_UP = np.full((num_users, int(np.diff(first_U1).max(initial=least))), -1, dtype=np.int64)
    item_UP[user_N, np.arange(len(user_N)) - first_U1[user_N]] = item_N
    return item_UP


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


def hits(item_UK: RowArray, *, target_N: RowArray, offset_U1: IntArray) -> BoolArray:
    """Whether each ranked item is among its user's items to find."""
    num_users = len(offset_U1) - 1
    width = max(int(item_UK.max(initial=0)), int(target_N.max(initial=0))) + 1
    wanted = np.repeat(np.arange(num_users), np.diff(offset_U1)) * width + target_N
    ranked = np.arange(num_users)[:, None] * width + item_UK
    return np.isin(ranked, wanted) & (item_UK >= 0)
