"""Training of the sequence network, without Ray: a step, an epoch, a state to go on from.

Shapes: W windows, L events, M targets, I items, C candidates.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor, nn

from cluster.precision import autocast
from cluster.settings.models import Precision, RecommenderSettings
from recsys.interactions import PURCHASE, IntArray, Interactions, ItemAttributes
from recsys.models.network import NetworkShape, SequenceNetwork
from recsys.windows import Batch, last_events

INPUTS: Final = ("item_WL", "behaviour_WL", "gap_WL", "target_WLM")
"""Arrays of a batch that the network reads, in the order of its arguments."""
_WARM_UP_STEPS = 50
_UNIFORM_SHARE = 0.5
_REFIT_SHARE = 0.3
_REFIT_PART = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """How long and how hard to train.

    Parameters
    ----------
    epochs, steps_per_epoch
        The learning epochs, over which the learning rate warms up and then falls to zero as a half cosine; none for
        a refit alone.
    refit_steps
        Steps of one more epoch that starts from the best one at a lower rate and also sees the validation baskets; 0
        for none.
    num_negatives
        Candidates drawn per step; with that many items or fewer all of them are candidates.
    calibration
        Of gBCE, whose candidates are drawn evenly; None for the softmax.
    """

    epochs: int
    steps_per_epoch: int
    refit_steps: int
    learning_rate: float
    num_negatives: int
    precision: Precision
    seed: int
    calibration: float | None = None


class SequenceLearner:
    """State of one training run; the same seed and batches give the same weights.

    Parameters
    ----------
    network
        Moved to ``device``.
    count_I
        How often each item was taken: the first guess of the item bias, and half of how negatives are drawn.
    judge
        NDCG of the network on validation; None keeps the last epoch.
    warm
        Whether the network has been trained before: its item bias then stays.
    wrap
        Makes the network parallel (Ray Train's ``prepare_model``); None trains it as it is.
    """

    def __init__(
        self,
        network: SequenceNetwork,
        *,
        plan: TrainingPlan,
        count_I: IntArray,
        judge: Callable[[SequenceNetwork], float] | None = None,
        device: torch.device | str = "cpu",
        warm: bool = False,
        wrap: Callable[[nn.Module], nn.Module] | None = None,
    ) -> None:
        self.plan = plan
        self.device = torch.device(device)
        self.network = network.to(self.device)
        share_I = torch.as_tensor((count_I + 1) / (count_I + 1).sum(), dtype=torch.float32, device=self.device)
        if not warm:
            with torch.no_grad():
                # Starting at popularity saves the epochs that learning it would take.
                self.network.bias_I.copy_(share_I.log())
        evenly = _UNIFORM_SHARE if plan.calibration is None else 1.0
        self._draw_I = evenly / len(count_I) + (1 - evenly) * share_I
        self._module = wrap(self.network) if wrap is not None else self.network
        self._optimiser = torch.optim.Adam(self.network.parameters(), lr=plan.learning_rate, betas=(0.9, 0.98))
        self._judge = judge
        self._step = 0
        self.history: list[dict[str, Any]] = []
        self.best = _copy(self.network)

    @property
    def phase(self) -> Literal["learn", "refit", "done"]:
        """What the next epoch is."""
        if len(self.history) < self.plan.epochs:
            return "learn"
        return "refit" if self.plan.refit_steps and len(self.history) == self.plan.epochs else "done"

    def run_epoch(self, batches: Iterable[Batch]) -> dict[str, Any]:
        """Learn from every batch once and add a row to the learning curve.

        ``loss`` is in nats per target; ``ndcg`` is the judge's word, None in the refit, which has seen its answers.
        """
        began_s = time.perf_counter()
        phase = self.phase
        if phase == "refit":
            self.network.load_state_dict(self.best)
        self._module.train()
        losses = [self._train_step(batch) for batch in batches]
        self._module.eval()
        ndcg = self._judge(self.network) if self._judge is not None and phase == "learn" else None
        known = [row["ndcg"] for row in self.history if row["ndcg"] is not None]
        if phase == "learn" and (ndcg is None or ndcg >= max(known, default=0.0)):
            self.best = _copy(self.network)
        self.history.append(
            {
                "epoch": len(self.history) + 1,
                "phase": phase,
                "loss": float(np.mean(losses)) if losses else None,
                "ndcg": ndcg,
                "seconds": time.perf_counter() - began_s,
            }
        )
        return self.history[-1]

    def state(self) -> dict[str, Any]:
        """Everything that :meth:`restore` needs to go on as if nothing had happened."""
        return {
            "network": self.network.state_dict(),
            "best": self.best,
            "optimiser": self._optimiser.state_dict(),
            "step": self._step,
            "history": self.history,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.best, self._step, self.history = state["best"], state["step"], list(state["history"])

    def _train_step(self, batch: Batch) -> float:
        # Draws depend on the step alone, so that a resumed run draws what an unbroken one would have drawn.
        torch.manual_seed(self.plan.seed * 1_000_003 + self._step)
        for group in self._optimiser.param_groups:
            group["lr"] = self._learning_rate()
        inputs = [torch.as_tensor(batch[name], dtype=torch.int64, device=self.device) for name in INPUTS]
        candidate_C, log_draws_C = self._candidates()
        with autocast(self.plan.precision, device=self.device):
            loss = self._module(*inputs, candidate_C, log_draws_C, self.plan.calibration)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        self._step += 1
        return loss.item()

    def _learning_rate(self) -> float:
        learn_steps = self.plan.epochs * self.plan.steps_per_epoch
        if self._step >= learn_steps:
            left = 1.0 - (self._step - learn_steps) / max(self.plan.refit_steps, 1)
            return self.plan.learning_rate * _REFIT_SHARE * max(left, 0.0)
        warm = min(1.0, (self._step + 1) / min(_WARM_UP_STEPS, max(learn_steps // 4, 1)))
        return self.plan.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * self._step / learn_steps))

    def _candidates(self) -> tuple[Tensor, Tensor]:
        num_items, wanted = len(self._draw_I), self.plan.num_negatives
        if num_items <= wanted:
            return torch.arange(num_items, device=self.device), torch.zeros(num_items, device=self.device)
        candidate_C = torch.multinomial(self._draw_I, wanted, replacement=True)
        return candidate_C, (self._draw_I[candidate_C] * wanted).log()


def network_shape(
    settings: RecommenderSettings, *, num_items: int, attributes: ItemAttributes | None = None
) -> NetworkShape:
    """Shape of the network that the settings ask for."""
    return NetworkShape(
        kind=settings.model,
        num_items=num_items,
        length=settings.max_sequence,
        hidden=settings.hidden,
        dropout=settings.dropout,
        num_attributes=0 if attributes is None else attributes.num_codes,
        num_pairs=0 if attributes is None else len(attributes.code_A),
    )


def calibration_of(settings: RecommenderSettings) -> float | None:
    """Calibration of the loss that the settings ask for; None for the softmax."""
    return settings.gbce_calibration if settings.loss == "gbce" else None


def window_options(interactions: Interactions, *, settings: RecommenderSettings, seed: int) -> dict[str, Any]:
    """Keyword arguments of :func:`recsys.windows.make_windows` for these sequences."""
    return {
        "length": settings.max_sequence,
        "windows_per_user": settings.windows_per_user,
        "num_targets": settings.targets_per_event,
        "purchases_only": bool((interactions.behaviour_E == PURCHASE).any()),
        "seed": seed,
    }


def refit_options(options: dict[str, Any]) -> dict[str, Any]:
    """Options of the windows that a refit reads: the latest quarter, where what is new lies."""
    return options | {"windows_per_user": -(-int(options["windows_per_user"]) // _REFIT_PART)}


def grow_network(
    network: SequenceNetwork,
    shape: NetworkShape,
    *,
    attributes: ItemAttributes | None,
    old_row_I: IntArray,
    count_I: IntArray,
) -> SequenceNetwork:
    """Network over other items that knows what ``network`` knew of the items that both have.

    Parameters
    ----------
    old_row_I
        Row of each item in ``network``, -1 for a new one: its vector starts at random, its bias at the level that its
        count has among the old ones.
    """
    grown = SequenceNetwork(shape, attributes)
    old, new = network.state_dict(), grown.state_dict()
    known = torch.as_tensor(np.flatnonzero(old_row_I >= 0))
    rows = torch.as_tensor(old_row_I[old_row_I >= 0])
    share_I = torch.as_tensor(np.log((count_I + 1) / (count_I + 1).sum()), dtype=torch.float32)
    with torch.no_grad():
        for name, values in old.items():
            if not name.startswith(("item.", "bias_I", "attribute")) and values.shape == new[name].shape:
                new[name].copy_(values)
        new["item.weight"][known] = old["item.weight"][rows]
        shift = (old["bias_I"][rows] - share_I[known]).mean() if len(known) else 0.0
        new["bias_I"].copy_(share_I + shift)
        new["bias_I"][known] = old["bias_I"][rows]
    return grown


def encode_last(network: SequenceNetwork, histories: Interactions, *, device: torch.device | str = "cpu") -> Tensor:
    """Vector of each user after the last event, shape (U, D); zero for a user without events."""
    batch = last_events(histories, length=network.shape.length)
    inputs = [torch.as_tensor(batch[name], dtype=torch.int64, device=device) for name in INPUTS[:3]]
    length_W = torch.as_tensor(batch["length_W"], device=device)
    with torch.inference_mode():
        # Short histories need no full window; positions count from the left, so a narrower one gives the same vectors.
        width = max(int(length_W.max()) if len(length_W) else 0, 1)
        hidden_WLD = network.encode(*(values[:, :width] for values in inputs))
        last_WD = hidden_WLD[torch.arange(len(length_W), device=device), (length_W - 1).clamp(min=0)]
        return last_WD * (length_W > 0)[:, None]


def make_batches(windows: Batch, *, batch_size: int, seed: int) -> Iterable[Batch]:
    """Windows in shuffled batches."""
    order = np.random.default_rng(seed).permutation(len(windows["item_WL"]))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield {name: values[rows] for name, values in windows.items()}


def _copy(network: SequenceNetwork) -> dict[str, Tensor]:
    return {name: values.detach().clone() for name, values in network.state_dict().items()}
