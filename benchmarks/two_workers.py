"""The forecaster's learning curve on one worker, and on two of half the batch that share the series.

Two nodes of Ray on this machine, a worker on each, gradients averaged by DDP. The workers of a pair draw windows of
their own, so that curves cannot be equal: noise is how far apart those of one worker are for different seeds. One
worker learns in this process, which tests/integration/test_forecast_train.py holds equal to one worker of Ray Train.

Shapes: R runs, one per seed; P passes.
"""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.fault_drills import FORECAST, small_dataset
from benchmarks.frame import make_parser, make_target, report
from benchmarks.nodes import start_nodes
from cluster.config import Settings, load_settings
from cluster.panel import DemandPanel
from forecasting.preparation import fit_in_process
from forecasting.train import fit_and_hold_out

_BATCH_SIZE = 128
_NUM_SEEDS = 3


def main() -> None:
    """Learn with several seeds on one worker and on two, and compare the mean curves."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.epochs = 2
    seeds = range(arguments.seed, arguments.seed + (2 if arguments.quick else _NUM_SEEDS))
    rows = []
    with tempfile.TemporaryDirectory() as folder, start_nodes(2, cpus=2):
        home = Path(folder) / "home"
        home.mkdir()
        panel = small_dataset(home).panel()
        for seed in seeds:
            for num_workers in (1, 2):
                settings = _settings(home, num_workers=num_workers, seed=seed, epochs=arguments.epochs)
                curve = learn(panel, settings=settings)
                rows.append({"workers": num_workers, "seed": seed, "validation_loss": [round(x, 4) for x in curve]})
    gap, noise = compare(*(_curves_RP(rows, num_workers=num_workers) for num_workers in (1, 2)))
    target = make_target(
        "mean curves of one and two workers apart, at most noise", value=gap, target=noise, at_least=False
    )
    report("two_workers", rows, targets=[target], arguments=arguments)


def learn(panel: DemandPanel, *, settings: Settings) -> list[float]:
    """Validation loss after each pass."""
    if settings.forecast.num_workers == 1:
        fitted = fit_in_process(panel, settings=settings)
    else:
        fitted, _ = fit_and_hold_out(panel, settings=settings)
    return [row.validation_loss for row in fitted.history if row.validation_loss is not None]


def compare(one_RP: np.ndarray, two_RP: np.ndarray) -> tuple[float, float]:
    """Largest distance of the mean curves, and the largest spread of one worker's, both over one worker's mean loss."""
    mean_P = one_RP.mean(axis=0)
    gap_P = np.abs(two_RP.mean(axis=0) - mean_P) / mean_P
    noise_P = (one_RP.max(axis=0) - one_RP.min(axis=0)) / mean_P
    return float(gap_P.max()), float(noise_P.max())


def _curves_RP(rows: list[dict[str, object]], *, num_workers: int) -> np.ndarray:
    return np.array([row["validation_loss"] for row in rows if row["workers"] == num_workers])


def _settings(home: Path, *, num_workers: int, seed: int, epochs: int) -> Settings:
    asked = (
        f"seed={seed}",
        f"forecast.epochs={epochs}",
        f"forecast.patience={epochs}",
        f"forecast.num_workers={num_workers}",
        f"forecast.batch_size={_BATCH_SIZE // num_workers}",
    )
    return load_settings(overrides=[f'home="{home}"', *FORECAST, *asked])


if __name__ == "__main__":
    main()
