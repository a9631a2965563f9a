"""The network of the sequence model: embeddings, a causal body, and its loss against sampled items.

SASRec (Kang & McAuley 2018) with, in addition: embeddings of behaviour, time gap and the items' attributes, the mean of
the items so far added to the output, targets from the whole next basket, an item bias, and a softmax over sampled
negatives corrected for how they were drawn (or gBCE) instead of one negative. The body is a transformer, a GRU, dilated
convolutions (NextItNet, Yuan et al. 2019) or an MLP over the mean of the items so far and the last few.

Shapes: B windows in a batch, L events, M targets per event, I items, A pairs of an item and an attribute, C candidates,
D width.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.interactions import BEHAVIOURS, ItemAttributes
from recsys.windows import NUM_GAPS

# High enough that an item in the history scores above the rest from the first step on.
_BAG_SCALE = 4.0
_KERNEL = 3
_DILATIONS = (1, 2, 4)
_LAST_ITEMS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkShape:
    """What the network looks like; everything that must be known to build it again.

    Parameters
    ----------
    kind
        'transformer', 'gru', 'cnn' or 'mlp'.
    num_items, length, hidden
        Items, events read at most, width.
    num_layers, num_heads, dropout
        Depth (transformer and GRU), attention heads (transformer only) and dropout while training.
    num_attributes, num_pairs
        Attributes that items have, and pairs of an item and an attribute; 0 without attributes.
    """

    kind: Literal["transformer", "gru", "cnn", "mlp"]
    num_items: int
    length: int
    hidden: int
    num_layers: int = 2
    num_heads: int = 2
    dropout: float = 0.2
    num_attributes: int = 0
    num_pairs: int = 0


class SequenceNetwork(nn.Module):
    """Reads events, gives for every position a vector whose product with an item's vector is the item's score.

    Parameters
    ----------
    attributes
        Of the items, where ``shape`` counts any; loading a state brings them too.
    """

    def __init__(self, shape: NetworkShape, attributes: ItemAttributes | None = None) -> None:
        super().__init__()
        self.shape = shape
        width = shape.hidden
        self.item = nn.Embedding(shape.num_items, width)
        self.position = nn.Embedding(shape.length, width)
        self.behaviour = nn.Embedding(len(BEHAVIOURS), width)
        self.gap = nn.Embedding(NUM_GAPS, width)
        self.bias_I = nn.Parameter(torch.zeros(shape.num_items))
        self.dropout = nn.Dropout(shape.dropout)
        self.body: nn.Module = _BODIES[shape.kind](shape)
        self.norm = nn.LayerNorm(width)
        self.bag_D = nn.Parameter(torch.full((width,), _BAG_SCALE))
        nn.init.normal_(self.item.weight, std=width**-0.5)
        nn.init.normal_(self.position.weight, std=0.02)
        # A behaviour or gap that training never showed then changes nothing.
        nn.init.zeros_(self.behaviour.weight)
        nn.init.zeros_(self.gap.weight)
        if shape.num_pairs:
            self.attribute = nn.EmbeddingBag(shape.num_attributes, width, mode="mean")
            nn.init.zeros_(self.attribute.weight)
            offset_I, code_A = (None, None) if attributes is None else (attributes.offset_I1[:-1], attributes.code_A)
            self.register_buffer("attribute_offset_I", _integers(offset_I, size=shape.num_items))
            self.register_buffer("attribute_code_A", _integers(code_A, size=shape.num_pairs))

    def vectors(self) -> Tensor:
        """Vector of every item, its own and the mean of its attributes', shape (I, D)."""
        if not self.shape.num_pairs:
            return self.item.weight
        return self.item.weight + self.attribute(self.attribute_code_A, self.attribute_offset_I)

    def encode(self, item_BL: Tensor, behaviour_BL: Tensor, gap_BL: Tensor) -> Tensor:
        """Vector after each event, shape (B, L, D); item -1 is padding and stands only behind the real events."""
        return self._encode(self.vectors(), item_BL, behaviour_BL, gap_BL)

    def logits(self, hidden_BD: Tensor) -> Tensor:
        """Score of every item, shape (B, I)."""
        return hidden_BD @ self.vectors().T + self.bias_I

    def _encode(self, item_ID: Tensor, item_BL: Tensor, behaviour_BL: Tensor, gap_BL: Tensor) -> Tensor:
        steps = torch.arange(item_BL.shape[1], device=item_BL.device)
        items_BLD = functional.embedding(item_BL.clamp(min=0), item_ID) * self.shape.hidden**0.5
        inputs_BLD = items_BLD + self.position(steps) + self.behaviour(behaviour_BL) + self.gap(gap_BL)
        # Straight from the items so far to the answer: repeats and items of one kind need not be learned by attention.
        bag_BLD = items_BLD.cumsum(dim=1) / (steps + 1)[:, None]
        return self.norm(self.body(self.dropout(inputs_BLD))) + self.bag_D * bag_BLD

    def forward(
        self,
        item_BL: Tensor,
        behaviour_BL: Tensor,
        gap_BL: Tensor,
        target_BLM: Tensor,
        candidate_C: Tensor,
        log_draws_C: Tensor,
        calibration: float | None = None,
    ) -> Tensor:
        """Mean cross-entropy of the targets against the candidates; with ``calibration``, :func:`gbce_NM`'s mean.

        ``log_draws_C`` is the log of how often a candidate was expected to be drawn; taking it off a candidate's score
        makes the sum over candidates an unbiased estimate of the sum over all items (Bengio & Senécal 2008). With every
        item as a candidate the loss is exact.
        """
        real_BL = target_BLM[..., 0] >= 0
        item_ID = self.vectors()
        hidden_ND = self._encode(item_ID, item_BL, behaviour_BL, gap_BL)[real_BL]
        target_NM = target_BLM[real_BL]
        target_NMD = functional.embedding(target_NM, item_ID)
        positive_NM = torch.einsum("nd,nmd->nm", hidden_ND, target_NMD) + self.bias_I[target_NM]
        negative_NC = hidden_ND @ item_ID[candidate_C].T + self.bias_I[candidate_C]
        if calibration is not None:
            same_NMC = target_NM[..., None] == candidate_C
            num_items = self.shape.num_items
            return gbce_NM(positive_NM, negative_NC, same_NMC, num_items=num_items, calibration=calibration).mean()
        rest_N = torch.logsumexp(negative_NC - log_draws_C, dim=1, keepdim=True)
        if len(candidate_C) == self.shape.num_items:
            return (rest_N - positive_NM).mean()
        return (torch.logaddexp(positive_NM, rest_N) - positive_NM).mean()


def gbce_NM(
    positive_NM: Tensor, negative_NC: Tensor, same_NMC: Tensor, *, num_items: int, calibration: float
) -> Tensor:
    """Generalised binary cross-entropy of each target (Petrov & Macdonald 2023, gSASRec, equations 11 and 12).

    ``-(beta log s(positive) + sum over negatives of log(1 - s(negative))) / (C + 1)`` with s the logistic function,
    ``beta = a (t (1 - 1/a) + 1/a)`` and a the share of all other items that is sampled. Plain binary cross-entropy
    with few negatives makes everything look likely; the power beta takes that back.

    Parameters
    ----------
    same_NMC
        Whether a candidate is the target itself, and no negative.
    calibration
        t in 0..1: 0 is plain binary cross-entropy, 1 makes s(score) the share in which an item comes next.
    """
    num_sampled = negative_NC.shape[1]
    share = min(num_sampled / max(num_items - 1, 1), 1.0)
    beta = share * (calibration * (1 - 1 / share) + 1 / share)
    wrong_NC = functional.softplus(negative_NC)
    wrong_NM = wrong_NC.sum(dim=1, keepdim=True) - (wrong_NC[:, None] * same_NMC).sum(dim=2)
    return (beta * functional.softplus(-positive_NM) + wrong_NM) / (num_sampled + 1)


class _Transformer(nn.Module):
    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(shape) for _ in range(shape.num_layers))

    def forward(self, inputs_BLD: Tensor) -> Tensor:
        for block in self.blocks:
            inputs_BLD = block(inputs_BLD)
        return inputs_BLD


class _Block(nn.Module):
    """Pre-norm attention over the past and a feed-forward layer."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        width = shape.hidden
        self.num_heads = shape.num_heads
        self.before_attention = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, inputs_BLD: Tensor) -> Tensor:
        batch, length, width = inputs_BLD.shape
        heads = self.queries_keys_values(self.before_attention(inputs_BLD))
        query, key, value = heads.view(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        # Padding stands behind the real events, so looking back only is all the masking there is to do.
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        mixed = self.mix(attended.transpose(1, 2).reshape(batch, length, width))
        inputs_BLD = inputs_BLD + self.dropout(mixed)
        return inputs_BLD + self.dropout(self.feed(inputs_BLD))


class _Gru(nn.Module):
    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.layers = nn.GRU(shape.hidden, shape.hidden, num_layers=shape.num_layers, batch_first=True)

    def forward(self, inputs_BLD: Tensor) -> Tensor:
        return self.layers(inputs_BLD)[0]


class _Cnn(nn.Module):
    """Residual blocks of causal convolutions that look 1, 2, then 4 events further back per tap."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        width = shape.hidden
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in _DILATIONS)
        self.taps = nn.ModuleList(nn.Linear(_KERNEL * width, width) for _ in _DILATIONS)
        self.mixes = nn.ModuleList(nn.Linear(width, width) for _ in _DILATIONS)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, inputs_BLD: Tensor) -> Tensor:
        for dilation, norm, tap, mix in zip(_DILATIONS, self.norms, self.taps, self.mixes, strict=True):
            behind = _behind(norm(inputs_BLD), [dilation * step for step in range(_KERNEL)])
            inputs_BLD = inputs_BLD + self.dropout(mix(functional.gelu(tap(behind))))
        return inputs_BLD


class _Mlp(nn.Module):
    """Two layers over the mean of the events so far and the last five."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        width = shape.hidden
        self.layers = nn.Sequential(
            nn.Linear((1 + _LAST_ITEMS) * width, 4 * width),
            nn.GELU(),
            nn.Dropout(shape.dropout),
            nn.Linear(4 * width, width),
        )

    def forward(self, inputs_BLD: Tensor) -> Tensor:
        steps = torch.arange(inputs_BLD.shape[1], device=inputs_BLD.device)
        profile_BLD = inputs_BLD.cumsum(dim=1) / (steps + 1)[:, None]
        return self.layers(torch.cat([profile_BLD, _behind(inputs_BLD, range(_LAST_ITEMS))], dim=-1))


def _behind(inputs_BLD: Tensor, steps: Iterable[int]) -> Tensor:
    """Each event beside those so many steps before it, zeros where there were none."""
    length = inputs_BLD.shape[1]
    return torch.cat([functional.pad(inputs_BLD, (0, 0, step, 0))[:, :length] for step in steps], dim=-1)


def _integers(values: npt.NDArray[np.int64] | None, *, size: int) -> Tensor:
    return torch.zeros(size, dtype=torch.int64) if values is None else torch.as_tensor(values, dtype=torch.int64)


_BODIES: dict[str, Callable[[NetworkShape], nn.Module]] = {
    "transformer": _Transformer,
    "gru": _Gru,
    "cnn": _Cnn,
    "mlp": _Mlp,
}
