"""The network: an encoder of history (recent periods, an LSTM, or an LSTM and attention) and direct quantile heads.

Shapes: B crops, L crop periods, K origins per crop, H horizon, F history channels, G known-ahead channels, O origin
channels, D hidden width, A attention heads, Q quantile levels.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from forecasting.features import NUM_ORIGIN, NUM_OWN
from forecasting.windows import AheadChannels, Batch, num_ahead_channels, num_history_channels

Encoder = Literal["lags", "lstm", "lstm-attention"]

NUM_HEADS = 4
_EMBEDDING = 64
LAGS = 28
_DROPOUT = 0.1
UNKNOWN_ROW = 0
"""Row of the embedding tables for a series or category that training has not seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkShape:
    """Everything that the sizes of the weights depend on, and the longest horizon."""

    num_promotions: int
    num_series: int
    num_categories: int
    hidden: int
    context: int
    horizon: int
    levels: tuple[float, ...]
    encoder: Encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Network output, demand over ``Batch.level_BK``. Monotone in q, cumulative in h too; never negative."""

    mean_BKH: torch.Tensor
    marginal_BKHQ: torch.Tensor
    cumulative_BKHQ: torch.Tensor

    def float(self) -> "Prediction":
        """The same in float32."""
        return Prediction(
            mean_BKH=self.mean_BKH.float(),
            marginal_BKHQ=self.marginal_BKHQ.float(),
            cumulative_BKHQ=self.cumulative_BKHQ.float(),
        )


class DemandNetwork(nn.Module):
    """Encoder and heads; see docs/models/forecaster.md for the drawing."""

    def __init__(self, shape: NetworkShape, *, series_dropout: float = 0.1) -> None:
        super().__init__()
        D = shape.hidden
        self.shape, self.series_dropout = shape, series_dropout
        self.series = nn.Embedding(shape.num_series + 1, _EMBEDDING)
        self.category = nn.Embedding(shape.num_categories + 1, _EMBEDDING)
        for table in (self.series, self.category):
            nn.init.normal_(table.weight, std=0.1)
        self.encoder = LagEncoder(shape) if shape.encoder == "lags" else LSTMEncoder(shape)
        # One layer in three parts, started as one: what all target periods of an origin share is multiplied once.
        self.enter_origin = nn.Linear(D + NUM_ORIGIN + 2 * _EMBEDDING, D)
        self.enter_ahead = nn.Linear(num_ahead_channels(shape.num_promotions) + 2, D, bias=False)
        self.enter_read = nn.Linear(D + NUM_HEADS, D, bias=False) if shape.encoder == "lstm-attention" else None
        parts = [part for part in (self.enter_origin, self.enter_ahead, self.enter_read) if part is not None]
        bound = sum(part.in_features for part in parts) ** -0.5
        for part in parts:
            nn.init.uniform_(part.weight, -bound, bound)
        self.middle = nn.Linear(D, D)
        self.heads = QuantileHeads(D, num_levels=len(shape.levels))

    def forward(self, batch: Batch) -> Prediction:
        """Predict every origin of every crop."""
        static_BE = torch.cat([self._series_embedding(batch), self.category(batch.category_row_B)], dim=-1)
        K, H = batch.ahead_BKHG.shape[1:3]
        state_BKD, read_BKHX = self.encoder(batch, static_BE)
        horizon_H2 = self._horizon(H, device=state_BKD.device)
        origin_BKD = torch.cat([state_BKD, batch.origin_BKO, static_BE[:, None].expand(-1, K, -1)], dim=-1)
        ahead_BKHG = torch.cat([batch.ahead_BKHG, horizon_H2.expand(*batch.ahead_BKHG.shape[:2], -1, -1)], dim=-1)
        entered = self.enter_origin(origin_BKD)[:, :, None] + self.enter_ahead(ahead_BKHG)
        if self.enter_read is not None:
            entered = entered + self.enter_read(read_BKHX)
        first = functional.dropout(functional.gelu(entered), _DROPOUT, training=self.training)
        return self.heads(first + functional.gelu(self.middle(first)), log_base_BKH=self._log_base(batch))

    def _log_base(self, batch: Batch) -> torch.Tensor:
        """Log of weekday average times the lift of promotions, over the level: where the mean starts from."""
        place = AheadChannels.of(self.shape.num_promotions)
        return batch.ahead_BKHG[..., place.promotions.stop - 1] + batch.ahead_BKHG[..., place.calendar.stop - 1]

    def _series_embedding(self, batch: Batch) -> torch.Tensor:
        row_B = batch.series_row_B
        if self.training:
            # Hiding some series teaches the unknown row what an unseen series looks like.
            hidden_B = torch.rand(row_B.shape, device=row_B.device) < self.series_dropout
            row_B = torch.where(hidden_B, torch.full_like(row_B, UNKNOWN_ROW), row_B)
        return self.series(row_B)

    def _horizon(self, horizon: int, *, device: torch.device) -> torch.Tensor:
        ahead_H = torch.arange(horizon, device=device, dtype=torch.float32)
        return torch.stack([ahead_H / self.shape.horizon, torch.log1p(ahead_H) / 3.0], dim=-1)


def restore_network(shape: NetworkShape, *, weights: dict[str, torch.Tensor]) -> DemandNetwork:
    """A network with the given weights; the caller's random numbers are left as they were."""
    with torch.random.fork_rng(devices=[]):
        network = DemandNetwork(shape)
    network.load_state_dict(weights)
    return network


class LagEncoder(nn.Module):
    """One layer over a series' own channels and promotions in the last periods before each origin."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        promotions = range(NUM_OWN + NUM_ORIGIN, NUM_OWN + NUM_ORIGIN + shape.num_promotions)
        self._channels = [*range(NUM_OWN), *promotions]
        self.enter = nn.Linear(LAGS * len(self._channels), shape.hidden)

    def forward(self, batch: Batch, static_BE: torch.Tensor) -> tuple[torch.Tensor, None]:
        """State at each origin, shape (B, K, D)."""
        return functional.gelu(self.enter(self.read_BKRC(batch).flatten(-2))), None

    def read_BKRC(self, batch: Batch) -> torch.Tensor:
        """What the layer reads, (B, K, lags, channels), own channels first; periods before the crop are zeros."""
        ago = torch.arange(1, LAGS + 1, device=batch.position_BK.device)
        place_BKR = batch.position_BK[..., None] - ago
        own_BLC = batch.history_BLF[..., self._channels]
        at = place_BKR.clamp_min(0).flatten(1)[..., None].expand(-1, -1, own_BLC.shape[-1])
        return own_BLC.gather(1, at).unflatten(1, place_BKR.shape[1:]) * (place_BKR >= 0)[..., None]


class LSTMEncoder(nn.Module):
    """An LSTM over the crop, with its names; with attention also what each target period looks up."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        num_inputs = num_history_channels(shape.num_promotions) + 2 * _EMBEDDING
        self.lstm = nn.LSTM(num_inputs, shape.hidden, batch_first=True)
        self.attention = HistoryAttention(shape) if shape.encoder == "lstm-attention" else None

    def forward(self, batch: Batch, static_BE: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """State at each origin, (B, K, D), and read-outs per target period, (B, K, H, D + A), or None."""
        named_BLE = static_BE[:, None].expand(-1, batch.history_BLF.shape[1], -1)
        hidden_BLD, _ = self.lstm(torch.cat([batch.history_BLF, named_BLE], dim=-1))
        last_BK1 = (batch.position_BK - 1)[..., None].expand(-1, -1, hidden_BLD.shape[-1])
        state_BKD = hidden_BLD.gather(1, last_BK1)
        if self.attention is None:
            return state_BKD, None
        return state_BKD, self.attention(batch, hidden_BLD=hidden_BLD, state_BKD=state_BKD)


class HistoryAttention(nn.Module):
    """Looks up periods of history that resemble a target period.

    Queries come from the origin's state and what is known of the target period, keys from the encoded history. Besides
    the encoded history each head reads demand itself, over the level: an average of the days it looks at.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        D = shape.hidden
        self.context = shape.context
        self.query_state = nn.Linear(D, D)
        self.query_ahead = nn.Linear(num_ahead_channels(shape.num_promotions), D, bias=False)
        self.key_hidden = nn.Linear(D, D, bias=False)
        self.key_history = nn.Linear(num_history_channels(shape.num_promotions), D, bias=False)
        self.value = nn.Linear(D, D)
        self.fading_A = nn.Parameter(torch.linspace(-2.0, 2.0, NUM_HEADS))

    def forward(self, batch: Batch, *, hidden_BLD: torch.Tensor, state_BKD: torch.Tensor) -> torch.Tensor:
        """Read-outs per target period, shape (B, K, H, D + A)."""
        B, L, D = hidden_BLD.shape
        K, H = batch.ahead_BKHG.shape[1:3]
        query = (self.query_state(state_BKD)[:, :, None] + self.query_ahead(batch.ahead_BKHG)).reshape(B, K * H, D)
        key = self.key_hidden(hidden_BLD) + self.key_history(batch.history_BLF)
        ago_BKL = (batch.position_BK[..., None] - torch.arange(L, device=hidden_BLD.device)).float()
        visible_BKL = (ago_BKL > 0) & (batch.exists_BL[:, None] | (ago_BKL == 1))
        fade_A = functional.softplus(self.fading_A)[:, None, None]
        bias_BAKL = -fade_A * ago_BKL[:, None] / self.context
        bias_BAKL = bias_BAKL.masked_fill(~visible_BKL[:, None], -1e9)
        split = (NUM_HEADS, D // NUM_HEADS)
        score_BAQL = query.unflatten(-1, split).transpose(1, 2) @ key.unflatten(-1, split).permute(0, 2, 3, 1)
        score_BAKHL = score_BAQL.unflatten(2, (K, H)) / math.sqrt(split[1]) + bias_BAKL[:, :, :, None]
        share_BAQL = score_BAKHL.softmax(dim=-1).flatten(2, 3)
        value_BALV = self.value(hidden_BLD).unflatten(-1, split).transpose(1, 2)
        demand_BAL1 = batch.demand_BL[:, None, :, None].expand(-1, NUM_HEADS, -1, -1)
        read_BQAV = (share_BAQL @ torch.cat([value_BALV, demand_BAL1], dim=-1)).transpose(1, 2)
        hidden_BKHD = read_BQAV[..., :-1].reshape(B, K, H, D)
        relative_BKHA = read_BQAV[..., -1].unflatten(1, (K, H)) / batch.level_BK[:, :, None, None]
        return torch.cat([hidden_BKHD, torch.log(relative_BKHA + 0.05)], dim=-1)


class QuantileHeads(nn.Module):
    """Mean, quantiles of single periods, and quantiles of the running sum.

    Quantiles are an offset plus running sums over q of positive steps. Those of the sum over periods are an offset plus
    running sums over h and q of positive steps, so they rise in both. All are multiples of the predicted mean: the
    shape of the distribution is learned apart from its size. An offset may be negative: clipped at zero when
    predicting, it gives the lower quantiles of rare demand their exact zeros, while training keeps its gradient.
    """

    def __init__(self, width: int, *, num_levels: int) -> None:
        super().__init__()
        self.num_levels = num_levels
        self.mean = nn.Linear(width, 1)
        self.steps = nn.Linear(width, 2 * num_levels)
        self.offset = nn.Linear(width, 2)
        nn.init.zeros_(self.mean.weight)
        nn.init.zeros_(self.offset.weight)
        nn.init.constant_(self.steps.bias, math.log(math.expm1(2.0 / num_levels)))

    def forward(self, hidden: torch.Tensor, *, log_base_BKH: torch.Tensor) -> Prediction:
        """Outputs over the level; ``log_base_BKH`` is where the mean starts from."""
        mean_BKH = torch.exp((self.mean(hidden)[..., 0] + log_base_BKH).clamp(-7.0, 5.0))
        steps = functional.softplus(self.steps(hidden)) * mean_BKH[..., None]
        marginal, cumulative = steps.split(self.num_levels, dim=-1)
        offset_BKH1 = self.offset(hidden)[..., :1] * mean_BKH[..., None]
        offset_BK11 = (self.offset(hidden)[..., 1:] * mean_BKH[..., None]).mean(dim=2, keepdim=True)
        return Prediction(
            mean_BKH=mean_BKH,
            marginal_BKHQ=marginal.cumsum(dim=-1) + offset_BKH1,
            cumulative_BKHQ=cumulative.cumsum(dim=-1).cumsum(dim=-2) + offset_BK11,
        )
