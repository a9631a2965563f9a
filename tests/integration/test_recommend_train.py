"""Ray Train fed by Ray Data: the same weights from the same seed, also when a worker dies on the way."""

import os
import signal

import numpy as np
import psutil
import pytest
from behaviour_log import cycle_orders, orders_of, read

from cluster.config import Settings, load_settings
from recsys.models.sequence import SequenceModel
from recsys.train import fit_recommender

pytestmark = pytest.mark.integration
LOG = read(cycle_orders(num_users=60, num_items=30, length=12, seed=1), until=12)


def small(home) -> Settings:
    sizes = ["hidden=16", "max_sequence=10", "epochs=3", "batch_size=16", "validation_days=3", "min_item_users=1"]
    return load_settings(overrides=[f"home={home}", "seed=4", *(f"recommender.{size}" for size in sizes)])


@pytest.fixture(scope="module")
def unbroken(ray_session, tmp_path_factory):
    home = tmp_path_factory.mktemp("unbroken")
    rows = []
    fitted = fit_recommender(LOG, settings=small(home), on_epoch=rows.append)
    return fitted, rows, home


def weights(recommender):
    model = recommender.models["sequence"]
    assert isinstance(model, SequenceModel)
    return model.arrays()


def test_it_learns_reports_every_epoch_and_leaves_nothing_behind(unbroken):
    fitted, rows, home = unbroken
    assert [row["phase"] for row in rows] == ["learn", "learn", "learn", "refit"]
    assert rows == fitted.learning_curve
    assert rows[2]["loss"] < rows[0]["loss"]
    assert all(0 <= row["ndcg"] <= 1 for row in rows[:3])
    assert not list((home / "runs").iterdir())
    assert {"sequence", "neighbours", "blend"} < {row["model"] for row in fitted.validation}


def test_a_killed_worker_is_replaced_and_changes_nothing(unbroken, tmp_path):
    killed = []

    def kill_once(row):
        workers = [process for process in psutil.process_iter(["name"]) if "RayTrainWorker" in (process.name() or "")]
        mine = [process.pid for process in workers if process.pid in _descendants()]
        if not killed and mine:
            killed.append(mine[0])
            os.kill(mine[0], signal.SIGKILL)

    again = fit_recommender(LOG, settings=small(tmp_path), on_epoch=kill_once)
    assert killed
    for name, values in weights(unbroken[0]).items():
        np.testing.assert_array_equal(values, weights(again)[name], err_msg=name)


def _descendants():
    return {process.pid for process in psutil.Process().children(recursive=True)}


def test_users_without_a_second_basket_leave_the_simple_models(ray_session, tmp_path):
    log = read(orders_of((f"u{user}", f"o{user}", f"i{user % 3}", 1.0) for user in range(9)), until=12)
    fitted = fit_recommender(log, settings=small(tmp_path))
    assert "sequence" not in fitted.models
    assert fitted.recommend(["u1"], k=1).item_ids_UK.tolist() == [["i1"]]
