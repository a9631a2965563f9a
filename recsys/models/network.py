"""The network of the sequence model: embeddings, a causal transformer or a GRU, and the sampled softmax.

SASRec (Kang & McAuley 2018) with, in addition: behaviour and time-gap embeddings, the mean of the items so far added
to the output, targets from the whole next basket, an item bias, and a softmax over sampled negatives corrected for how
they were drawn instead of one negative.

Shapes: B windows in a batch, L events, M targets per event, I items, C candidates, D width.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.interactions import BEHAVIOURS
from recsys.windows import NUM_GAPS

# High enough that an item in the history scores above the rest from the first step on.
_BAG_SCALE = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkShape:
    """What the network looks like; everything that must be known to build it again.

    Parameters
    ----------
    kind
        'transformer' or 'gru'.
    num_items, length, hidden
        Items, events read at most, width.
    num_layers, num_heads, dropout
        Depth, attention heads (transformer only) and dropout while training.
    """

    kind: Literal["transformer", "gru"]
    num_items: int
    length: int
    hidden: int
    num_layers: int = 2
    num_heads: int = 2
    dropout: float = 0.2


class SequenceNetwork(nn.Module):
    """Reads events, gives for every position a vector whose product with an item's vector is the item's score."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.hidden
        self.item = nn.Embedding(shape.num_items, width)
        self.position = nn.Embedding(shape.length, width)
        self.behaviour = nn.Embedding(len(BEHAVIOURS), width)
        self.gap = nn.Embedding(NUM_GAPS, width)
        self.bias_I = nn.Parameter(torch.zeros(shape.num_items))
        self.dropout = nn.Dropout(shape.dropout)
        self.body: nn.Module = _Transformer(shape) if shape.kind == "transformer" else _Gru(shape)
        self.norm = nn.LayerNorm(width)
        self.bag_D = nn.Parameter(torch.full((width,), _BAG_SCALE))
        nn.init.normal_(self.item.weight, std=width**-0.5)
        nn.init.normal_(self.position.weight, std=0.02)
        # A behaviour or gap that training never showed then changes nothing.
        nn.init.zeros_(self.behaviour.weight)
        nn.init.zeros_(self.gap.weight)

    def encode(self, item_BL: Tensor, behaviour_BL: Tensor, gap_BL: Tensor) -> Tensor:
        """Vector after each event, shape (B, L, D); item -1 is padding and stands only behind the real events."""
        steps = torch.arange(item_BL.shape[1], device=item_BL.device)
        items_BLD = self.item(item_BL.clamp(min=0)) * self.shape.hidden**0.5
        inputs_BLD = items_BLD + self.position(steps) + self.behaviour(behaviour_BL) + self.gap(gap_BL)
        # Straight from the items so far to the answer: repeats and items of one kind need not be learned by attention.
        bag_BLD = items_BLD.cumsum(dim=1) / (steps + 1)[:, None]
        return self.norm(self.body(self.dropout(inputs_BLD))) + self.bag_D * bag_BLD

    def logits(self, hidden_BD: Tensor) -> Tensor:
        """Score of every item, shape (B, I)."""
        return hidden_BD @ self.item.weight.T + self.bias_I

    def forward(
        self,
        item_BL: Tensor,
        behaviour_BL: Tensor,
        gap_BL: Tensor,
        target_BLM: Tensor,
        candidate_C: Tensor,
        log_draws_C: Tensor,
    ) -> Tensor:
        """Mean cross-entropy of the targets against the candidates.

        ``log_draws_C`` is the log of how often a candidate was expected to be drawn; taking it off a candidate's score
        makes the sum over candidates an unbiased estimate of the sum over all items (Bengio & Senécal 2008). With every
        item as a candidate the loss is exact.
        """
        real_BL = target_BLM[..., 0] >= 0
        hidden_ND = self.encode(item_BL, behaviour_BL, gap_BL)[real_BL]
        target_NM = target_BLM[real_BL]
        positive_NM = torch.einsum("nd,nmd->nm", hidden_ND, self.item(target_NM)) + self.bias_I[target_NM]
        negative_NC = hidden_ND @ self.item(candidate_C).T + self.bias_I[candidate_C] - log_draws_C
        rest_N = torch.logsumexp(negative_NC, dim=1, keepdim=True)
        if len(candidate_C) == self.shape.num_items:
            return (rest_N - positive_NM).mean()
        return (torch.logaddexp(positive_NM, rest_N) - positive_NM).mean()


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
