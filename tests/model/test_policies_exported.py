"""What is served is what was trained: the exported graph against torch, its files, and what it needs to run."""

import json
import pickle

import numpy as np
import pytest
import torch
from fresh_process import loaded_by
from learning_cases import LEVELS, make_forecast, make_state, make_terms, random_network

from cluster.errors import ArtifactError
from forecasting.forecast import Forecast
from rl.actors import DirectActor, GreedyActor, ServedGraph
from rl.export import export_policy
from rl.network import OBSERVATION_NAMES, ContextMaker, observe, order_wish
from rl.observation import ActionGrid, make_forecast_inputs, make_state_inputs
from rl.policies.classical import ReorderPoint
from rl.policies.exported import FORMAT, ExportedPolicy
from rl.policies.store import load_policy, save_policy

GRID = ActionGrid(anchor_score=1.3, anchor_periods=2.5)


@pytest.fixture(scope="module")
def policy():
    return export_policy(GreedyActor(random_network(0, GRID)), grid=GRID, name="ppo")


def training_time(network, grid, state, forecast, terms):
    """The two halves as training runs them: context once, observation and order at every step."""
    inputs = {k: torch.tensor(v) for k, v in make_forecast_inputs(forecast, terms, grid=grid).items()}
    context = ContextMaker(grid)(**inputs)
    with torch.inference_mode():
        action_S = network(
            observe(context, **{k: torch.tensor(v) for k, v in make_state_inputs(state).items()})
        ).argmax(1)
        return action_S.numpy(), order_wish(context, action_S, torch.tensor(state.inventory_position_S)).numpy()


@pytest.mark.parametrize("name", ["ppo", "dqn"])
@pytest.mark.parametrize("seed", range(3))
def test_served_action_is_the_training_time_action_on_random_states(name, seed):
    rng = np.random.default_rng(seed)
    grid = ActionGrid(scores=(-0.5, 0.5, 2.0), batches=(0.0, 1.0), anchor_score=1.0 + seed, anchor_periods=float(seed))
    network = random_network(seed, grid)
    served = export_policy(GreedyActor(network), grid=grid, name=name)
    state, forecast, terms = make_state(rng, 1_000), make_forecast(rng, 1_000), make_terms(rng, 1_000)
    action_S, wish_S = training_time(network, grid, state, forecast, terms)
    assert len(set(action_S.tolist())) >= 4, "a network that always acts the same would show nothing"
    assert served.action_S(state, forecast, terms).tolist() == action_S.tolist()
    assert served.order_quantity_S(state, forecast, terms) == pytest.approx(wish_S, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_the_served_quantity_of_direct_is_the_training_time_quantity_on_random_states(seed):
    rng = np.random.default_rng(seed)
    grid = ActionGrid(anchor_score=1.0 + seed, anchor_periods=float(seed))
    torch.manual_seed(seed)
    actor = DirectActor(len(OBSERVATION_NAMES), hidden=32)
    for parameter in actor.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    state, forecast, terms = make_state(rng, 1_000), make_forecast(rng, 1_000), make_terms(rng, 1_000)
    context = ContextMaker(grid)(
        **{k: torch.tensor(v) for k, v in make_forecast_inputs(forecast, terms, grid=grid).items()}
    )
    observation_SF = observe(context, **{k: torch.tensor(v) for k, v in make_state_inputs(state).items()})
    with torch.inference_mode():
        quantity_S, gate_S = actor.quantity_and_gate(context, observation_SF, torch.tensor(state.inventory_position_S))
    expected_S = torch.where(gate_S > 0, quantity_S, 0.0).numpy()
    assert 0.05 < (expected_S > 0).mean() < 0.95
    served = export_policy(actor, grid=grid, name="direct")
    assert served.order_quantity_S(state, forecast, terms) == pytest.approx(expected_S, rel=1e-4, abs=1e-3)
    assert served.action_S(state, forecast, terms).tolist() == (expected_S > 0).astype(int).tolist()


@pytest.mark.parametrize(
    "grid",
    [
        ActionGrid(scores=(), units=(1.0, 2.0, 5.0)),
        ActionGrid(scores=(0.0, 1.0), fractions=(0.5, 1.0, 2.0)),
    ],
    ids=["units", "fractions and levels"],
)
def test_quantities_are_served_as_they_are_trained(grid):
    rng = np.random.default_rng(4)
    network = random_network(4, grid)
    state, forecast, terms = make_state(rng, 1_000), make_forecast(rng, 1_000), make_terms(rng, 1_000)
    action_S, wish_S = training_time(network, grid, state, forecast, terms)
    served = export_policy(GreedyActor(network), grid=grid, name="dqn")
    assert served.action_S(state, forecast, terms).tolist() == action_S.tolist()
    assert served.order_quantity_S(state, forecast, terms) == pytest.approx(wish_S, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 8), (7, 30, 9), (0, 2, 12)])
def test_any_number_of_series_periods_and_arrivals_fits(policy, shape):
    rows, columns, horizon = shape
    rng = np.random.default_rng(1)
    state, forecast, terms = make_state(rng, rows, columns), make_forecast(rng, rows, horizon), make_terms(rng, rows)
    wish_S = policy.order_quantity_S(state, forecast, terms)
    assert wish_S.shape == (rows,)
    assert wish_S.dtype == np.float32
    assert (wish_S >= 0).all()
    assert np.isfinite(wish_S).all()


def test_a_row_is_answered_alike_alone_and_among_others(policy):
    rng = np.random.default_rng(2)
    state, forecast, terms = make_state(rng, 50), make_forecast(rng, 50), make_terms(rng, 50)
    together_S = policy.order_quantity_S(state, forecast, terms)
    one = np.array([17])
    alone_S = policy.order_quantity_S(state.take(one), forecast.take(one), terms.take(one))
    assert alone_S == pytest.approx(together_S[one], rel=1e-5)


def test_other_quantile_levels_of_the_same_demand_give_nearly_the_same_orders(policy):
    rng = np.random.default_rng(3)
    state, forecast, terms = make_state(rng, 200), make_forecast(rng, 200), make_terms(rng, 200)
    kept = [0, 2, 4, 5, 6]
    fewer = Forecast(
        levels_Q=LEVELS[kept].astype(np.float32),
        mean_SH=forecast.mean_SH,
        marginal_SHQ=forecast.marginal_SHQ[:, :, kept],
        cumulative_SHQ=forecast.cumulative_SHQ[:, :, kept],
    )
    same_S = policy.action_S(state, forecast, terms) == policy.action_S(state, fewer, terms)
    assert same_S.mean() > 0.8


def test_an_interval_beyond_the_horizon_is_refused(policy):
    rng = np.random.default_rng(4)
    state, forecast, terms = make_state(rng, 20), make_forecast(rng, 20, horizon=3), make_terms(rng, 20)
    with pytest.raises(ValueError, match="raise forecast.horizon"):
        policy.order_quantity_S(state, forecast, terms)


def test_saved_loaded_and_pickled_policies_are_the_same(policy, tmp_path):
    rng = np.random.default_rng(5)
    case = make_state(rng, 100), make_forecast(rng, 100), make_terms(rng, 100)
    expected_S = policy.order_quantity_S(*case)
    save_policy(policy, tmp_path / "new" / "folder")
    for copy in (load_policy(tmp_path / "new" / "folder"), pickle.loads(pickle.dumps(policy))):
        assert isinstance(copy, ExportedPolicy)
        assert (copy.name, copy.grid, copy.architecture) == ("ppo", GRID, policy.architecture)
        assert copy.order_quantity_S(*case).tolist() == expected_S.tolist()


def test_a_textbook_rule_goes_through_the_same_store(tmp_path):
    rule = ReorderPoint(cycle_service_level=0.9, order_periods=3.0)
    save_policy(rule, tmp_path)
    assert load_policy(tmp_path) == rule


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("policy.onnx", b"not a graph", "damaged"),
        ("policy.onnx", None, "no learned policy can be read"),
        ("policy.safetensors", b"no weights", "damaged"),
        ("policy.safetensors", None, "no learned policy can be read"),
        ("policy.json", b"{", "no policy can be read"),
        ("policy.json", b'{"kind": "oracle"}', "kind 'oracle' is unknown"),
        ("policy.json", b'{"kind": "exported"}', "no learned policy can be read"),
        ("policy.json", None, "no policy can be read"),
    ],
)
def test_damaged_files_are_an_artifact_error_with_the_next_step(policy, tmp_path, file, content, says):
    save_policy(policy, tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(ArtifactError, match=says) as raised:
        load_policy(tmp_path)
    assert "restock train policies" in str(raised.value)


def test_a_newer_format_is_an_artifact_error(policy, tmp_path):
    save_policy(policy, tmp_path)
    facts = json.loads((tmp_path / "policy.json").read_text())
    (tmp_path / "policy.json").write_text(json.dumps(facts | {"format": FORMAT + 1}))
    with pytest.raises(ArtifactError, match=f"format {FORMAT + 1}, this version reads {FORMAT}"):
        load_policy(tmp_path)


def test_a_graph_that_is_no_onnx_is_an_artifact_error():
    with pytest.raises(ArtifactError, match="policy 'ppo': its graph cannot be read"):
        ExportedPolicy(name="ppo", graph=b"nonsense", grid=GRID)


def test_serving_imports_neither_torch_nor_ray(policy, tmp_path):
    save_policy(policy, tmp_path)
    program = (
        f"from pathlib import Path; from rl.policies.store import load_policy; load_policy(Path({str(tmp_path)!r}))"
    )
    assert loaded_by(program, among=["torch", "ray", "onnx", "gymnasium"]) == []


def test_the_graph_is_the_module_that_training_exports(policy):
    rng = np.random.default_rng(6)
    state, forecast, terms = make_state(rng, 30), make_forecast(rng, 30), make_terms(rng, 30)
    inputs = make_state_inputs(state) | make_forecast_inputs(forecast, terms, grid=GRID)
    with torch.inference_mode():
        wish_S, action_S = ServedGraph(GreedyActor(random_network(0, GRID)), GRID)(
            **{k: torch.tensor(v) for k, v in inputs.items()}
        )
    assert policy.action_S(state, forecast, terms).tolist() == action_S.tolist()
    assert policy.order_quantity_S(state, forecast, terms) == pytest.approx(wish_S.numpy(), abs=1e-4)
