"""Environment steps per CPU-second of DQN and PPO: our array runner, RLlib's own runner, and a plain torch loop.

One task (Poisson(5) lost sales, lead time 4, penalty 4), one pair of networks (two hidden layers of 64), one batch
(16,384 steps), the same minibatches, epochs and replay ratio, one torch thread, everything in this process. A system
trains once to warm up; then the systems take turns, so that a busy machine slows all of them, and medians are reported.
``sampled`` is the rate of sampling alone; ``trained`` that of the whole: sampling, and learning from every step as
often as the configuration says. The second row leaves out what we simulate beside each row (a greedy twin, siblings),
which RLlib's own runner does not have: it is the one to compare engines by.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.tune.registry import register_env

from benchmarks.frame import make_parser, make_target, report
from benchmarks.instances import make_job
from benchmarks.peers.plain_torch import PlainDQN, PlainPPO
from benchmarks.peers.rllib_stock import LEAD_TIME, MEAN, PENALTY, build_stock
from cluster.config import RuntimeSettings
from cluster.runtime import connect
from cluster.settings.models import PolicySettings
from rl.demand import DemandLaw
from rl.env import ReplayEnv
from rl.exact import LostSalesProblem
from rl.jobs import TrialJob
from rl.policies.dqn import make_dqn_config
from rl.policies.ppo import make_ppo_config
from rl.rllib_learner import build_algorithm, n_step_of

_ALONE_ENV = "rows-alone"
_N_STEP = LEAD_TIME + 1
_NUM_ENVS = 64
_NUM_ROWS = 256
_OURS = "observation with forecast features, greedy twin (PPO) or siblings (DQN) of every row, hindsight for the critic"
_ALONE = "observation with forecast features, hindsight for the critic; no twin, no siblings"
_STOCK = "state in an observation as wide as ours; no twin, no siblings, no hindsight"
_TIMES_STOCK = {"ppo": 4.0, "dqn": 20.0}
_SHARE_OF_PLAIN = 0.8


@dataclass(slots=True, kw_only=True)
class _System:
    name: str
    includes: str
    sample: Callable[[], Any]
    train: Callable[[], Any]
    passes: int
    sample_seconds: list[float] = field(default_factory=list)
    train_seconds: list[float] = field(default_factory=list)

    def take_turn(self) -> None:
        if len(self.train_seconds) < self.passes:
            self.sample_seconds.append(_cpu_seconds(self.sample))
            self.train_seconds.append(_cpu_seconds(self.train))

    def row(self, algorithm: str, num_steps: int) -> dict[str, Any]:
        return {
            "algorithm": algorithm,
            "system": self.name,
            "sampled_per_cpu_second": num_steps / statistics.median(self.sample_seconds),
            "trained_per_cpu_second": num_steps / statistics.median(self.train_seconds),
            "passes": self.passes,
            "includes": self.includes,
        }


def main() -> None:
    """Measure PPO, then DQN."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--algorithms", nargs="+", choices=list(_TIMES_STOCK), default=list(_TIMES_STOCK))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # The quick form has a quarter of the batch, and of each minibatch.
    rows_per_block, minibatch = (128, 1_024) if arguments.quick else (512, 4_096)
    settings = PolicySettings(
        num_rows=rows_per_block, rollout_periods=32, num_epochs=4, minibatch_size=minibatch, replay_ratio=4.0, hidden=64
    )
    rows, targets = [], []
    with tempfile.TemporaryDirectory() as folder, connect(RuntimeSettings(num_cpus=1)):
        for algorithm in arguments.algorithms:
            job = _make_job(algorithm, settings=settings, seed=arguments.seed, folder=Path(folder))
            measured = _measure(job, arguments)
            rows += measured
            targets += _targets(algorithm, [row["trained_per_cpu_second"] for row in measured])
    report("rllib_throughput", rows, targets=targets, arguments=arguments)


def _make_job(algorithm: str, *, settings: PolicySettings, seed: int, folder: Path) -> TrialJob:
    problem = LostSalesProblem(law=DemandLaw(name="poisson", mean=MEAN), lead_time=LEAD_TIME, penalty=PENALTY)
    return make_job([problem], algorithm=algorithm, seed=seed, settings=settings, folder=folder / algorithm)


def _measure(job: TrialJob, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of ours, ours alone, plain torch, stock on Gymnasium environments, stock on a vector environment."""
    algorithms, systems = _make_systems(job, quick=arguments.quick)
    try:
        for system in systems:
            system.train()
        for _round in range(max(system.passes for system in systems)):
            for system in systems:
                system.take_turn()
    finally:
        for algorithm in algorithms:
            algorithm.stop()
    num_steps = job.settings.num_rows * job.settings.rollout_periods
    return [system.row(job.algorithm, num_steps) for system in systems]


def _make_systems(job: TrialJob, *, quick: bool) -> tuple[list[Algorithm], list[_System]]:
    ours, alone = build_algorithm(job), _build_alone(job)
    plain = PlainPPO(job) if job.algorithm == "ppo" else PlainDQN(job, n_step=n_step_of(job))
    num_columns = ours.env_runner.env.num_features + ours.env_runner.env.num_hindsight
    passes = 3 if quick else 15
    # One pass of RLlib's DQN takes longer than all of ours.
    stock_passes = (1 if quick else 2) if job.algorithm == "dqn" else (2 if quick else 7)

    def stock(num_envs: int, *, is_vector: bool) -> Algorithm:
        return build_stock(job, num_columns=num_columns, num_envs=num_envs, is_vector=is_vector, n_step=_N_STEP)

    gym, vector = stock(_NUM_ENVS, is_vector=False), stock(_NUM_ROWS, is_vector=True)
    systems = [
        _of_algorithm("array runner", ours, includes=_OURS, passes=passes),
        _of_algorithm("array runner, rows alone", alone, includes=_ALONE, passes=passes),
        _System(name="plain torch loop", includes=_OURS, sample=plain.sample, train=plain.train, passes=passes),
        _of_algorithm(f"RLlib, {_NUM_ENVS} environments", gym, includes=_STOCK, passes=stock_passes),
        _of_algorithm(f"RLlib, vector environment of {_NUM_ROWS}", vector, includes=_STOCK, passes=stock_passes),
    ]
    return [ours, alone, gym, vector], systems


def _build_alone(job: TrialJob) -> Algorithm:
    """Ours, with nothing simulated beside the rows that learn."""
    settings, seed = job.settings, job.seed

    def make(context: Any) -> ReplayEnv:
        return ReplayEnv(
            job.train,
            num_rows=context["num_rows"],
            block_periods=context["block_periods"],
            restart_share=settings.restart_share,
            twins=False,
            seed=context["seed"],
        )

    register_env(_ALONE_ENV, make)
    if job.algorithm == "ppo":
        return make_ppo_config(settings, env_name=_ALONE_ENV, env_config={}, seed=seed).build_algo()
    return make_dqn_config(settings, env_name=_ALONE_ENV, env_config={}, seed=seed, n_step=_N_STEP).build_algo()


def _of_algorithm(name: str, algorithm: Algorithm, *, includes: str, passes: int) -> _System:
    # What is sampled here is not learned from: RLlib's replay would miss it in the middle of an episode.
    sample = partial(algorithm.env_runner.sample, force_reset=True)
    return _System(name=name, includes=includes, sample=sample, train=algorithm.train, passes=passes)


def _targets(algorithm: str, trained: list[float]) -> list[dict[str, Any]]:
    ours, alone, plain, *stock = trained
    name, least = algorithm.upper(), _TIMES_STOCK[algorithm]
    return [
        make_target(f"{name}, times RLlib's better path", value=ours / max(stock), target=least, at_least=True),
        make_target(f"{name}, rows alone, times it", value=alone / max(stock), target=least, at_least=True),
        make_target(f"{name}, share of plain torch", value=ours / plain, target=_SHARE_OF_PLAIN, at_least=True),
    ]


def _cpu_seconds(run: Callable[[], Any]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


if __name__ == "__main__":
    main()
