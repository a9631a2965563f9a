"""Matrix factors from what users took: ALS with confidence (Hu et al. 2008), and BPR (Rendle et al. 2009).

A model reads histories, so both give a history its vector when they are asked: ALS solves for it, BPR sums over it.

Shapes: U users, I items, D factors, N draws.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy import sparse

from recsys.interactions import IntArray, Interactions
from recsys.metrics import ScoreArray
from recsys.models.matrices import user_matrix
from recsys.models.protocol import Arrays, like_JI
from recsys.models.weights import event_weight_E

_STEP_ROWS = 1_024


def _no_factors() -> ScoreArray:
    """Of a model that was not fitted."""
    return np.zeros((0, 0), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlsModel:
    """Factors that minimise the confidence-weighted squared error over all cells, users and items by turns.

    ``sum over u, i of c_ui ([u took i] - x_u . y_i)^2 + ridge (|x_u|^2 + |y_i|^2)``; ``c_ui`` is ``1 + confidence``
    where u took i and 1 elsewhere.
    """

    kind: ClassVar[str] = "als"
    num_factors: int = 64
    confidence: float = 10.0
    ridge: float = 10.0
    iterations: int = 8
    seed: int = 0
    item_ID: ScoreArray = field(default_factory=_no_factors)

    def fit(self, interactions: Interactions) -> Self:
        """Alternate between users and items."""
        taken_UI = _taken(interactions)
        taken_IU = sparse.csr_array(taken_UI.T)
        rng = np.random.default_rng(self.seed)
        item_ID = rng.standard_normal((interactions.num_items, self.num_factors), dtype=np.float32) * 0.1
        for _ in range(self.iterations):
            item_ID = self._solve(taken_IU, self._solve(taken_UI, item_ID))
        return replace(self, item_ID=item_ID)

    def score_UI(self, histories: Interactions) -> ScoreArray:
        """Products with the vector that a history solves to, negative ones as 0."""
        return np.maximum(self._solve(_taken(histories), self.item_ID) @ self.item_ID.T, 0.0)

    def similar_JI(self, item_J: IntArray) -> ScoreArray:
        """Cosine of item factors."""
        return like_JI(self.item_ID, item_J)

    def to_config(self) -> dict[str, Any]:
        """Parameters."""
        names = ("num_factors", "confidence", "ridge", "iterations", "seed")
        return {name: getattr(self, name) for name in names}

    def arrays(self) -> Arrays:
        """Item factors."""
        return {"item_ID": self.item_ID}

    @classmethod
    def from_config(cls, config: dict[str, Any], *, arrays: Arrays) -> Self:
        """Model with these parameters and factors."""
        return cls(**config, item_ID=arrays["item_ID"])

    def _solve(self, taken: sparse.csr_array, other_ID: ScoreArray) -> ScoreArray:
        """Best vector of each row, given the factors of the columns."""
        other = torch.from_numpy(other_ID)
        base_DD = other.T @ other + self.ridge * torch.eye(other.shape[1])
        solved = torch.zeros(taken.shape[0], other.shape[1])
        size = np.diff(taken.indptr)
        # Rows of about one length go together, so that little is padding.
        for rows in np.array_split(np.argsort(size, kind="stable"), -(-len(size) // _STEP_ROWS) or 1):
            width = int(size[rows].max(initial=0))
            if width == 0:
                continue
            step = np.arange(width)
            real = torch.from_numpy(step < size[rows][:, None])
            place = np.minimum(taken.indptr[rows][:, None] + step, len(taken.indices) - 1)
            vectors = other[torch.from_numpy(taken.indices[place].astype(np.int64))] * real[..., None]
            left = base_DD + self.confidence * vectors.transpose(1, 2) @ vectors
            solved[rows] = torch.linalg.solve(left, (1.0 + self.confidence) * vectors.sum(dim=1))
        return solved.numpy()


@dataclass(frozen=True, slots=True, kw_only=True)
class BprModel:
    """Factors that rank what a user took above what they did not: ``-log sigmoid(x_u . (y_i - y_j))``.

    A user's vector is the mean of vectors ``z`` of the items in the history without i itself, as in FISM (Kabbur et al.
    2013), so that histories that were never trained on have one too.
    """

    kind: ClassVar[str] = "bpr"
    num_factors: int = 64
    learning_rate: float = 0.01
    decay: float = 1e-4
    epochs: int = 15
    seed: int = 0
    item_ID: ScoreArray = field(default_factory=_no_factors)
    read_ID: ScoreArray = field(default_factory=_no_factors)

    def fit(self, interactions: Interactions) -> Self:
        """Adam over all pairs of a user and an item, one negative each."""
        torch.manual_seed(self.seed)
        taken_UI = _taken(interactions)
        size_U = np.diff(taken_UI.indptr)
        user_N = np.repeat(np.arange(len(size_U)), size_U)[np.repeat(size_U > 1, size_U)]
        item_N = taken_UI.indices[np.repeat(size_U > 1, size_U)].astype(np.int64)
        bags = [torch.nn.Embedding(interactions.num_items, self.num_factors) for _ in range(2)]
        for bag in bags:
            torch.nn.init.normal_(bag.weight, std=0.05)
        item, read = bags
        optimiser = torch.optim.Adam([*item.parameters(), *read.parameters()], lr=self.learning_rate)
        rng = np.random.default_rng(self.seed)
        for _ in range(self.epochs):
            for rows in np.array_split(rng.permutation(len(user_N)), -(-len(user_N) // (8 * _STEP_ROWS)) or 1):
                other_N = rng.integers(interactions.num_items, size=len(rows))
                loss = self._loss(item, read, taken_UI[user_N[rows]], item_N[rows], other_N)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        return replace(self, item_ID=item.weight.detach().numpy(), read_ID=read.weight.detach().numpy())

    def score_UI(self, histories: Interactions) -> ScoreArray:
        """Products with the mean vector of the history, moved so that none is negative."""
        taken_UI = _taken(histories)
        mean_UD = (taken_UI @ self.read_ID) / np.maximum(np.diff(taken_UI.indptr), 1)[:, None]
        score_UI = (mean_UD @ self.item_ID.T).astype(np.float32)
        score_UI -= score_UI.min(axis=1, keepdims=True)
        return score_UI

    def similar_JI(self, item_J: IntArray) -> ScoreArray:
        """Cosine of item factors."""
        return like_JI(self.item_ID, item_J)

    def to_config(self) -> dict[str, Any]:
        """Parameters."""
        names = ("num_factors", "learning_rate", "decay", "epochs", "seed")
        return {name: getattr(self, name) for name in names}

    def arrays(self) -> Arrays:
        """Item factors, as a target and as part of a history."""
        return {"item_ID": self.item_ID, "read_ID": self.read_ID}

    @classmethod
    def from_config(cls, config: dict[str, Any], *, arrays: Arrays) -> Self:
        """Model with these parameters and factors."""
        return cls(**config, item_ID=arrays["item_ID"], read_ID=arrays["read_ID"])

    def _loss(
        self,
        item: torch.nn.Embedding,
        read: torch.nn.Embedding,
        taken_NI: sparse.csr_array,
        item_N: IntArray,
        other_N: IntArray,
    ) -> torch.Tensor:
        wanted, other = (torch.from_numpy(rows.astype(np.int64)) for rows in (item_N, other_N))
        column = torch.from_numpy(taken_NI.indices.astype(np.int64))
        offset = torch.from_numpy(taken_NI.indptr[:-1].astype(np.int64))
        whole_ND = torch.nn.functional.embedding_bag(column, read.weight, offset, mode="sum")
        size_N = torch.from_numpy(np.diff(taken_NI.indptr)[:, None])
        user_ND = (whole_ND - read(wanted)) / (size_N - 1).clamp(min=1)
        margin_N = (user_ND * (item(wanted) - item(other))).sum(dim=1)
        squares = user_ND.square().sum(dim=1) + item(wanted).square().sum(dim=1) + item(other).square().sum(dim=1)
        return (torch.nn.functional.softplus(-margin_N) + self.decay * squares).mean()


def _taken(histories: Interactions) -> sparse.csr_array:
    taken_UI = user_matrix(histories, weight_E=event_weight_E(histories))
    taken_UI.eliminate_zeros()
    return taken_UI.sign()
