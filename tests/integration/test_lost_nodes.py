"""Work divides over nodes and survives the loss of one. Ray's own cluster of several nodes, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.integration


def smoke(folder: Path) -> None:
    """Ingest on two nodes, one of which is lost on the way; then train on two workers. Prints what was seen."""
    from forecast_panels import make_panel, small_settings

    from benchmarks.fault_drills import digests
    from benchmarks.nodes import Division, kill_node, start_nodes
    from benchmarks.order_lines import TODAY, OrderLines, shop_settings
    from cluster.loading import load_dataset
    from cluster.shards import run_here
    from forecasting.preparation import fit_in_process
    from forecasting.train import fit_and_hold_out

    OrderLines(num_rows=24_000, file_rows=2_000).write(folder / "orders")
    calm = load_dataset(shop_settings(folder / "orders", folder / "calm"), today=TODAY, run=run_here)
    # Nine: the two workers' shares differ.
    panel, division, rows, seen = make_panel(num_series=9), Division(), [], {}
    options = (f'home="{folder / "trained"}"', "forecast.threads_per_worker=2")
    alone = fit_in_process(panel, settings=small_settings(*options))
    seen["losses_alone"] = [row.train_loss for row in alone.history if row.phase == "learn"]
    with start_nodes(2, cpus=2) as (cluster, workers):
        both = small_settings(*options, "forecast.num_workers=2")
        fitted, _ = fit_and_hold_out(panel, settings=both, on_epoch=rows.append)
        seen["told"] = tuple(rows) == fitted.history
        seen["losses"] = [row.train_loss for row in fitted.history if row.phase == "learn"]

        def run(work, tasks):
            # A node that starts its workers late may miss the first tasks: both must have done some by then.
            for number, done in enumerate(division.run(work, tasks)):
                if len(workers) == len(division.tasks) == 2 and number < len(tasks) - 1:
                    kill_node(cluster, workers, running="ray::")
                yield done

        disturbed = load_dataset(shop_settings(folder / "orders", folder / "disturbed"), today=TODAY, run=run)
    seen["divided"], seen["lost"] = len(division.tasks), 2 - len(workers)
    seen["same"] = digests(calm) == digests(disturbed)
    print(json.dumps(seen))


def test_two_nodes_share_the_work_and_one_finishes_it_alone(tmp_path: Path) -> None:
    body = f"from pathlib import Path; from test_lost_nodes import smoke; smoke(Path({str(tmp_path)!r}))"
    tests = Path(__file__).parents[1]
    search = os.pathsep.join([str(tests.parent), str(tests), str(tests / "integration"), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", body],
        env=os.environ | {"PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    seen = json.loads(done.stdout.strip().splitlines()[-1])
    assert seen["lost"] == 1
    assert seen["same"], "the loss of a node changed what was written"
    assert seen["divided"] == 2, "one node did everything"
    assert seen["told"]
    # Workers draw windows of their own: the curves differ by noise.
    np.testing.assert_allclose(seen["losses"], seen["losses_alone"], rtol=0.15)
