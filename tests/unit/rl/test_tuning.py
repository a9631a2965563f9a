"""Parameters are the cheapest of their grid, by the replay itself."""

import numpy as np
import pytest
from inventory_cases import make_scenario, make_state, make_terms, poisson_forecast, random_scenario

from rl.evaluate import replay
from rl.policies.classical import RULES
from rl.tuning import candidate_cost_CS, make_candidates, tune_categories, tune_textbook


@pytest.fixture(scope="module")
def scenario():
    return random_scenario(11, rows=10, periods=20)


@pytest.mark.parametrize("rule", RULES)
def test_side_by_side_costs_are_those_of_single_replays(scenario, rule, monkeypatch):
    monkeypatch.setattr("rl.tuning._MAX_ROWS", 40)
    candidates = make_candidates()[rule][::7]
    cost_CS = candidate_cost_CS(candidates, scenario)
    for candidate, cost_S in zip(candidates, cost_CS, strict=True):
        np.testing.assert_array_equal(cost_S, replay(candidate, scenario).cost_S)


def test_each_rule_gets_its_cheapest_parameters_and_the_cheapest_rule_comes_first(scenario):
    tuned = tune_textbook(scenario)
    assert tune_textbook(scenario) == tuned
    assert set(tuned) == set(RULES)
    costs = {rule: replay(policy, scenario).cost_S.sum() for rule, policy in tuned.items()}
    for rule, candidates in make_candidates().items():
        assert costs[rule] == pytest.approx(candidate_cost_CS(candidates, scenario).sum(axis=1).min())
    assert list(costs.values()) == sorted(costs.values())


def test_finds_the_optimal_reorder_point_of_a_textbook():
    """Poisson(6), L = 0, h = 1, p = 4, K = 5: (s, S) = (4, 10) costs 8.034 with backorders (Snyder & Shen, ex. 4.7)."""
    rows = 60
    terms = make_terms(rows, fixed=5, mean=1)
    demand_NT = np.random.default_rng(0).poisson(6, (rows, 100))
    scenario = make_scenario(
        demand_NT, terms=terms, forecast=poisson_forecast(6, rows=rows), start=make_state(rows, on_hand=6)
    )
    candidates = make_candidates()["static_min_max"]
    cost_C = candidate_cost_CS(candidates, scenario, unmet="backorder").sum(axis=1) / (rows * 100)
    policy = candidates[cost_C.argmin()]
    assert cost_C.min() == pytest.approx(8.034, rel=0.02)
    assert 3 <= policy.safety_periods + 1 <= 5
    assert policy.order_periods == 6


def test_categories_are_tuned_apart():
    rows = 40
    is_dear = np.arange(rows) < 20
    terms = make_terms(rows, lead_time=2, mean=3, holding=np.where(is_dear, 1.0, 0.02), lost=np.where(is_dear, 1, 9))
    scenario = make_scenario(
        np.random.default_rng(0).poisson(3, (rows, 30)),
        terms=terms,
        forecast=poisson_forecast(3, rows=rows),
        start=make_state(rows, on_hand=12),
    )
    by_category = tune_categories(scenario, category_ids_S=np.where(is_dear, "dear", "cheap"))
    assert list(by_category) == ["cheap", "dear"]
    level = {category: rules["base_stock"].cycle_service_level for category, rules in by_category.items()}
    assert level["dear"] < 0.75 < 0.95 < level["cheap"]


def test_a_small_category_leans_on_the_shop():
    """A series that happened to sell nothing would by itself never be ordered again."""
    rows = 30
    demand_NT = np.random.default_rng(0).poisson(3, (rows, 30))
    demand_NT[-1] = 0
    scenario = make_scenario(
        demand_NT,
        terms=make_terms(rows, lead_time=2, mean=3, holding=0.1),
        forecast=poisson_forecast(3, rows=rows),
        start=make_state(rows, on_hand=9),
    )
    alone = tune_textbook(scenario.take(np.array([rows - 1])))["base_stock"].cycle_service_level
    categories = np.array(["shop"] * (rows - 1) + ["single"])
    leaning = tune_categories(scenario, category_ids_S=categories)["single"]["base_stock"].cycle_service_level
    assert alone < 0.6 < 0.8 < leaning
