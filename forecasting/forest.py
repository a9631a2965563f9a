"""Fitted trees as flat arrays, walked for all periods ahead of a series at once: the numbers of LightGBM, sooner.

Most inputs are the same for every period ahead of an origin. A branch on such an input sends all periods one way; only
the others divide them. So one walk serves all periods, where a predictor that takes row by row walks once for each.

Shapes: S series, H periods ahead, Q boosters, R trees, Z inputs, Y inputs that are the same for all periods
ahead, V inputs that differ, N branches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.panel import FloatArray, IntArray

WORD_BITS = 64
"""Periods ahead that one walk serves: each is a bit of one word."""
_BRANCH = np.dtype(
    [
        ("threshold", np.float64),
        ("left", np.int32),
        ("right", np.int32),
        ("feature", np.int32),
        ("nan_left", np.int32),
        ("first_word", np.int32),
        ("num_words", np.int32),
    ],
    align=True,
)
"""``left`` and ``right`` are branches, or leaves as the complement of their number; words hold a set of categories."""
_IS_CATEGORY, _IS_DEFAULT_LEFT = 1, 2
_ZERO_IS_MISSING, _NAN_IS_MISSING = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forest:
    """Boosters, all their trees one after the other.

    Parameters
    ----------
    texts
        The boosters as LightGBM writes them.
    end_Q
        Trees up to the end of each booster.
    root_R
        Where each tree starts: a branch, or a leaf as the complement of its number.
    """

    texts: tuple[str, ...]
    end_Q: IntArray
    root_R: IntArray
    branch_N: npt.NDArray[Any]
    word_N: npt.NDArray[np.uint32]
    leaf_N: npt.NDArray[np.float64]

    @classmethod
    def read(cls, texts: Sequence[str]) -> "Forest":
        """Read boosters from their text.

        Raises
        ------
        ValueError, LookupError
            If one is not a model that LightGBM wrote.
        """
        parts = _Parts()
        roots = [[parts.add(tree) for tree in _trees_of(text)] for text in texts]
        if not all(roots):
            raise ValueError("not a model of LightGBM: no trees in it")
        branch_N = np.array(parts.branches, dtype=_BRANCH)
        _check_branches(branch_N, num_leaves=len(parts.leaves), num_words=len(parts.words))
        return cls(
            texts=tuple(texts),
            end_Q=np.cumsum([len(own) for own in roots]),
            root_R=np.concatenate(roots).astype(np.int64),
            branch_N=branch_N,
            word_N=np.array(parts.words, dtype=np.uint32),
            leaf_N=np.array(parts.leaves, dtype=np.float64),
        )

    def compile(self) -> None:
        """Compile the walk now: else the first forecast of the process waits a second for it."""
        none = np.zeros((0, 1), dtype=np.float32)
        num_inputs = int(self.branch_N["feature"].max(initial=0)) + 1
        self.predict_SHQ(none, none[:, :, None], column_Z=np.zeros(num_inputs, dtype=np.int64))

    def predict_SHQ(
        self, origin_SY: FloatArray, ahead_SHV: FloatArray, *, column_Z: IntArray
    ) -> npt.NDArray[np.float64]:
        """Answers of every booster, equal to those of LightGBM.

        Parameters
        ----------
        column_Z
            Where each input lies: a column of ``ahead_SHV``, or one of ``origin_SY`` as the complement of its number.

        Raises
        ------
        ValueError
            If the trees read more inputs than these.
        """
        if (self.branch_N["feature"] >= len(column_Z)).any():
            raise ValueError(f"trees that read more than the {len(column_Z)} inputs given")
        from forecasting.tree_walk import walk  # here: what reads no trees need not wait for the compiler

        S, H, _ = ahead_SHV.shape
        out_SQH = np.zeros((S, len(self.texts), H))
        for first in range(0, H, WORD_BITS):
            part_SVH = np.ascontiguousarray(ahead_SHV[:, first : first + WORD_BITS].transpose(0, 2, 1))
            part_SQH = np.zeros((S, len(self.texts), part_SVH.shape[2]))
            trees = (self.end_Q, self.root_R, self.branch_N, self.word_N, self.leaf_N)
            walk(origin_SY, part_SVH, column_Z, *trees, part_SQH)
            out_SQH[:, :, first : first + WORD_BITS] = part_SQH
        return out_SQH.transpose(0, 2, 1)


def _check_branches(branch_N: npt.NDArray[Any], *, num_leaves: int, num_words: int) -> None:
    """Refuse what a walk would not come out of, or would leave the arrays by: compiled code does not look."""
    own_N = np.arange(len(branch_N))
    for side in ("left", "right"):
        child_N = branch_N[side]
        if ((child_N >= 0) & ((child_N <= own_N) | (child_N >= len(branch_N)))).any() or (child_N < -num_leaves).any():
            raise ValueError("not a model of LightGBM: a branch leads nowhere, or back")
    if (branch_N["feature"] < 0).any():
        raise ValueError("not a model of LightGBM: a branch reads no input")
    end_N = branch_N["first_word"].astype(np.int64) + branch_N["num_words"]
    if (branch_N["first_word"] < 0).any() or (branch_N["num_words"] < 0).any() or (end_N > num_words).any():
        raise ValueError("not a model of LightGBM: a branch on categories that are not there")


class _Parts:
    """Branches, leaves and sets of categories of all trees, one after the other."""

    def __init__(self) -> None:
        self.branches: list[tuple[float | int, ...]] = []
        self.words: list[int] = []
        self.leaves: list[float] = []

    def add(self, tree: dict[str, str]) -> int:
        """Append a tree; returns its root."""
        first_branch, first_leaf, first_word = len(self.branches), len(self.leaves), len(self.words)
        self.leaves += map(float, tree["leaf_value"].split())
        if len(self.leaves) == first_leaf + 1:
            return ~first_leaf
        place = [int(word) + first_word for word in tree.get("cat_boundaries", "").split()]
        self.words += map(int, tree.get("cat_threshold", "").split())

        def child(text: str) -> int:
            number = int(text)
            return number + first_branch if number >= 0 else ~(~number + first_leaf)

        names = ("threshold", "left_child", "right_child", "split_feature", "decision_type")
        for threshold, left, right, feature, decision in zip(*(tree[name].split() for name in names), strict=True):
            kind, ends = int(decision), (child(left), child(right), int(feature))
            if kind & _IS_CATEGORY:
                start, stop = place[int(threshold)], place[int(threshold) + 1]
                self.branches.append((0.0, *ends, 0, start, stop - start))
            else:
                self.branches.append((float(threshold), *ends, _nan_goes_left(kind, float(threshold)), 0, 0))
        return first_branch


def _trees_of(text: str) -> Iterator[dict[str, str]]:
    for part in text.split("\nTree=")[1:]:
        yield dict(line.split("=", 1) for line in part.split("\n\n")[0].splitlines() if "=" in line)


def _nan_goes_left(kind: int, threshold: float) -> bool:
    """Where LightGBM sends what is not a number: as learned, or like zero if training saw none."""
    missing = kind >> 2
    if missing == _ZERO_IS_MISSING:
        raise ValueError("trees that take zero for missing are not read")
    return bool(kind & _IS_DEFAULT_LEFT) if missing == _NAN_IS_MISSING else threshold >= 0.0
