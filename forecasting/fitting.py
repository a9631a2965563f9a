"""The training loop in plain torch: what every Ray Train worker runs, and what tests run without Ray.

Shapes: B crops, K origins per crop, H horizon, Q quantile levels.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from cluster.precision import autocast
from cluster.settings.models import Precision
from forecasting.features import SeriesFeatures
from forecasting.learning_curve import EpochRow
from forecasting.losses import cumulative_censored, pinball, poisson_deviance, weighted_mean
from forecasting.model import DemandNetwork, Prediction
from forecasting.windows import Batch, CropPlan, Windows

ORIGINS_PER_CROP = 8
_CUMULATIVE_WEIGHT, _MEAN_WEIGHT = 0.5, 0.2
_WARM_UP, _LAST_RATE, _FINISH_RATE = 0.15, 0.01, 0.1
_CLIP_NORM = 1.0
_EMBEDDING_PACE = 10.0
_AVERAGE_DECAY = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class FitPlan:
    """Numbers of one training run.

    Parameters
    ----------
    end
        Periods of history T. Targets of the learning passes end ``tail`` periods before, where validation begins.
    tail
        Validation periods; 0 if history is too short for any.
    steps_per_epoch
        Batches per pass and worker; only the learning rate depends on it.
    """

    end: int
    tail: int
    epochs: int
    patience: int
    crops_per_series: int
    crops_per_step: int
    steps_per_epoch: int
    learning_rate: float
    precision: Precision
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Parts of the training loss, each a weighted mean over the batch."""

    marginal: torch.Tensor
    cumulative: torch.Tensor
    mean: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        """What is minimised."""
        return self.marginal + _CUMULATIVE_WEIGHT * self.cumulative + _MEAN_WEIGHT * self.mean

    def parts(self) -> torch.Tensor:
        """Total and parts without gradients, in the order of the learning curve."""
        return torch.stack([self.total, self.marginal, self.cumulative, self.mean]).detach()


def losses_of(prediction: Prediction, batch: Batch, *, levels_Q: torch.Tensor) -> Losses:
    """Loss of a batch per unit of level, every window weighted by its level: the loss of units, as WQL counts it."""
    level_BK1 = batch.level_BK[:, :, None]
    target_BKH = batch.target_BKH / level_BK1
    weight_BKH = batch.weight_BKH * level_BK1
    periods_H = torch.arange(1, target_BKH.shape[-1] + 1, device=target_BKH.device)
    marginal = pinball(prediction.marginal_BKHQ, target_BKH, levels_Q=levels_Q, censored=batch.censored_BKH)
    cumulative = pinball(
        prediction.cumulative_BKHQ,
        target_BKH.cumsum(dim=-1),
        levels_Q=levels_Q,
        censored=cumulative_censored(batch.censored_BKH),
    )
    deviance = poisson_deviance(prediction.mean_BKH, target_BKH, censored=batch.censored_BKH)
    whole_BKH = batch.weight_BKH.cumprod(dim=-1) * level_BK1
    return Losses(
        marginal=weighted_mean(marginal.mean(dim=-1), weight_BKH),
        cumulative=weighted_mean(cumulative.mean(dim=-1) / periods_H, whole_BKH),
        mean=weighted_mean(deviance, weight_BKH),
    )


class Fitting:
    """State of one training run; :meth:`run_epoch` moves it on, :meth:`state` and :meth:`restore` survive a crash.

    Learning passes lower the learning rate in one cycle and are judged on the validation tail by a running average of
    the weights; the best average is kept. Then one finishing pass at a low rate also learns from the tail; ``judged``
    keeps the weights that had not seen it (None until then, and for a run without validation).

    Parameters
    ----------
    parallel
        The network as it is called in training: itself, or wrapped for data-parallel workers.
    validation
        Groups of series that judge; held in memory, so a sample of large panels.
    add_over_workers
        Sums a tensor over all workers.
    """

    def __init__(
        self,
        network: DemandNetwork,
        *,
        plan: FitPlan,
        validation: Sequence[SeriesFeatures],
        device: torch.device,
        parallel: nn.Module | None = None,
        rank: int = 0,
        add_over_workers: Callable[[torch.Tensor], torch.Tensor] = lambda value: value,
    ) -> None:
        self.network, self.plan, self.device, self.rank = network, plan, device, rank
        self._call = network if parallel is None else parallel
        self._add = add_over_workers
        self._levels_Q = torch.tensor(network.shape.levels, device=device)
        self._optimizer = _make_optimizer(network, learning_rate=plan.learning_rate)
        self._steps = 0
        self._validation = [self._windows(features) for features in validation]
        self.history: list[EpochRow] = []
        self.best, self._average = _copy(network.state_dict()), _copy(network.state_dict())
        self.judged: dict[str, torch.Tensor] | None = None

    @property
    def is_done(self) -> bool:
        """Whether the finishing pass, or the last learning pass of a run without validation, is behind."""
        return bool(self.history) and (self.history[-1].phase == "finish" or (self._learned and not self.plan.tail))

    @property
    def _learned(self) -> bool:
        judged = [row.validation_loss for row in self.history if row.validation_loss is not None]
        waited = len(judged) - 1 - int(np.argmin(judged)) if judged else 0
        return len(self.history) >= self.plan.epochs or waited > self.plan.patience

    def run_epoch(self, groups: Iterable[SeriesFeatures]) -> EpochRow:
        """Pass once over the series and add a row to the learning curve."""
        began_s = time.perf_counter()
        finishing = self._learned
        if finishing:
            self._restart_from_best()
        parts = self._pass(groups, finishing=finishing)
        validation_loss, wql = (None, None) if finishing or not self.plan.tail else self._judge()
        total, marginal, cumulative, mean = parts.tolist()
        judged = [row.validation_loss for row in self.history if row.validation_loss is not None]
        if validation_loss is None or validation_loss <= min(judged, default=math.inf):
            self.best = _copy(self._average)
        row = EpochRow(
            epoch=len(self.history) + 1,
            phase="finish" if finishing else "learn",
            learning_rate=float(self._optimizer.param_groups[-1]["lr"]),
            seconds=time.perf_counter() - began_s,
            train_loss=total,
            train_marginal=marginal,
            train_cumulative=cumulative,
            train_mean=mean,
            validation_loss=validation_loss,
            validation_wql=wql,
        )
        self.history.append(row)
        return row

    def state(self) -> dict[str, Any]:
        """Everything that :meth:`restore` needs; tensors, numbers and strings only."""
        return {
            "network": _copy(self.network.state_dict()),
            "average": self._average,
            "best": self.best,
            "judged": self.judged,
            "optimizer": self._optimizer.state_dict(),
            "steps": self._steps,
            "history": [asdict(row) for row in self.history],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state` was taken."""
        self.network.load_state_dict(state["network"])
        self._average, self.best = _copy(state["average"]), _copy(state["best"])
        self.judged = state["judged"]
        self._optimizer.load_state_dict(state["optimizer"])
        self._steps = state["steps"]
        self.history = [EpochRow(**row) for row in state["history"]]

    def _windows(self, features: SeriesFeatures) -> Windows:
        shape = self.network.shape
        return Windows(features, context=shape.context, horizon=shape.horizon, device=self.device)

    def _restart_from_best(self) -> None:
        self.judged = self.best
        self.network.load_state_dict(self.best)
        self._average = _copy(self.best)
        self._optimizer.state.clear()

    def _pass(self, groups: Iterable[SeriesFeatures], *, finishing: bool) -> torch.Tensor:
        """Train on every group in turn; returns the mean of the loss parts over batches and workers."""
        epoch, total, count = len(self.history), torch.zeros(5, device=self.device), 0
        self.network.train()
        # The seed is a function of the epoch alone, so that a resumed run draws what an unbroken one would.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.plan.seed * 10_007 + epoch * 101 + self.rank)
            for windows, plan in self._plans(groups, end=self.plan.end - (0 if finishing else self.plan.tail)):
                progress = count / max(self.plan.steps_per_epoch, 1)
                self._set_rate(progress if finishing else epoch + progress, finishing=finishing)
                parts = self._step(windows.cut(plan, target_end=self.plan.end - (0 if finishing else self.plan.tail)))
                total[:4] += parts
                total[4] += 1
                count += 1
        total = self._add(total)
        return (total[:4] / total[4].clamp_min(1.0)).cpu()

    def _plans(self, groups: Iterable[SeriesFeatures], *, end: int) -> Iterator[tuple[Windows, CropPlan]]:
        rng = np.random.default_rng([self.plan.seed, len(self.history), self.rank])
        for features in groups:
            windows = self._windows(features)
            plans = windows.draw(
                rng,
                crops_per_series=self.plan.crops_per_series,
                origins_per_crop=ORIGINS_PER_CROP,
                batch_size=self.plan.crops_per_step,
                end=end,
            )
            for plan in plans:
                yield windows, plan

    def _step(self, batch: Batch) -> torch.Tensor:
        with autocast(self.plan.precision, device=self.device):
            prediction = self._call(batch)
        losses = losses_of(prediction.float(), batch, levels_Q=self._levels_Q)
        self._optimizer.zero_grad()
        losses.total.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), _CLIP_NORM)
        self._optimizer.step()
        self._steps += 1
        decay = min(_AVERAGE_DECAY, (1 + self._steps) / (10 + self._steps))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self._average[name].lerp_(value, 1.0 - decay)
        return losses.parts()

    def _set_rate(self, done: float, *, finishing: bool) -> None:
        """One cycle: a linear warm-up, then a cosine down to a hundredth."""
        if finishing:
            factor = _FINISH_RATE * (1.0 - done)
        else:
            share = min(done / self.plan.epochs, 1.0)
            falling = (share - _WARM_UP) / (1.0 - _WARM_UP)
            cosine = 0.5 * (1.0 + math.cos(math.pi * max(falling, 0.0)))
            factor = max(_LAST_RATE, min(share / _WARM_UP, 1.0) * cosine)
        for group in self._optimizer.param_groups:
            group["lr"] = self.plan.learning_rate * group["pace"] * max(factor, 1e-6)

    def _judge(self) -> tuple[float, float]:
        """Loss and WQL of the averaged weights on the validation tail."""
        kept = _copy(self.network.state_dict())
        self.network.load_state_dict(self._average)
        self.network.eval()
        total = torch.zeros(4, device=self.device, dtype=torch.float64)
        with torch.inference_mode():
            for windows in self._validation:
                for plan in windows.plans_at(self._validation_origins(), batch_size=64):
                    total += self._judged(windows.cut(plan, target_end=self.plan.end))
        self.network.load_state_dict(kept)
        loss, weight, pinball_units, units = self._add(total).tolist()
        return loss / max(weight, 1e-9), 2.0 * pinball_units / max(units, 1e-9)

    def _judged(self, batch: Batch) -> torch.Tensor:
        prediction = self.network(batch)
        losses = losses_of(prediction, batch, levels_Q=self._levels_Q)
        weight = (batch.weight_BKH * batch.level_BK[:, :, None]).sum()
        units_BKHQ = prediction.marginal_BKHQ.clamp_min(0.0) * batch.level_BK[:, :, None, None]
        each_BKHQ = pinball(units_BKHQ, batch.target_BKH, levels_Q=self._levels_Q, censored=batch.censored_BKH)
        wql = (each_BKHQ.mean(dim=-1) * batch.weight_BKH).sum()
        return torch.stack([losses.total * weight, weight, wql, (batch.target_BKH * batch.weight_BKH).sum()]).double()

    def _validation_origins(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Start of the tail, and one and two quarters into it."""
        start, tail = self.plan.end - self.plan.tail, self.plan.tail
        return np.unique(np.array([start, start + tail // 4, start + tail // 2], dtype=np.int64))


def _make_optimizer(network: DemandNetwork, *, learning_rate: float) -> torch.optim.AdamW:
    """AdamW; a series' own embedding is seen in few steps and takes longer ones."""
    own = list(network.series.parameters())
    rest = [parameter for name, parameter in network.named_parameters() if not name.startswith("series.")]
    groups = [{"params": own, "pace": _EMBEDDING_PACE}, {"params": rest, "pace": 1.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, weight_decay=1e-4)


def _copy(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}
