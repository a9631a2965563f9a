"""Interactions as sparse matrices, and sparse matrices as plain arrays.

Shapes: U users, I items, E events, G baskets.
"""

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recsys.interactions import Interactions
from recsys.metrics import ScoreArray
from recsys.models.protocol import Arrays
from recsys.models.weights import event_weight_E


def basket_matrix(interactions: Interactions) -> sparse.csr_array:
    """One row per basket, the weight of its events by item."""
    row_E = np.cumsum(interactions.basket_start_E) - 1
    shape = (int(row_E[-1]) + 1 if len(row_E) else 0, interactions.num_items)
    matrix = sparse.csr_array((event_weight_E(interactions), (row_E, interactions.item_E)), shape=shape)
    matrix.sum_duplicates()
    return matrix


def user_matrix(interactions: Interactions, *, weight_E: ScoreArray) -> sparse.csr_array:
    """One row per user, the sum of the weights of the events by item."""
    shape = (interactions.num_users, interactions.num_items)
    matrix = sparse.csr_array((weight_E, interactions.item_E, interactions.offset_U1), shape=shape, copy=True)
    matrix.sum_duplicates()
    return matrix


def baskets_back_E(histories: Interactions) -> npt.NDArray[np.int64]:
    """How many baskets before its user's last one each event lies."""
    if not histories.num_events:
        return np.zeros(0, np.int64)
    last_U = histories.basket_E[np.maximum(histories.offset_U1[1:] - 1, 0)]
    return (last_U[histories.user_E] - histories.basket_E).astype(np.int64)


def no_matrix() -> sparse.csr_array:
    """Of a model that was not fitted."""
    return sparse.csr_array(np.zeros((0, 0), np.float32))


def csr_arrays(name: str, matrix: sparse.csr_array) -> Arrays:
    """Plain arrays of a sparse matrix; :func:`csr_of` gives it back."""
    return {
        f"{name}_data": matrix.data.astype(np.float32),
        f"{name}_column": matrix.indices.astype(np.int32),
        f"{name}_offset": matrix.indptr.astype(np.int64),
    }


def csr_of(name: str, arrays: Arrays, *, num_columns: int) -> sparse.csr_array:
    """Sparse matrix that :func:`csr_arrays` wrote."""
    offset = arrays[f"{name}_offset"]
    parts = (arrays[f"{name}_data"], arrays[f"{name}_column"], offset)
    return sparse.csr_array(parts, shape=(len(offset) - 1, num_columns))
