"""Policies that are asked together answer as each does alone, whatever is asked of whom."""

import json

import numpy as np
import pytest
import torch
from fresh_process import loaded_by
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_cases import make_forecast, make_state, make_terms, random_network

from rl.actors import DirectActor, GreedyActor
from rl.export import export_policy
from rl.network import OBSERVATION_NAMES
from rl.observation import ActionGrid
from rl.ordering import ask_policies
from rl.policies import stacked
from rl.policies.classical import BaseStock, Newsvendor
from rl.policies.exported import FACTS_FILE, WEIGHTS_FILE, ExportedPolicy
from rl.policies.stacks import LEAST_POLICIES, MOST_SERIES, make_stacks

NUM = LEAST_POLICIES + 1


def greedy(seed, hidden=8, name="ppo"):
    grid = ActionGrid(anchor_score=1 + seed / 10, anchor_periods=seed / 4, batches=(0.0, 0.5 + seed / 10))
    return export_policy(GreedyActor(random_network(seed, grid, hidden)), grid=grid, name=name)


def direct(seed):
    torch.manual_seed(seed)
    actor = DirectActor(len(OBSERVATION_NAMES), hidden=8)
    for parameter in actor.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return export_policy(actor, grid=ActionGrid(anchor_score=1 + seed / 10), name="direct")


@pytest.fixture(scope="module")
def learned():
    """Two architectures of which there are enough, and one policy of its own kind."""
    greedies = [greedy(seed, name=("ppo", "dqn")[seed % 2]) for seed in range(NUM)]
    return [*greedies, *map(direct, range(NUM)), greedy(0, hidden=16)]


@pytest.fixture(scope="module")
def stacks(learned):
    return make_stacks(learned)


def case(rng, rows, wide=False):
    state, forecast, terms = (
        make_state(rng, rows, int(rng.integers(0, 9))),
        make_forecast(rng, rows),
        make_terms(rng, rows),
    )
    if wide:  # as history and stock come from tables
        state = type(state)(**{name: getattr(state, name).astype(np.float64) for name in state.__dataclass_fields__})
    return {"state": state, "forecast": forecast, "terms": terms}


def test_only_what_is_alike_and_many_is_stacked(learned, stacks):
    assert len(stacks) == 2
    rows = np.array([0])
    joined = [[policy for policy, _ in stack.worth_joining([(policy, rows) for policy in learned])] for stack in stacks]
    assert joined == [learned[:NUM], learned[NUM : 2 * NUM]]
    assert make_stacks(learned[: LEAST_POLICIES - 1]) == ()
    assert make_stacks([BaseStock(cycle_service_level=0.9)] * 20) == ()


def test_many_series_of_one_policy_and_few_policies_are_asked_alone(learned, stacks):
    one, many = np.array([0]), np.arange(MOST_SERIES + 1)
    asked = [(policy, one) for policy in learned[:LEAST_POLICIES]]
    assert stacks[0].worth_joining(asked) == asked
    assert stacks[0].worth_joining([*asked[1:], (learned[0], many)]) == []


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), rows=st.integers(1, 400), num_asked=st.integers(1, 2 * NUM + 3), wide=st.booleans())
def test_together_they_wish_what_each_wishes_alone(learned, stacks, seed, rows, num_asked, wide):
    rng = np.random.default_rng(seed)
    everybody = [*learned, BaseStock(cycle_service_level=0.9), Newsvendor()]
    chosen = rng.permutation(len(everybody))[:num_asked]
    own = [everybody[number] for number in rng.choice(chosen, rows, p=rng.dirichlet(np.ones(num_asked)))]
    inputs = case(rng, rows, wide)
    alone, together = ask_policies(own, **inputs), ask_policies(own, stacks=stacks, **inputs)
    assert together.policy_S.tolist() == alone.policy_S.tolist()
    assert together.wish_S.dtype == np.float32
    assert together.wish_S == pytest.approx(alone.wish_S, rel=1e-5, abs=1e-3)


def test_more_rows_than_one_pass_takes_are_answered_in_several(learned, stacks, monkeypatch):
    monkeypatch.setattr(stacked, "_MOST_ROWS", 40)
    rng = np.random.default_rng(7)
    own = [learned[number] for number in rng.integers(0, NUM, 120)]
    inputs = case(rng, 120)
    together = ask_policies(own, stacks=stacks, **inputs)
    assert together.wish_S == pytest.approx(ask_policies(own, **inputs).wish_S, rel=1e-5, abs=1e-3)
    assert (together.wish_S > 0).mean() > 0.2


def test_an_interval_beyond_the_horizon_is_refused_as_it_is_alone(learned, stacks):
    rng = np.random.default_rng(4)
    own = [learned[number % NUM] for number in range(40)]
    inputs = {"state": make_state(rng, 40), "forecast": make_forecast(rng, 40, horizon=3), "terms": make_terms(rng, 40)}
    with pytest.raises(ValueError, match="raise forecast.horizon"):
        ask_policies(own, stacks=stacks, **inputs)


def test_a_policy_stored_without_weights_serves_by_its_graph(learned, tmp_path):
    learned[0].save(tmp_path)
    (tmp_path / WEIGHTS_FILE).unlink()
    facts = json.loads((tmp_path / FACTS_FILE).read_text())
    del facts["weights_digest"]
    (tmp_path / FACTS_FILE).write_text(json.dumps(facts))
    old = ExportedPolicy.load(tmp_path)
    assert old.architecture is None
    assert make_stacks([old] * 20) == ()
    inputs = case(np.random.default_rng(5), 30)
    assert (
        ask_policies([old] * 30, **inputs).wish_S.tolist() == ask_policies(learned[:1] * 30, **inputs).wish_S.tolist()
    )


def test_a_shop_of_few_categories_does_without_torch(learned, tmp_path):
    learned[0].save(tmp_path)
    program = (
        "from pathlib import Path; from rl.policies.stacks import make_stacks;"
        f"from rl.policies.store import load_policy; make_stacks([load_policy(Path({str(tmp_path)!r}))])"
    )
    assert loaded_by(program, among=["torch"]) == []
