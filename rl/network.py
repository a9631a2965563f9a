"""The learned policy's arithmetic in torch: observation, network, order formula. Training and export share it.

Shapes: S series (N rows in training), H horizon periods, Q quantile levels, Z grid scores, L periods until arrival,
A actions, C context columns, F observation columns, K profile points.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rl.observation import OBSERVED_SCORES, UNLIMITED_QTY, ActionGrid

NUM_PROFILE_POINTS = 8
_CLIP = 10.0
# A column whose deviation is below this is taken to be constant.
_CONSTANT = 1e-3
_FACT_NAMES = (
    "next_period_over_rate",
    "interval_over_rate",
    "after_interval_over_rate",
    *(f"quantile_{score:+g}_minus_mean" for score in OBSERVED_SCORES),
    "anchor_quantile_minus_mean",
    "log_scale",
    "log_rate",
    "batch",
    "log_batch_cover",
    "log_cost_ratio",
    "lead_time",
    "review_period",
    "pack_size",
    "min_order_qty",
    "order_cap",
    "log_rate_change",
)
_STATE_NAMES = (
    *(f"position_at_{k}" for k in range(NUM_PROFILE_POINTS)),
    *(f"pipeline_{k}_centred" for k in range(NUM_PROFILE_POINTS)),
    "net_minus_next_period",
    "position_minus_interval",
    *(f"position_minus_quantile_{score:+g}" for score in OBSERVED_SCORES),
    "position_minus_anchor_quantile",
    "room",
    "net_cover",
    "position_cover",
)
OBSERVATION_NAMES = _STATE_NAMES + _FACT_NAMES
"""What each number of the observation is; the formulas are in ``docs/policies/ppo.md``."""


_NUM_OBSERVED = len(OBSERVED_SCORES) + 1  # and the anchor's


class Context(NamedTuple):
    """What the forecast and the terms say about each row; constant while stock changes."""

    arrival_SK: Tensor  # periods after which the profile is taken, 0..L
    expected_SK: Tensor  # expected demand before that
    quantile_SZ: Tensor  # of demand over the protection interval, at the observed scores and the anchor's
    level_SA: Tensor  # order-up-to level of each action but 0; a fixed quantity orders up to no limit,
    cap_SA: Tensor  # at most this many units
    scalar_SC: Tensor  # scale, rate, next period's and interval's mean, cap, storage, usual rate, L + R, fixed cost
    fact_SF: Tensor  # the observation's part that does not depend on stock

    @property
    def spread_S(self) -> Tensor:
        """How far demand of the protection interval usually lies above its mean, units; at least half a unit."""
        return (self.quantile_SZ[:, 1] - self.scalar_SC[:, 3]).clamp_min(0.5)

    @property
    def fixed_cost_S(self) -> Tensor:
        """Fixed cost of an order line, account currency."""
        return self.scalar_SC[:, 8]

    def take(self, rows: Tensor) -> "Context":
        """Keep the given rows."""
        return Context(*(part.index_select(0, rows) for part in self))


class ContextMaker(nn.Module):
    """Makes contexts for one grid."""

    anchor_periods: Tensor
    batches_B: Tensor
    units_U: Tensor
    fractions_R: Tensor

    def __init__(self, grid: ActionGrid) -> None:
        super().__init__()
        self.register_buffer("anchor_periods", torch.tensor(grid.anchor_periods, dtype=torch.float32))
        for name, values in (("batches_B", grid.batches), ("units_U", grid.units), ("fractions_R", grid.fractions)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))

    def forward(
        self,
        mean_SH: Tensor,
        cumulative_SHQ: Tensor,
        weights_QZ: Tensor,
        lead_time_S: Tensor,
        review_period_S: Tensor,
        terms_SV: Tensor,
    ) -> Context:
        """Scales, quantiles, levels and facts of each row, from forecast and terms alone."""
        summed_SH = nn.functional.pad(torch.cumsum(mean_SH, 1), (1, 0))
        interval_S = lead_time_S + review_period_S
        rate_S = mean_SH.mean(1).clamp_min(1e-3)
        expected_S = _at(summed_SH, interval_S)
        row_S1Q = (interval_S - 1).view(-1, 1, 1).expand(-1, 1, cumulative_SHQ.shape[2])
        quantile_SZ = (cumulative_SHQ.gather(1, row_S1Q).squeeze(1) @ weights_QZ).clamp_min(0)
        scale_S = torch.maximum(quantile_SZ[:, 1], expected_S).clamp_min(0.5)
        batch_S = _batch(rate_S, review_period_S, terms_SV)
        arrival_SK = _profile_points(lead_time_S)
        after_S = _at(summed_SH, (interval_S + review_period_S).clamp_max(mean_SH.shape[1])) - expected_S
        seen_SZ = quantile_SZ[:, :_NUM_OBSERVED]
        fact_SF = torch.cat(
            [
                torch.stack(
                    [
                        mean_SH[:, 0] / rate_S,
                        expected_S / (rate_S * interval_S),
                        after_S / (rate_S * review_period_S),
                    ],
                    1,
                ),
                (seen_SZ - expected_S.unsqueeze(1)) / scale_S.unsqueeze(1),
                _facts(scale_S, rate_S, batch_S, lead_time_S, review_period_S, terms_SV),
            ],
            1,
        )
        mean_S = expected_S / interval_S
        pairs_SA = (quantile_SZ[:, _NUM_OBSERVED:].unsqueeze(2) + self.batches_B * batch_S.view(-1, 1, 1)).flatten(1)
        anchor_S = seen_SZ[:, -1] + self.anchor_periods * mean_S
        quantity_SA = self._quantities(mean_S * review_period_S)
        up_to_SA = torch.cat([pairs_SA, anchor_S.unsqueeze(1)], 1)
        return Context(
            arrival_SK=arrival_SK,
            expected_SK=summed_SH.gather(1, arrival_SK),
            quantile_SZ=seen_SZ,
            level_SA=torch.cat([torch.full_like(quantity_SA, UNLIMITED_QTY), up_to_SA], 1),
            cap_SA=torch.cat([quantity_SA, torch.full_like(up_to_SA, UNLIMITED_QTY)], 1),
            scalar_SC=torch.stack(
                [
                    scale_S,
                    rate_S,
                    mean_SH[:, 0],
                    expected_S,
                    terms_SV[:, 2],
                    terms_SV[:, 3],
                    terms_SV[:, 7].clamp_min(1e-3),
                    interval_S.float(),
                    terms_SV[:, 6],
                ],
                1,
            ),
            fact_SF=fact_SF.clamp(-_CLIP, _CLIP),
        )

    def _quantities(self, review_demand_S: Tensor) -> Tensor:
        demand_S1 = review_demand_S.unsqueeze(1)
        return torch.cat([self.units_U * torch.ones_like(demand_S1), self.fractions_R * demand_S1], 1)


def _batch(rate_S: Tensor, review_period_S: Tensor, terms_SV: Tensor) -> Tensor:
    """Economic order quantity, from one review period's to sixty periods' mean demand."""
    holding_S, fixed_S = terms_SV[:, 4], terms_SV[:, 6]
    batch_S = torch.sqrt(2 * fixed_S * rate_S / holding_S.clamp_min(1e-9))
    return batch_S.maximum(rate_S * review_period_S).minimum(60 * rate_S)


def _profile_points(lead_time_S: Tensor) -> Tensor:
    """K points spread over the lead time; rounded up, so that every arrival has its own while L <= K."""
    step_K = torch.arange(1, NUM_PROFILE_POINTS + 1, device=lead_time_S.device)
    return (step_K * lead_time_S.unsqueeze(1) + NUM_PROFILE_POINTS - 1) // NUM_PROFILE_POINTS


def _facts(
    scale_S: Tensor,
    rate_S: Tensor,
    batch_S: Tensor,
    lead_time_S: Tensor,
    review_period_S: Tensor,
    terms_SV: Tensor,
) -> Tensor:
    moq_S, pack_S, cap_S, _, holding_S, lost_sale_S, _, usual_S = terms_SV.unbind(1)
    facts = [
        torch.log(scale_S) / 2,
        torch.log(rate_S) / 2,
        batch_S / scale_S,
        torch.log(batch_S / rate_S) / 2,
        torch.log((lost_sale_S + 1e-6) / (holding_S + 1e-6)) / 4,
        lead_time_S / 8,
        review_period_S / 8,
        pack_S / scale_S,
        moq_S / scale_S,
        cap_S / scale_S,
        torch.log(rate_S / usual_S.clamp_min(1e-3)),
    ]
    return torch.stack(facts, 1)


def observe(context: Context, net_S: Tensor, on_order_SL: Tensor) -> Tensor:
    """Observation of each row, scaled: (S, F), columns :data:`OBSERVATION_NAMES`.

    ``net_S`` is on hand - backorder - reserved.
    """
    scale_S, rate_S, next_S, expected_S, cap_S, storage_S, usual_S, interval_S = context.scalar_SC[:, :8].unbind(1)
    arrived_SL = nn.functional.pad(torch.cumsum(on_order_SL, 1), (1, 0))
    position_S = net_S + arrived_SL[:, -1]
    arrival_SK = context.arrival_SK.clamp_max(arrived_SL.shape[1] - 1)
    net_S1 = net_S.unsqueeze(1)
    profile_SK = net_S1 + arrived_SL.gather(1, arrival_SK) - context.expected_SK
    unscaled_SF = torch.cat(
        [
            profile_SK,
            profile_SK - torch.cat([net_S1, profile_SK[:, :-1]], 1),
            net_S1 - next_S.unsqueeze(1),
            (position_S - expected_S).unsqueeze(1),
            position_S.unsqueeze(1) - context.quantile_SZ,
            torch.minimum(storage_S - position_S, cap_S).unsqueeze(1),
        ],
        1,
    )
    cover_S2 = torch.stack([net_S / rate_S / 8, (position_S / usual_S - interval_S) / 8], 1)
    state_SF = torch.cat([unscaled_SF / scale_S.unsqueeze(1), cover_S2], 1).clamp(-_CLIP, _CLIP)
    return torch.cat([state_SF, context.fact_SF], 1)


def order_wish(context: Context, action_S: Tensor, position_S: Tensor) -> Tensor:
    """Units that an action orders at an inventory position, before any constraint (formula: :class:`ActionGrid`)."""
    column_S = (action_S - 1).clamp_min(0)
    wish_S = (_at(context.level_SA, column_S) - position_S).minimum(_at(context.cap_SA, column_S))
    return torch.where(action_S > 0, wish_S.clamp_min(0), torch.zeros_like(wish_S))


def nearest_action(context: Context, wish_S: Tensor, position_S: Tensor, *, num_actions: int) -> Tensor:
    """Action whose order is closest to a wish; 0 for a wish of nothing, the last where it is among the closest.

    The last action is the anchor where the grid offers it: a rule is then learned as a rule.
    """
    offer_SA = (context.level_SA - position_S.unsqueeze(1)).minimum(context.cap_SA)[:, : num_actions - 1]
    gap_SA = (offer_SA - wish_S.unsqueeze(1)).abs()
    is_last_S = gap_SA[:, -1] <= gap_SA.min(1).values + 1e-3
    nearest_S = torch.where(is_last_S, gap_SA.shape[1] - 1, gap_SA.argmin(1)) + 1
    return torch.where(wish_S > 0, nearest_S, torch.zeros_like(nearest_S))


class Standardise(nn.Module):
    """Centres and scales columns: what a unit more on the shelf means differs by a hundred times among categories.

    Leaves them as they are until :meth:`fit`. Columns that never varied there keep a scale of their own size, so that
    a series which differs in them is not thrown out of range.
    """

    mean_F: Tensor
    deviation_F: Tensor

    def __init__(self, num_columns: int) -> None:
        super().__init__()
        self.register_buffer("mean_F", torch.zeros(num_columns))
        self.register_buffer("deviation_F", torch.ones(num_columns))

    @torch.no_grad()
    def fit(self, observation_MF: Tensor) -> None:
        """Take mean and deviation of the first columns from a sample that may have fewer columns."""
        F = observation_MF.shape[1]
        deviation_F = observation_MF.std(0)
        self.mean_F[:F] = observation_MF.mean(0)
        self.deviation_F[:F] = torch.where(deviation_F > _CONSTANT, deviation_F, torch.ones_like(deviation_F))

    def forward(self, column_NF: Tensor) -> Tensor:
        """Standardised columns, within +-10."""
        return ((column_NF - self.mean_F) / self.deviation_F).clamp(-_CLIP, _CLIP)


def make_mlp(num_inputs: int, *, hidden: int, num_outputs: int, output_gain: float) -> nn.Sequential:
    """Standardised inputs, two hidden layers of SiLU units, orthogonal initial weights, a small last layer."""
    sizes: Sequence[tuple[int, int, float]] = (
        (num_inputs, hidden, 2**0.5),
        (hidden, hidden, 2**0.5),
        (hidden, num_outputs, output_gain),
    )
    layers: list[nn.Module] = [Standardise(num_inputs)]
    for fan_in, fan_out, gain in sizes:
        linear = nn.Linear(fan_in, fan_out)
        nn.init.orthogonal_(linear.weight, gain)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def _at(values_SH: Tensor, column_S: Tensor) -> Tensor:
    return values_SH.gather(1, column_S.unsqueeze(1)).squeeze(1)
