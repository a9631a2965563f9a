"""The data plane benchmark compares like with like: every system makes the same of the same lines."""

import pytest

from benchmarks.data_plane import _gap, _sums_of_ours, _sums_of_peer
from benchmarks.data_plane_restock import FeatureTask, write_features
from benchmarks.order_lines import TODAY, OrderLines, shop_settings
from benchmarks.peers.data_plane import PEERS
from cluster.loading import load_dataset
from cluster.shards import run_here


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines") / "orders"
    OrderLines(num_rows=6_000, seed=3, file_rows=2_500).write(folder)
    return folder


@pytest.fixture(scope="module")
def ours(lines, tmp_path_factory):
    home = tmp_path_factory.mktemp("ours")
    dataset = load_dataset(shop_settings(lines, home, "data.num_shards=3"), today=TODAY, run=run_here)
    for shard in dataset.shards:
        write_features(FeatureTask(dataset=dataset, shard=shard, path=home / "features" / shard.name))
    return dataset, _sums_of_ours(home)


def test_the_lines_have_what_cleaning_is_for(ours):
    dataset, _ = ours
    counts = dataset.report.tables[0]
    assert counts.rows_in == 6_000
    assert counts.rows_merged > 100
    assert {rule.rule for rule in dataset.report.rules} >= {
        "item_id_given",
        "ordered_at_plausible",
        "sold_qty_not_zero",
        "unit_price_not_negative",
    }


def test_the_same_seed_makes_the_same_lines(lines, tmp_path):
    OrderLines(num_rows=6_000, seed=3, file_rows=2_500).write(tmp_path / "again")
    files = sorted(lines.iterdir())
    assert len(files) == 3
    assert all(file.read_bytes() == (tmp_path / "again" / file.name).read_bytes() for file in files)


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_makes_the_same(name, lines, ours, tmp_path):
    package, run = PEERS[name]
    pytest.importorskip(package)
    run(lines, tmp_path)
    rows = [{"rows": 6_000, "sums": sums} for sums in (ours[1], _sums_of_peer(tmp_path))]
    assert rows[0]["sums"]["orders_kept"] > 5_000
    assert _gap(rows) < 1e-5
