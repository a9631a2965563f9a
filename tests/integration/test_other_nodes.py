"""An interrupted training goes on elsewhere: other processes, another home, nothing shared but an object store."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from forecast_panels import make_panel, small_settings
from object_store import serve_objects

from cluster.config import RuntimeSettings, Settings
from cluster.runtime import connect
from forecasting.preparation import fit_in_process
from forecasting.train import fit_and_hold_out

pytestmark = pytest.mark.integration

EPOCHS, LOST_AFTER = 16, 2


def long_settings(*overrides: str) -> Settings:
    return small_settings(f"forecast.epochs={EPOCHS}", f"forecast.patience={EPOCHS}", *overrides)


def train(overrides: list[str]) -> None:
    """A machine with a Ray of its own: says each pass, then what it forecasts."""
    panel = make_panel()
    with connect(RuntimeSettings(num_cpus=2)):
        fitted, _ = fit_and_hold_out(
            panel,
            settings=long_settings(*overrides),
            on_epoch=lambda row: print(json.dumps({"epoch": row.epoch}), flush=True),
        )
    print(json.dumps({"forecast": fitted.predict(panel).cumulative_SHQ.tolist()}), flush=True)


def start_machine(*overrides: str) -> subprocess.Popen[str]:
    tests = Path(__file__).parents[1]
    search = os.pathsep.join([str(tests.parent), str(tests), str(tests / "integration"), *filter(None, sys.path)])
    # Ray reads its environment when it is imported.
    begin = "from cluster.runtime import set_environment; set_environment()"
    body = f"{begin}; from test_other_nodes import train; train({list(overrides)!r})"
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", body],
        env=os.environ | {"PYTHONPATH": search},
        stdout=subprocess.PIPE,
        text=True,
    )


def lose(machine: subprocess.Popen[str]) -> None:
    """End all of its processes at once."""
    process = psutil.Process(machine.pid)
    for one in [*process.children(recursive=True), process]:
        one.kill()
    machine.wait()


def said(machine: subprocess.Popen[str]) -> list[dict[str, object]]:
    output, _ = machine.communicate()
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def test_a_run_goes_on_from_the_object_store_on_another_machine(tmp_path, monkeypatch):
    with serve_objects(monkeypatch) as (url, endpoint):
        shared = (f'storage.url="{url}/runs-of-a-shop"', f'storage.endpoint="{endpoint}"')
        first = start_machine(f'home="{tmp_path / "first"}"', *shared)
        assert first.stdout is not None
        for line in first.stdout:
            if line.startswith("{") and json.loads(line).get("epoch") == LOST_AFTER:
                break
        lose(first)
        second = said(start_machine(f'home="{tmp_path / "second"}"', *shared))
    epochs = [row["epoch"] for row in second if "epoch" in row]
    assert epochs, "the first machine had finished before it was lost"
    assert min(epochs) >= LOST_AFTER, f"training began anew: {epochs}"
    expected = fit_in_process(make_panel(), settings=long_settings()).predict(make_panel()).cumulative_SHQ
    np.testing.assert_array_equal(np.array(second[-1]["forecast"], dtype=expected.dtype), expected)
