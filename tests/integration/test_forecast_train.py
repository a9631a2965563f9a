"""Ray Train and Ray Data run the same arithmetic as the loop without them, and survive a killed worker."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from forecast_panels import make_panel, small_settings
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator, ScalarEvent

from cluster.config import Settings
from cluster.storage import FolderStorage
from forecasting.learning_curve import EpochRow
from forecasting.predict import Forecaster
from forecasting.preparation import fit_in_process
from forecasting.train import fit_and_hold_out

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return small_settings(f'home="{tmp_path}"')


def without_seconds(forecaster: Forecaster) -> list[EpochRow]:
    return [replace(row, seconds=0.0) for row in forecaster.history]


def kill_trainer_once(row: EpochRow, killed: list[int]) -> None:
    """After the first pass, end the worker process as a lost machine would."""
    if killed:
        return
    for process in psutil.process_iter(["pid", "cmdline"]):
        if "RayTrainWorker" in " ".join(process.info["cmdline"] or ()) and _is_ours(process):
            killed.append(process.pid)
            os.kill(process.pid, signal.SIGKILL)


def _is_ours(process: psutil.Process) -> bool:
    return any(parent.pid == os.getpid() for parent in process.parents())


def read_curve(folder: Path, name: str) -> list[ScalarEvent]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events.Scalars(name)


def test_a_killed_worker_changes_nothing_and_a_finished_run_is_not_run_again(
    ray_session: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel, killed = make_panel(num_promotions=0), []
    longer = settings.model_copy(
        update={"forecast": settings.forecast.model_copy(update={"epochs": 20, "patience": 20})}
    )
    wanted = fit_in_process(panel, settings=longer)
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(FolderStorage, "remove", lambda self, key: None)
        fitted, _ = fit_and_hold_out(panel, settings=longer, on_epoch=lambda row: kill_trainer_once(row, killed))
    assert len(killed) == 1
    assert without_seconds(fitted) == without_seconds(wanted)
    np.testing.assert_array_equal(fitted.predict(panel).cumulative_SHQ, wanted.predict(panel).cumulative_SHQ)
    assert signal.getsignal(signal.SIGINT) is before

    # As if this process, not the worker, had died after the last pass: its folder is still there.
    again: list[EpochRow] = []
    resumed, _ = fit_and_hold_out(panel, settings=longer, on_epoch=again.append)
    assert again == []
    assert resumed.history == fitted.history
    assert list((settings.home / "runs").iterdir()) == []
    (curves,) = (settings.home / "curves").iterdir()
    drawn = [(point.step, point.value) for point in read_curve(curves, "train_loss")]
    assert drawn == [(row.epoch, pytest.approx(row.train_loss)) for row in fitted.history]
