"""The GPU benchmark runs on the CPU too: its arithmetic is the product's, and its counts are those of paper."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu import _EVENTS, _SIZES, _TARGETS, _recommender
from benchmarks.gpu_policies import DeviceReplay, make_direct, make_ppo
from benchmarks.instances import make_job
from cluster.settings.models import PolicySettings
from rl.constraints import feasible_quantity_S
from rl.demand import DemandLaw
from rl.exact import LostSalesProblem
from rl.inventory import InventoryState

CPU = torch.device("cpu")


def problem(**changes) -> LostSalesProblem:
    return LostSalesProblem(law=DemandLaw(name="poisson", mean=5.0), lead_time=4, penalty=4.0, **changes)


@pytest.fixture
def job(tmp_path: Path):
    settings = PolicySettings(num_rows=128, minibatch_size=512, hidden=16, unroll_periods=40)
    problems = [problem(), problem(pack_size=3, min_order_qty=5, order_cap=14)]
    return make_job(problems, algorithm="direct", seed=1, settings=settings, folder=tmp_path)


def test_orders_on_the_device_are_the_feasible_ones(job):
    torch.manual_seed(0)
    replay = DeviceReplay(job.train, num_rows=128, device=CPU)
    replay.begin(40)
    replay.observe()
    wish_N = 20 * torch.rand(128) * (torch.rand(128) > 0.3)
    state = InventoryState(
        **{name: getattr(replay.state, name).numpy() for name in ("on_hand_S", "on_order_SL", "backorder_S")},
        reserved_S=np.zeros(128, dtype=np.float32),
    )
    wanted = feasible_quantity_S(wish_N.numpy(), state=state, terms=job.train.terms.take(replay.series_N.numpy()))
    np.testing.assert_array_equal(replay.feasible_N(wish_N).numpy(), wanted)
    assert 0 < np.count_nonzero(wanted) < 128


def test_direct_descends_and_ppo_steps_with_everything_on_one_device(job):
    torch.manual_seed(0)
    train = make_direct(job, device=CPU)
    losses = [train() for _ in range(12)]
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    step = make_ppo(job, device=CPU)
    rewards = [step() for _ in range(2)]
    assert np.isfinite(rewards).all()
    assert rewards[0] != rewards[1]


def test_counted_operations_are_those_of_the_layers():
    sizes = _SIZES["tiny"]
    training = _recommender(CPU, sizes, "float32", seed=0)
    with FlopCounterMode(display=False) as counter:
        training.run()
    counted = counter.get_total_flops() / training.num_steps
    tokens, width = sizes.users_batch * _EVENTS, sizes.hidden
    layers = 2 * 2 * tokens * (3 + 1 + 2 + 2) * width**2  # two blocks: attention's four and the feed-forward's two
    scores = 2 * tokens * width * sizes.negatives + 2 * tokens * width * _TARGETS
    # Backward is twice forward; the attention itself torch counts on a card only.
    assert counted == 3 * (layers + scores)
