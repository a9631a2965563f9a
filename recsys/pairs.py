"""Which items are bought together more often than their customers' habits explain. Pure NumPy and SciPy.

That two items share baskets says little by itself: a large basket holds everything, and a family with a cat buys cat
food and cat litter whether or not one leads to the other. So the expectation is not that of independent items but of
**the same customers, who put what they buy into baskets of the same sizes at random**. What is left over is the pair.

Shapes: G baskets, I items, U customers, N pairs.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import sparse, special, stats

from recsys.baskets import GUEST, Baskets
from recsys.interactions import IntArray, StrArray

Matrix = npt.NDArray[np.float64]
MIN_OWN_BASKETS: Final = 5
"""Customers with fewer baskets are pooled: one or two baskets say nothing of what was together by chance."""

_BLOCK: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemPairs:
    """Pairs that share at least one basket, most significant first; ``first_N < second_N``.

    Parameters
    ----------
    together_N, expected_N
        Baskets that hold both, and how many would if customers dealt their items to their baskets at random.
    p_N
        Chance of so many or more: upper tail of the Poisson law with that mean.
    q_N
        Least false discovery rate at which the pair is found (Benjamini & Hochberg 1995) among **all** pairs of the
        items, also those that never met.
    """

    item_ids_I: StrArray
    num_I: IntArray
    num_baskets: int
    first_N: IntArray
    second_N: IntArray
    together_N: IntArray
    expected_N: Matrix
    p_N: Matrix
    q_N: Matrix

    def __len__(self) -> int:
        return len(self.first_N)

    @property
    def lift_N(self) -> Matrix:
        """Observed over expected, one basket added to both so that rare pairs do not get wild ratios."""
        return (self.together_N + 1) / (self.expected_N + 1)

    @property
    def plain_lift_N(self) -> Matrix:
        """Textbook lift: observed over what independent items would give."""
        return self.together_N * self.num_baskets / (self.num_I[self.first_N] * self.num_I[self.second_N])

    @property
    def support_N(self) -> Matrix:
        """Share of all baskets that hold both."""
        return self.together_N / self.num_baskets

    @property
    def confidence_N(self) -> Matrix:
        """Share of the baskets with the rarer item that hold the other one too."""
        return self.together_N / np.minimum(self.num_I[self.first_N], self.num_I[self.second_N])

    def take(self, chosen_N: npt.NDArray[np.bool_] | IntArray) -> "ItemPairs":
        """Pick pairs, in the given order."""
        columns = ("first_N", "second_N", "together_N", "expected_N", "p_N", "q_N")
        picked = {name: getattr(self, name)[chosen_N] for name in columns}
        return ItemPairs(item_ids_I=self.item_ids_I, num_I=self.num_I, num_baskets=self.num_baskets, **picked)

    def found(self, *, false_discovery_rate: float) -> "ItemPairs":
        """Pairs of which at most this share is expected to be chance."""
        return self.take(self.q_N <= false_discovery_rate)


def find_pairs(baskets: Baskets) -> ItemPairs:
    """Count, expect and test every pair of items that met."""
    matrix_GI = baskets.matrix_GI()
    together_II = np.triu((matrix_GI.T @ matrix_GI).toarray(), 1)
    habit_UI = _habits_UI(baskets).toarray()
    expected_II = habit_UI.T @ habit_UI
    first_N, second_N = np.nonzero(together_II)
    together_N = np.rint(together_II[first_N, second_N]).astype(np.int64)
    expected_N = expected_II[first_N, second_N].astype(np.float64)
    p_N = special.gammainc(together_N, np.maximum(expected_N, 1e-12))  # P(Poisson >= together)
    num_items = len(baskets.item_ids_I)
    order = np.lexsort((second_N, first_N, p_N))
    return ItemPairs(
        item_ids_I=baskets.item_ids_I,
        num_I=baskets.num_I,
        num_baskets=len(baskets),
        first_N=first_N[order],
        second_N=second_N[order],
        together_N=together_N[order],
        expected_N=expected_N[order],
        p_N=p_N[order],
        q_N=false_discovery_q_N(p_N[order], num_tests=num_items * (num_items - 1) // 2),
    )


def count_pairs(baskets: Baskets, *, first_N: IntArray, second_N: IntArray) -> tuple[Matrix, Matrix]:
    """Baskets that hold both items of each given pair, and how many would by chance."""
    basket_IG = sparse.csr_array(baskets.matrix_GI().T)
    habit_IU = sparse.csr_array(_habits_UI(baskets).T)
    together_N, expected_N = np.zeros(len(first_N)), np.zeros(len(first_N))
    for start in range(0, len(first_N), _BLOCK):
        block = slice(start, start + _BLOCK)
        for matrix, out_N in ((basket_IG, together_N), (habit_IU, expected_N)):
            out_N[block] = matrix[first_N[block]].multiply(matrix[second_N[block]]).sum(axis=1)
    return together_N, expected_N


def _habits_UI(baskets: Baskets) -> sparse.csr_array:
    """A matrix whose product with itself is what chance puts together.

    A customer with baskets of sizes ``s_1 ... s_n`` and ``S`` items in all puts two given ones into the same basket
    with chance ``k = sum s (s - 1) / (S (S - 1))``; with ``x_i`` of item i and ``x_j`` of j that makes ``x_i x_j k``.
    Guests and customers with fewer than :data:`MIN_OWN_BASKETS` baskets count as one customer.
    """
    own_U = np.bincount(baskets.user_G[baskets.user_G != GUEST], minlength=1) >= MIN_OWN_BASKETS
    pool = len(own_U)
    customer_G = np.where((baskets.user_G != GUEST) & own_U[baskets.user_G], baskets.user_G, pool)
    size_G = baskets.size_G.astype(np.float64)
    total_U = np.bincount(customer_G, size_G, minlength=pool + 1)
    same_U = np.bincount(customer_G, size_G * (size_G - 1), minlength=pool + 1)
    chance_U = same_U / np.maximum(total_U * (total_U - 1), 1.0)
    customer_N = customer_G[baskets.basket_N]
    weight_N = np.sqrt(chance_U)[customer_N].astype(np.float32)
    shape = (pool + 1, len(baskets.item_ids_I))
    return sparse.csr_array(sparse.coo_array((weight_N, (customer_N, baskets.item_N)), shape=shape))


def fisher_p_N(pairs: ItemPairs) -> Matrix:
    """One-sided p of Fisher's exact test, which takes items for independent: the textbook's, for comparison."""
    first_N, second_N = pairs.num_I[pairs.first_N], pairs.num_I[pairs.second_N]
    return np.asarray(stats.hypergeom.sf(pairs.together_N - 1, pairs.num_baskets, first_N, second_N))


def false_discovery_q_N(p_N: Matrix, *, num_tests: int) -> Matrix:
    """Benjamini-Hochberg q of each p, in the given order; tests that are not listed have p = 1.

    >>> false_discovery_q_N(np.array([0.001, 0.02, 0.03]), num_tests=4).round(4).tolist()
    [0.004, 0.04, 0.04]
    """
    order = np.argsort(p_N, kind="stable")
    raised = p_N[order] * num_tests / np.arange(1, len(p_N) + 1)
    q_N = np.empty_like(p_N)
    q_N[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
    return q_N
