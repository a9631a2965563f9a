"""Does the network gain from pre-training without labels, or from low-rank deltas per category? Beside plain training.

Pre-training hides 30 % of the periods that the lag encoder reads and has it, with the embeddings of series and
category, reconstruct their demand; the usual passes follow. Deltas (LoRA) freeze the network as it was before its
finishing pass and learn, per category, a low-rank product that is added to what the heads read. Every second series of
a panel, one fit before the first of six origins, scored on the first three; neither option is part of the product.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.forecast_panels import DATASETS, SHARED_DATA, load_table
from benchmarks.frame import make_parser, report
from cluster.config import Settings, load_settings
from cluster.panel import DemandPanel
from forecasting.backtest import make_origins
from forecasting.features import NUM_OWN, SeriesFeatures
from forecasting.fitting import ORIGINS_PER_CROP, Fitting, losses_of
from forecasting.metrics import score_forecasts
from forecasting.model import LAGS, DemandNetwork, LagEncoder, Prediction, QuantileHeads, restore_network
from forecasting.predict import Forecaster
from forecasting.preparation import Start, make_start
from forecasting.rows import features_of_table, series_table
from forecasting.vocabulary import Vocabulary
from forecasting.windows import Batch, Windows

Row = dict[str, Any]

_NUM_ORIGINS, _SCORED = 6, 3
_PASSES, _HIDDEN_SHARE = 2, 0.3
_RANKS, _DELTA_RATE = (2, 8), 2e-3
_DEMAND = 2
"""Own channel that is reconstructed: log sales over the level."""
_SCORES = ("wql", "wql_90", "wql_sum", "rmsse")
_QUICK = ("forecast.epochs=2", "forecast.windows_per_series=16")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One panel with one seed, ready to learn from."""

    panel: DemandPanel
    origins: list[int]
    start: Start
    features: SeriesFeatures

    def network(self) -> DemandNetwork:
        """The network before any learning."""
        return restore_network(self.start.shape, weights=self.start.weights)

    def fit(self, network: DemandNetwork) -> Fitting:
        """All passes of the product."""
        device = torch.device("cpu")
        fitting = Fitting(network, plan=self.start.plan, validation=[self.features], device=device)
        while not fitting.is_done:
            fitting.run_epoch([self.features])
        return fitting

    def score(self, network: DemandNetwork, *, vocabulary: Vocabulary) -> Row:
        """Errors on the scored origins."""
        forecaster = Forecaster(network, vocabulary=vocabulary, history=())
        forecasts = forecaster.predict_rolling(self.panel, origins=self.origins, horizon=network.shape.horizon)
        scores = score_forecasts(self.panel, forecasts=forecasts, origins=self.origins)
        return {name: scores[name] for name in _SCORES}


def main() -> None:
    """Compare on one panel."""
    torch.set_num_threads(1)
    arguments = _parse()
    file, columns = DATASETS[arguments.dataset]
    panel, _ = load_table(SHARED_DATA / file, columns, weekly=False)
    panel = panel.take(np.arange(0, panel.num_series, 10 if arguments.quick else 2))
    sets = ['forecast.encoder="lags"', *(_QUICK if arguments.quick else ())]
    rows = []
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        rows += _compare(_load(panel, settings=load_settings(overrides=[*sets, f"seed={seed}"])), seed=seed)
    means = [_mean(rows, system) for system in dict.fromkeys(row["system"] for row in rows)]
    report("pretraining", [*rows, *means], targets=[], arguments=arguments, facts={"series": panel.num_series})


def _parse() -> argparse.Namespace:
    parser = make_parser(__doc__ or "")
    parser.add_argument("--dataset", choices=list(DATASETS), default="cj", help="a panel of the shared data")
    parser.add_argument("--seeds", type=int, default=3, help="so many seeds, from --seed on")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds = 1
    return arguments


def _load(panel: DemandPanel, *, settings: Settings) -> _Case:
    origins = make_origins(panel, num_origins=_NUM_ORIGINS, horizon=settings.horizon, first=1)
    view = panel.until(origins[0])
    start = make_start(view, settings=settings)
    table = series_table(view, known=start.judged_vocabulary.rows(view.index), seed=settings.seed)
    features = features_of_table(table, shared=start.shared)
    return _Case(panel=panel, origins=origins[:_SCORED], start=start, features=features)


def _compare(case: _Case, *, seed: int) -> list[Row]:
    rows: list[Row] = []

    def add(system: str, began_s: float, network: DemandNetwork, vocabulary: Vocabulary) -> None:
        seconds = round(time.process_time() - began_s, 1)
        scores = case.score(network, vocabulary=vocabulary)
        rows.append({"system": system, "seed": seed, **scores, "cpu_seconds": seconds})

    began_s = time.process_time()
    plain = case.fit(case.network())
    add("plain", began_s, restore_network(case.start.shape, weights=plain.best), case.start.vocabulary)

    began_s = time.process_time()
    network = case.network()
    _pretrain(network, case)
    fitted = case.fit(network)
    add("pre-trained", began_s, restore_network(case.start.shape, weights=fitted.best), case.start.vocabulary)

    if plain.judged is None or case.start.shape.num_categories < 2:
        return rows
    began_s = time.process_time()
    before = restore_network(case.start.shape, weights=plain.judged)
    add("before the finishing pass", began_s, before, case.start.judged_vocabulary)
    for rank in _RANKS:
        began_s = time.process_time()
        adapted = _adapt(restore_network(case.start.shape, weights=plain.judged), case, rank=rank)
        add(f"frozen, deltas of rank {rank}", began_s, adapted, case.start.judged_vocabulary)
    return rows


def _mean(rows: list[Row], system: str) -> Row:
    mine = [row for row in rows if row["system"] == system]
    return {"system": f"{system}, mean", **{name: float(np.mean([row[name] for row in mine])) for name in _SCORES}}


def _learn(
    case: _Case,
    network: DemandNetwork,
    *,
    parameters: list[nn.Parameter],
    rate: float,
    loss_of: Callable[[Batch], torch.Tensor],
) -> None:
    """A few passes over what the learning passes see, the rate falling to zero."""
    plan, shape = case.start.plan, network.shape
    windows = Windows(case.features, context=shape.context, horizon=shape.horizon, device=torch.device("cpu"))
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=1e-4)
    end, rng = plan.end - plan.tail, np.random.default_rng([plan.seed, len(parameters)])
    torch.manual_seed(plan.seed)
    network.train()
    for epoch in range(_PASSES):
        crops = list(
            windows.draw(
                rng,
                crops_per_series=plan.crops_per_series,
                origins_per_crop=ORIGINS_PER_CROP,
                batch_size=plan.crops_per_step,
                end=end,
            )
        )
        for step, crop in enumerate(crops):
            optimizer.param_groups[0]["lr"] = rate * (1.0 - (epoch + step / len(crops)) / _PASSES)
            loss = loss_of(windows.cut(crop, target_end=end))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
    network.eval()


def _pretrain(network: DemandNetwork, case: _Case) -> None:
    """Have the encoder reconstruct demand that is hidden from it, out of the rest and of the series' names."""
    encoder = network.encoder
    assert isinstance(encoder, LagEncoder)
    names = network.series.embedding_dim + network.category.embedding_dim
    head = nn.Linear(network.shape.hidden + names, LAGS)

    def loss_of(batch: Batch) -> torch.Tensor:
        read_BKRC = encoder.read_BKRC(batch)
        ago = torch.arange(1, LAGS + 1)
        hidden_BKR = (torch.rand(read_BKRC.shape[:3]) < _HIDDEN_SHARE) & (batch.position_BK[..., None] >= ago)
        own_BKRC = read_BKRC[..., :NUM_OWN] * ~hidden_BKR[..., None]
        seen_BKRC = torch.cat([own_BKRC, read_BKRC[..., NUM_OWN:]], dim=-1)
        state_BKD = functional.gelu(encoder.enter(seen_BKRC.flatten(-2)))
        name_BE = torch.cat([network.series(batch.series_row_B), network.category(batch.category_row_B)], dim=-1)
        named_BKE = name_BE[:, None].expand(-1, state_BKD.shape[1], -1)
        made_BKR = head(torch.cat([state_BKD, named_BKE], dim=-1))
        weight_BKR = hidden_BKR * batch.weight_BKH[..., :1]
        error_BKR = functional.smooth_l1_loss(made_BKR, read_BKRC[..., _DEMAND], reduction="none")
        return (error_BKR * weight_BKR).sum() / weight_BKR.sum().clamp_min(1.0)

    parameters = [*network.parameters(), *head.parameters()]
    _learn(case, network, parameters=parameters, rate=case.start.plan.learning_rate, loss_of=loss_of)


class _AdaptedHeads(nn.Module):
    """Heads that read what they did plus its product with a low-rank matrix of the category, nothing at first."""

    def __init__(self, heads: QuantileHeads, *, width: int, num_categories: int, rank: int) -> None:
        super().__init__()
        self.heads, self.rank = heads, rank
        self.shared = nn.Linear(width, rank, bias=False)
        self.own = nn.Embedding(num_categories, rank * width)
        nn.init.zeros_(self.own.weight)
        self.category_row_B = torch.zeros(0, dtype=torch.int64)

    def forward(self, hidden: torch.Tensor, *, log_base_BKH: torch.Tensor) -> Prediction:
        """As :class:`QuantileHeads`, for the categories that :func:`_adapt` noted before."""
        own = self.own(self.category_row_B).view(-1, 1, self.rank, hidden.shape[-1])
        adapted: Prediction = self.heads(hidden + self.shared(hidden) @ own, log_base_BKH=log_base_BKH)
        return adapted


def _adapt(network: DemandNetwork, case: _Case, *, rank: int) -> DemandNetwork:
    """Freeze a network and learn the deltas alone."""
    shape = network.shape
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    torch.manual_seed(case.start.plan.seed)
    heads = _AdaptedHeads(network.heads, width=shape.hidden, num_categories=shape.num_categories + 1, rank=rank)

    def note_category(_: nn.Module, arguments: tuple[Batch]) -> None:
        heads.category_row_B = arguments[0].category_row_B

    network.register_module("heads", heads)
    network.register_forward_pre_hook(note_category)
    levels_Q = torch.tensor(shape.levels)
    _learn(
        case,
        network,
        parameters=[*heads.shared.parameters(), *heads.own.parameters()],
        rate=_DELTA_RATE,
        loss_of=lambda batch: losses_of(network(batch), batch, levels_Q=levels_Q).total,
    )
    return network


if __name__ == "__main__":
    main()
