"""What a card does with Restock: training steps of both networks, the simulator, PPO and ``direct``, CPU beside GPU.

Floating-point operations of a step are counted by torch, forward and backward (attention's own on a card only).
``utilisation_percent`` is their rate over that of one large product of matrices in the same precision on the same
device, measured in the same run, and ``of_peak_percent`` over the maker's figure where the card is known. No Ray, no
network, no files: the loops of :mod:`forecasting.fitting`, :mod:`recsys.learner` and :mod:`rl`, fed from memory.
Without a GPU it says so and ends; with ``--device cpu`` everything runs at tiny sizes.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.forecast_scale import make_panel
from benchmarks.frame import make_parser, make_target, report
from benchmarks.gpu_policies import make_direct, make_ppo
from benchmarks.instances import make_job
from benchmarks.simulator import MEAN, run_restock
from cluster.config import load_settings
from cluster.precision import autocast
from cluster.settings.models import PolicySettings, Precision
from forecasting.fitting import Fitting
from forecasting.model import restore_network
from forecasting.preparation import make_start
from forecasting.rows import features_of_table, series_table
from recsys.learner import SequenceLearner, TrainingPlan
from recsys.models.network import NetworkShape, SequenceNetwork
from recsys.windows import NUM_GAPS, Batch
from rl.demand import DemandLaw
from rl.exact import LostSalesProblem

Row = dict[str, Any]

_BUSY_PERCENT = 30.0
"""Utilisation from which a card counts as filled."""
# Dense tensor-core bfloat16 and plain float32, TFLOP/s, from the makers' data sheets; the longest name that fits.
_PEAKS: dict[str, dict[Precision, float]] = {
    "H200": {"bfloat16": 989.0, "float32": 67.0},
    "H100 PCIe": {"bfloat16": 756.0, "float32": 51.0},
    "H100": {"bfloat16": 989.0, "float32": 67.0},
    "A100": {"bfloat16": 312.0, "float32": 19.5},
    "L40S": {"bfloat16": 362.0, "float32": 91.6},
    "L4": {"bfloat16": 121.0, "float32": 30.3},
    "A10G": {"bfloat16": 70.0, "float32": 31.2},
}
_PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
_EVENTS, _TARGETS = 50, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How large everything is: ``laptop`` as its configuration says, ``gpu`` likewise, ``tiny`` to see that it runs."""

    name: str
    hidden: int
    series: int
    windows: int
    users_windows: int
    items: int
    negatives: int
    users_batch: int
    rows: int
    minibatch: int
    simulated: int
    matrix: int


_SIZES = {
    "tiny": Sizes(
        name="tiny",
        hidden=16,
        series=40,
        windows=64,
        users_windows=64,
        items=200,
        negatives=64,
        users_batch=16,
        rows=64,
        minibatch=256,
        simulated=512,
        matrix=256,
    ),
    "laptop": Sizes(
        name="laptop",
        hidden=64,
        series=1_000,
        windows=256,
        users_windows=4_096,
        items=20_000,
        negatives=512,
        users_batch=64,
        rows=512,
        minibatch=1_024,
        simulated=8_192,
        matrix=2_048,
    ),
    "gpu": Sizes(
        name="gpu",
        hidden=256,
        series=10_000,
        windows=8_192,
        users_windows=16_384,
        items=500_000,
        negatives=4_096,
        users_batch=1_024,
        rows=16_384,
        minibatch=32_768,
        simulated=1_048_576,
        matrix=8_192,
    ),
}


def main() -> None:
    """Measure every device that there is."""
    arguments = _parse()
    devices = _devices(arguments.device)
    if not devices:
        row = {"system": "GPU", "skipped": "no CUDA device; --device cpu runs everything at tiny sizes on the CPU"}
        report("gpu", [row], targets=[], arguments=arguments)
        return
    rows = [row for device in devices for row in _measure(device, arguments)]
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    report("gpu", rows, targets=_targets(rows), arguments=arguments, device=name, facts={"notes": _notes(rows)})


def _parse() -> argparse.Namespace:
    parser = make_parser(__doc__ or "")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: CPU and GPU, if any")
    parser.add_argument("--sizes", nargs="+", choices=list(_SIZES), help="default: tiny for --device cpu")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0: torch's choice")
    return parser.parse_args()


def _devices(asked: str) -> list[torch.device]:
    if asked == "cpu":
        return [torch.device("cpu")]
    if not torch.cuda.is_available():
        return []
    return [torch.device("cuda")] if asked == "cuda" else [torch.device("cuda"), torch.device("cpu")]


def _measure(device: torch.device, arguments: argparse.Namespace) -> list[Row]:
    """Every row of one device: a GPU at both sizes and the CPU beside it at the laptop's, if nothing is asked for."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    sizes = arguments.sizes or _usual_sizes(device, arguments)
    rows = []
    for name in sizes:
        peak_of = {precision: _matmul(device, _SIZES[name].matrix, precision) for precision in _PRECISIONS}
        for precision, rate in peak_of.items():
            rows.append(_row("product of matrices", device, name, precision=precision) | {"tflops": round(rate, 3)})
            for make in (_forecaster, _recommender):
                rows.append(_network_row(make, device, _SIZES[name], precision, peak=rate, seed=arguments.seed))
        rows.append(_simulator(device, _SIZES[name], seed=arguments.seed))
        rows += _policies(device, _SIZES[name], seed=arguments.seed)
    return rows


def _usual_sizes(device: torch.device, arguments: argparse.Namespace) -> list[str]:
    if arguments.device == "cpu":
        return ["tiny"]
    return ["laptop"] if arguments.quick or device.type == "cpu" else ["laptop", "gpu"]


def _row(system: str, device: torch.device, sizes: str, **more: Any) -> Row:
    return {"system": system, "device": device.type, "sizes": sizes, **more}


def _matmul(device: torch.device, width: int, precision: Precision) -> float:
    """TFLOP/s of a product of square matrices."""
    left, right = torch.randn(2, width, width, device=device)

    def multiply() -> None:
        with autocast(precision, device=device):
            for _ in range(10):
                torch.mm(left, right)
        _wait(device)

    return 10 * 2 * width**3 / _seconds(multiply) / 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A pass of training to time: its steps, what a step reads, and what one pass does."""

    name: str
    num_steps: int
    per_step: int
    unit: str
    run: Callable[[], object]


def _network_row(
    make: Callable[..., Training], device: torch.device, sizes: Sizes, precision: Precision, *, peak: float, seed: int
) -> Row:
    training = make(device, sizes, precision, seed=seed)
    training.run()  # the first pass pays for memory and kernels
    with FlopCounterMode(display=False) as counter:
        training.run()
    seconds = _seconds(training.run)
    tflops = counter.get_total_flops() / seconds / 1e12
    maker = _peak_of(device, precision)
    return _row(training.name, device, sizes.name, precision=precision) | {
        "steps_per_second": round(training.num_steps / seconds, 2),
        f"{training.unit}_per_second": round(training.num_steps * training.per_step / seconds),
        "gflop_per_step": round(counter.get_total_flops() / training.num_steps / 1e9, 3),
        "tflops": round(tflops, 4),
        "utilisation_percent": round(100 * tflops / peak, 2),
        "of_peak_percent": None if maker is None else round(100 * tflops / maker, 2),
    }


def _peak_of(device: torch.device, precision: Precision) -> float | None:
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name()
    fitting = [known for known in _PEAKS if known in name]
    return _PEAKS[max(fitting, key=len)][precision] if fitting else None


def _forecaster(device: torch.device, sizes: Sizes, precision: Precision, *, seed: int) -> Training:
    """Passes over made-up series without validation."""
    options = (f"hidden={sizes.hidden}", f"batch_size={sizes.windows}", "windows_per_series=64", "least_steps=1")
    settings = load_settings(overrides=[*(f"forecast.{one}" for one in options), f"forecast.precision={precision}"])
    panel = make_panel(sizes.series, seed=seed)
    start = make_start(panel, settings=settings)
    table = series_table(panel, known=start.vocabulary.rows(panel.index), seed=seed)
    features = features_of_table(table, shared=start.shared)
    network = restore_network(start.shape, weights=start.weights).to(device)
    plan = replace(start.plan, tail=0, epochs=1_000)
    fitting = Fitting(network, plan=plan, validation=[], device=device)
    return Training(
        name="forecaster",
        num_steps=plan.steps_per_epoch,
        per_step=sizes.windows,
        unit="windows",
        run=lambda: fitting.run_epoch([features]),  # its last line waits for the device
    )


def _recommender(device: torch.device, sizes: Sizes, precision: Precision, *, seed: int) -> Training:
    """Passes over windows of random events."""
    shape = NetworkShape(kind="transformer", num_items=sizes.items, length=_EVENTS, hidden=sizes.hidden)
    num_steps = sizes.users_windows // sizes.users_batch
    plan = TrainingPlan(
        epochs=1_000,
        steps_per_epoch=num_steps,
        refit_steps=0,
        learning_rate=1e-3,
        num_negatives=sizes.negatives,
        precision=precision,
        seed=seed,
    )
    count_I = np.ones(sizes.items, dtype=np.int64)
    learner = SequenceLearner(SequenceNetwork(shape), plan=plan, count_I=count_I, judge=None, device=device)
    batches = [_events(sizes, seed=seed + step) for step in range(num_steps)]
    return Training(
        name="recommender",
        num_steps=num_steps,
        per_step=sizes.users_batch * _EVENTS,
        unit="events",
        run=lambda: learner.run_epoch(batches),  # every step's loss waits for the device
    )


def _events(sizes: Sizes, *, seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    shape = (sizes.users_batch, _EVENTS)
    return {
        "item_WL": rng.integers(sizes.items, size=shape),
        "behaviour_WL": np.zeros(shape, dtype=np.int64),
        "gap_WL": rng.integers(NUM_GAPS, size=shape),
        "target_WLM": rng.integers(sizes.items, size=(*shape, _TARGETS)),
    }


def _simulator(device: torch.device, sizes: Sizes, *, seed: int) -> Row:
    """The simulator with a base-stock rule, as in ``benchmarks.simulator``."""
    torch.manual_seed(seed)
    demand_TN = torch.poisson(torch.full((60, sizes.simulated), MEAN)).to(device)

    def run() -> None:
        with torch.inference_mode():
            run_restock(demand_TN)  # its last line waits for the device

    rate = demand_TN.numel() / _seconds(run)
    return _row("simulator", device, sizes.name) | {"rows": sizes.simulated, "series_days_per_second": round(rate)}


def _policies(device: torch.device, sizes: Sizes, *, seed: int) -> list[Row]:
    """PPO and ``direct``, everything on the device."""
    settings = PolicySettings(num_rows=sizes.rows, minibatch_size=sizes.minibatch, hidden=max(sizes.hidden // 2, 16))
    problem = LostSalesProblem(law=DemandLaw(name="poisson", mean=MEAN), lead_time=4, penalty=4.0)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for algorithm, make, periods in (
            ("ppo", make_ppo, settings.rollout_periods),
            ("direct", make_direct, settings.unroll_periods),
        ):
            job = make_job([problem], algorithm=algorithm, seed=seed, settings=settings, folder=Path(folder))
            torch.manual_seed(seed)
            train = make(job, device=device)
            rate = settings.num_rows * periods / _seconds(train)
            row = _row(f"{algorithm}, simulator and learner on it", device, sizes.name)
            rows.append(row | {"rows": settings.num_rows, "trained_steps_per_second": round(rate)})
    return rows


def _seconds(run: Callable[[], object]) -> float:
    """Median of three passes after one to warm up; a pass waits for its device."""
    run()
    took = []
    for _ in range(3):
        began_s = time.perf_counter()
        run()
        took.append(time.perf_counter() - began_s)
    return statistics.median(took)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _notes(rows: list[Row]) -> list[str]:
    """What fills the card and what does not."""
    notes = []
    for row in rows:
        if row["device"] == "cuda" and "utilisation_percent" in row:
            share, what = row["utilisation_percent"], f"{row['system']}, {row['sizes']} sizes, {row['precision']}"
            verdict = "fills the card" if share >= _BUSY_PERCENT else "does not fill the card"
            notes.append(f"{what}: {verdict} ({share:.1f} % of what a product of matrices reaches)")
    return notes


def _targets(rows: list[Row]) -> list[Row]:
    """How many times faster the GPU is, of what both devices measured at the same sizes."""
    rates = ("steps_per_second", "series_days_per_second", "trained_steps_per_second")
    targets = []
    for row in rows:
        (key,) = [name for name in rates if name in row] or [""]
        same = ("system", "sizes", "precision")
        cpu = [one for one in rows if one["device"] == "cpu" and all(one.get(name) == row.get(name) for name in same)]
        if key and cpu and row["device"] == "cuda":
            what = f"{row['system']}, {row['sizes']}, {row.get('precision', '')}: times the CPU".replace(", :", ":")
            targets.append(make_target(what, value=round(row[key] / cpu[0][key], 2), target=1.0, at_least=True))
    return targets


if __name__ == "__main__":
    main()
