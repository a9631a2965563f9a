"""Crops of history with forecast origins inside: what one training step or one prediction reads.

A crop is 2 x context periods long and is encoded once, causally, for all the origins in its second half (forking
sequences: Wen et al. 2017, *A multi-horizon quantile recurrent forecaster*, section 3.3). So every origin sees between
one and two contexts of history, in training as in serving. Crops start at multiples of the context when predicting:
a rolling forecast and a single one at the same origin are the same numbers.

Shapes: N series of a group, T history periods, B crops, L crop periods, K origins per crop, H horizon, F history
channels, G known-ahead channels, O origin channels.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from forecasting.features import NUM_CALENDAR, NUM_HOLIDAY, NUM_ORIGIN, NUM_OWN, SeriesFeatures

IntArray = npt.NDArray[np.int64]


def num_history_channels(num_promotions: int) -> int:
    """F: own history, origin channels at the end of each period, promotions, holidays, calendar."""
    return NUM_OWN + NUM_ORIGIN + num_promotions + NUM_HOLIDAY + NUM_CALENDAR


def num_ahead_channels(num_promotions: int) -> int:
    """G: known flag, promotions of three periods and their lift, holidays of three, calendar, season over level."""
    return 1 + 3 * num_promotions + 1 + 3 + NUM_CALENDAR + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AheadChannels:
    """Where the known-ahead channels lie along G.

    The first one is the known flag, the last of promotions the lift, the last of calendar the season.
    """

    promotions: slice
    holidays: slice
    calendar: slice

    @classmethod
    def of(cls, num_promotions: int) -> "AheadChannels":
        """Places for a number of promotion channels."""
        holidays, calendar = 2 + 3 * num_promotions, 2 + 3 * num_promotions + 3
        return cls(
            promotions=slice(1, holidays),
            holidays=slice(holidays, calendar),
            calendar=slice(calendar, calendar + NUM_CALENDAR + 1),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """B crops with K origins each. Demand is in units; the network scales it by ``level_BK``.

    Parameters
    ----------
    position_BK
        Periods of the crop that lie before each origin, 1..L.
    weight_BKH
        1 where the target counts, 0 beyond the end of history and for origins that do not exist.
    """

    history_BLF: torch.Tensor
    demand_BL: torch.Tensor
    exists_BL: torch.Tensor
    position_BK: torch.Tensor
    origin_BKO: torch.Tensor
    level_BK: torch.Tensor
    ahead_BKHG: torch.Tensor
    target_BKH: torch.Tensor
    censored_BKH: torch.Tensor
    weight_BKH: torch.Tensor
    series_row_B: torch.Tensor
    category_row_B: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class CropPlan:
    """Which crops to cut: rows of the group, first period (may lie before history), origins (-1: none)."""

    row_B: IntArray
    start_B: IntArray
    origin_BK: IntArray


class Windows:
    """Cuts batches out of a group of series. Tensors live on ``device``."""

    def __init__(self, features: SeriesFeatures, *, context: int, horizon: int, device: torch.device) -> None:
        self.features, self.context, self.horizon, self.device = features, context, horizon, device
        self.num_periods = features.demand_ST.shape[1]
        self._pad = 2 * context
        tail = self._pad + horizon + 1
        self._known_until = len(features.holiday_X)
        holiday_X = torch.from_numpy(np.array(features.holiday_X, dtype=np.float32))
        shared_X = functional.pad(holiday_X, (self._pad + 1, tail + 1)).to(device)
        self._holiday_XW = torch.stack([shared_X[:-2], shared_X[1:-1], shared_X[2:]], dim=1)
        self._calendar_XK = self._padded(features.calendar_XK[None])[0]
        self._promotion_NXP = self._padded(features.promotion_SXP)
        self._own_NTC = self._padded(features.own_STC)
        self._origin_NUO = self._padded(features.origin_SUO)
        self._level_NU = self._padded(features.level_SU[:, :, None])[:, :, 0]
        self._season_NXW = self._padded(features.season_SXW)
        self._log_lift_NUW = self._padded(features.log_lift_SUW)
        self._demand_NT = self._padded(features.demand_ST[:, :, None])[:, :, 0]
        self._censored_NT = self._padded(features.censored_ST[:, :, None])[:, :, 0] > 0
        self._series_row_N = torch.from_numpy(np.array(features.series_row_S)).to(device)
        self._category_row_N = torch.from_numpy(np.array(features.category_row_S)).to(device)

    def _padded(self, value_NTC: npt.NDArray[np.generic]) -> torch.Tensor:
        """Zeros before and after, so that a crop may reach beyond history on both sides."""
        value = torch.from_numpy(np.array(value_NTC, dtype=np.float32)).to(self.device)
        total = self._pad + max(self.num_periods, self._known_until) + self._pad + self.horizon + 1
        return functional.pad(value, (0, 0, self._pad, total - self._pad - value.shape[1]))

    def cut(self, plan: CropPlan, *, target_end: int) -> Batch:
        """Gather one batch; targets count up to period ``target_end``, exclusive."""
        row_B1 = torch.from_numpy(plan.row_B).to(self.device)[:, None]
        start_B1 = torch.from_numpy(plan.start_B).to(self.device)[:, None] + self._pad
        asked_BK = torch.from_numpy(plan.origin_BK).to(self.device)
        exists_BK = asked_BK >= 0
        # An origin that does not exist is read as the last of the crop, so that every row attends to something.
        origin_BK = torch.where(exists_BK, asked_BK + self._pad, start_B1 + 2 * self.context)
        period_BL = start_B1 + torch.arange(2 * self.context, device=self.device)
        period_BKH = origin_BK[:, :, None] + torch.arange(self.horizon, device=self.device)
        row_B11 = row_B1[:, :, None]
        level_BK = self._level_NU[row_B1, origin_BK].clamp_min(1e-3)
        own_BLC = self._own_NTC[row_B1, period_BL]
        weight_BKH = (period_BKH < target_end + self._pad) & exists_BK[:, :, None]
        return Batch(
            history_BLF=torch.cat(
                [
                    own_BLC,
                    self._origin_NUO[row_B1, period_BL + 1],
                    self._promotion_NXP[row_B1, period_BL],
                    self._holiday_XW[period_BL, :2],
                    self._calendar_XK[period_BL],
                ],
                dim=-1,
            ),
            demand_BL=self._demand_NT[row_B1, period_BL],
            exists_BL=own_BLC[:, :, 0] > 0,
            position_BK=origin_BK - start_B1,
            origin_BKO=self._origin_NUO[row_B1, origin_BK],
            level_BK=level_BK,
            ahead_BKHG=self._ahead_BKHG(row_B11, origin_BK, period_BKH, level_BK),
            target_BKH=self._demand_NT[row_B11, period_BKH],
            censored_BKH=self._censored_NT[row_B11, period_BKH],
            weight_BKH=weight_BKH.float(),
            series_row_B=self._series_row_N[row_B1[:, 0]],
            category_row_B=self._category_row_N[row_B1[:, 0]],
        )

    def _ahead_BKHG(
        self, row_B11: torch.Tensor, origin_BK: torch.Tensor, period_BKH: torch.Tensor, level_BK: torch.Tensor
    ) -> torch.Tensor:
        """Known-ahead channels of each target period, as they are known at its origin."""
        end_BK1 = (origin_BK + self.features.notice_periods).clamp_max(self._known_until + self._pad)[:, :, None]
        known_BKH = (period_BKH < end_BK1).float()[..., None]
        next_known_BKH = (period_BKH + 1 < end_BK1).float()[..., None]
        holiday_BKHW = self._holiday_XW[period_BKH]
        season = self.features.season_periods
        ahead_H = torch.arange(self.horizon, device=self.device) % season
        season_BKHW = self._season_NXW[row_B11, origin_BK[:, :, None] + ahead_H]
        # The average counts one period at the level, so that a weekday seen once or never is near it.
        relative_BKH = (season_BKHW[..., 0] / level_BK[..., None] + 1.0) / (season_BKHW[..., 1] + 1.0)
        log_season_BKH = torch.log((relative_BKH + 0.05) / 1.05)
        promotion_BKHP = self._promotion_NXP[row_B11, period_BKH] * known_BKH
        # What a promotion does on its first day, or on the day after it, is not what it does in between.
        before_BKHP = self._promotion_NXP[row_B11, period_BKH - 1] * known_BKH
        after_BKHP = self._promotion_NXP[row_B11, period_BKH + 1] * next_known_BKH
        return torch.cat(
            [
                known_BKH,
                promotion_BKHP,
                before_BKHP,
                after_BKHP,
                self._log_lift_BKH(row_B11, origin_BK, promotion_BKHP)[..., None],
                holiday_BKHW[..., :2] * known_BKH,
                holiday_BKHW[..., 2:] * next_known_BKH,
                self._calendar_XK[period_BKH],
                log_season_BKH[..., None],
            ],
            dim=-1,
        )

    def _log_lift_BKH(
        self, row_B11: torch.Tensor, origin_BK: torch.Tensor, promotion_BKHP: torch.Tensor
    ) -> torch.Tensor:
        """What this series usually sold at such a promotion, or without any: log over level."""
        plain_BK1, promoted_BK1 = self._log_lift_NUW[row_B11[:, :, 0], origin_BK].split(1, dim=-1)
        if not promotion_BKHP.shape[-1]:
            return plain_BK1.expand(promotion_BKHP.shape[:-1])
        return torch.lerp(plain_BK1, promoted_BK1, promotion_BKHP.amax(dim=-1))

    def draw(
        self, rng: np.random.Generator, *, crops_per_series: int, origins_per_crop: int, batch_size: int, end: int
    ) -> list[CropPlan]:
        """Random crops of every series for one pass; origins before ``end`` (exclusive) and after the first sale."""
        rows_N = np.arange(len(self.features.first_sale_S))
        row_B = rng.permutation(np.repeat(rows_N, crops_per_series))
        first_B = np.maximum(self.features.first_sale_S[row_B] + 1, 1)
        low_B = np.maximum(first_B - 2 * self.context, -self.context)
        high_B = np.maximum(low_B, end - 1 - 2 * self.context)
        start_B = rng.integers(low_B, high_B + 1)
        from_B = np.maximum(start_B + self.context + 1, first_B)
        until_B = np.minimum(start_B + 2 * self.context, end - 1)
        draw_BK = rng.random((len(row_B), origins_per_crop))
        origin_BK = from_B[:, None] + np.floor(draw_BK * (until_B - from_B + 1)[:, None]).astype(np.int64)
        origin_BK = np.where((until_B >= from_B)[:, None], origin_BK, -1)
        chunks = range(0, len(row_B), batch_size)
        return [
            CropPlan(
                row_B=row_B[i : i + batch_size],
                start_B=start_B[i : i + batch_size],
                origin_BK=origin_BK[i : i + batch_size],
            )
            for i in chunks
        ]

    def plans_at(self, origins: IntArray, *, batch_size: int) -> list[CropPlan]:
        """Crops for the same sorted origins of every series, in order of block, then series.

        Every plan holds consecutive series and all origins of one block: the periods between two multiples of the
        context.
        """
        num_series = len(self.features.first_sale_S)
        block_K = -(-origins // self.context)
        plans = []
        for block in np.unique(block_K):
            inside_K = origins[block_K == block]
            for i in range(0, num_series, batch_size):
                row_B = np.arange(i, min(i + batch_size, num_series))
                plans.append(
                    CropPlan(
                        row_B=row_B,
                        start_B=np.full(len(row_B), (block - 2) * self.context),
                        origin_BK=np.tile(inside_K, (len(row_B), 1)),
                    )
                )
        return plans
