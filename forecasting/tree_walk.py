"""The walk through the trees of :mod:`forecasting.forest` as machine code: numba compiles it at the first call.

Shapes: as in :mod:`forecasting.forest`. A mask holds one bit for each period ahead.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from cluster.panel import FloatArray, IntArray

Words = npt.NDArray[np.uint32]
Masks = npt.NDArray[np.uint64]

_BLOCK_SERIES = 64
"""Series that walk a tree before the next one is fetched: the tree stays near the processor."""
_MOST_WAITING = 64
"""A branch that waits holds at least one period ahead that no other holds, and there are 64 at most."""
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE, _NONE = np.uint64(1), np.uint64(0)


@njit(nogil=True)
def walk(
    origin_SY: FloatArray,
    ahead_SVH: FloatArray,
    column_Z: IntArray,
    end_Q: IntArray,
    root_R: IntArray,
    branch_N: npt.NDArray[Any],
    word_N: Words,
    leaf_N: npt.NDArray[np.float64],
    out_SQH: npt.NDArray[np.float64],
) -> None:
    """Add the leaf of every tree, in order, to ``out_SQH``; at most 64 periods ahead."""
    S, H = origin_SY.shape[0], ahead_SVH.shape[2]
    everything = _ALL >> np.uint64(64 - H)
    waiting_D, mask_D = np.empty(_MOST_WAITING, np.int64), np.empty(_MOST_WAITING, np.uint64)
    for q in range(len(end_Q)):
        for block in range(0, S, _BLOCK_SERIES):
            for tree in range(end_Q[q - 1] if q else 0, end_Q[q]):
                for s in range(block, min(block + _BLOCK_SERIES, S)):
                    waiting_D[0], mask_D[0] = root_R[tree], everything
                    depth = 1
                    while depth > 0:
                        depth, leaf, mask = _descend(
                            depth - 1, waiting_D, mask_D, s, origin_SY, ahead_SVH, column_Z, branch_N, word_N
                        )
                        if mask == everything:
                            for h in range(H):
                                out_SQH[s, q, h] += leaf_N[leaf]
                        else:
                            for h in range(H):
                                if mask >> np.uint64(h) & _ONE:
                                    out_SQH[s, q, h] += leaf_N[leaf]


@njit(nogil=True, inline="always")
def _descend(
    depth: int,
    waiting_D: IntArray,
    mask_D: Masks,
    s: int,
    origin_SY: FloatArray,
    ahead_SVH: FloatArray,
    column_Z: IntArray,
    branch_N: npt.NDArray[Any],
    word_N: Words,
) -> tuple[int, int, np.uint64]:
    """Follow what waits at ``depth`` to a leaf; right sides of branches that divide the periods wait from there on.

    Returns how many wait now, the leaf, and the periods that reached it.
    """
    node, mask = waiting_D[depth], mask_D[depth]
    while node >= 0:
        branch = branch_N[node]
        column = column_Z[branch.feature]
        if column < 0:
            node = branch.left if _goes_left(origin_SY[s, ~column], branch, word_N) else branch.right
            continue
        left, threshold = _NONE, branch.threshold
        for h in range(ahead_SVH.shape[2]):
            left |= np.uint64(ahead_SVH[s, column, h] <= threshold) << np.uint64(h)
        left &= mask
        if left == mask:
            node = branch.left
        elif left == _NONE:
            node = branch.right
        else:
            waiting_D[depth], mask_D[depth] = branch.right, mask & ~left
            depth += 1
            node, mask = branch.left, left
    return depth, ~node, mask


@njit(nogil=True, inline="always")
def _goes_left(value: np.float32, branch: Any, word_N: Words) -> bool:
    if branch.num_words > 0:
        if not value >= 0:
            return False
        number = int(value)
        word = number >> 5
        if word >= branch.num_words:
            return False
        return (word_N[branch.first_word + word] >> np.uint32(number & 31)) & np.uint32(1) != 0
    if np.isnan(value):
        return branch.nan_left != 0
    return value <= branch.threshold
