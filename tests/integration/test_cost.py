"""Pilots by the real trainers, on a tiny shop."""

from pathlib import Path

import pytest
from serving_home import make_home

from cluster.dataset import open_dataset
from cluster.errors import DataError
from restock.pilot import PilotSizes, estimate_run
from restock.training import open_workbench

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("ray_session")]

SIZES = PilotSizes(series=(2, 4, 8), users=(5, 10, 20), steps=(2_000, 4_000, 8_000))


def test_every_part_of_a_run_is_estimated_and_nothing_is_left_behind(tmp_path: Path) -> None:
    home = make_home(
        tmp_path,
        overrides=(
            "forecast.epochs=1",
            "forecast.serve=network",
            "forecast.batch_size=8",
            # Ray Train is measured at the forecaster.
            'recommender.members=["frequency", "neighbours"]',
        ),
    )
    policy = home.settings.policy.model_copy(update={"algorithms": ("direct",), "num_rows": 16, "imitation_steps": 5})
    settings = home.settings.model_copy(update={"policy": policy})
    before = {path for path in settings.home.rglob("*") if path.is_file()}
    bench = open_workbench(open_dataset(settings), settings=settings)
    parts = {part.name: part for part in estimate_run(bench, sizes=SIZES, has_card=False)}
    assert set(parts) == {"forecaster", "recommender", "policies by direct"}
    for part in parts.values():
        assert part.cpu_hours > 0
        assert part.gpu_hours == 0
        assert all(pilot.cpu_s > 0 for pilot in part.pilots)
    direct = parts["policies by direct"]
    assert direct.work == settings.policy.budget_steps_direct
    assert direct.runs == 3
    assert parts["recommender"].work >= parts["recommender"].pilots[-1].work
    assert {path for path in settings.home.rglob("*") if path.is_file()} == before


def test_a_shop_too_small_for_pilots_is_told_so(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    bench = open_workbench(open_dataset(home.settings), settings=home.settings)
    with pytest.raises(DataError, match="series are 8; give smaller ones"):
        estimate_run(bench, sizes=PilotSizes(), has_card=False)
