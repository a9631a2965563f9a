"""The textbook rules against stockpyl's textbook instances, by formula and by simulation."""

import numpy as np
import pytest
from inventory_cases import (
    LEVELS,
    make_forecast,
    make_scenario,
    make_state,
    make_terms,
    normal_forecast,
    poisson_forecast,
)
from scipy import stats
from stockpyl.instances import load_instance
from stockpyl.newsvendor import newsvendor_discrete, newsvendor_normal, newsvendor_poisson
from stockpyl.ss import s_s_discrete_exact

from cluster.errors import ArtifactError
from rl.evaluate import replay
from rl.policies.classical import (
    RULES,
    BaseStock,
    CappedBaseStock,
    NegativeBinomial,
    Newsvendor,
    ReorderPoint,
    StaticMinMax,
    base_stock_level_S,
    policy_from_dict,
)

EVERY_RULE = [
    Newsvendor(),
    BaseStock(cycle_service_level=0.9),
    CappedBaseStock(cycle_service_level=0.9, cap_periods=2.0),
    ReorderPoint(cycle_service_level=0.9, order_periods=3.0),
    NegativeBinomial(score_shift=-0.5),
    StaticMinMax(safety_periods=1.0, order_periods=3.0),
]
SNYDER_4_3 = load_instance("example_4_3")


@pytest.mark.parametrize("lead_time", [0, 4])
def test_newsvendor_of_normal_demand(lead_time):
    """Snyder & Shen, example 4.3: 56.6 units; with a lead time of 4, five periods of demand."""
    level, _ = newsvendor_normal(**SNYDER_4_3, lead_time=lead_time)
    terms = make_terms(lead_time=lead_time, holding=0.18, lost=0.7)
    wish_S = Newsvendor().order_quantity_S(make_state(), normal_forecast(50, 8), terms)
    assert wish_S[0] == pytest.approx(level, rel=1e-5)


def test_newsvendor_of_poisson_demand():
    ratio = 0.7 / 0.88
    level, _ = newsvendor_poisson(0.18, 0.7, 50)
    forecast = poisson_forecast(50, levels=np.sort(np.append(LEVELS, ratio)))
    wish_S = Newsvendor().order_quantity_S(make_state(), forecast, make_terms(holding=0.18, lost=0.7))
    assert wish_S[0] == pytest.approx(level, abs=1e-3)


def test_newsvendor_of_discrete_demand():
    level, _ = newsvendor_discrete(2, 7, demand_pmf=dict.fromkeys(range(10), 0.1))
    levels = np.sort(np.append(LEVELS, 7 / 9))
    forecast = make_forecast(stats.randint(0, 10).ppf(levels)[None], np.array([4.5]), levels=levels)
    wish_S = Newsvendor().order_quantity_S(make_state(), forecast, make_terms(holding=2, lost=7))
    assert level == 7
    assert wish_S[0] == pytest.approx(level, abs=1e-3)


@pytest.mark.parametrize("lead_time", [0, 3])
def test_simulated_cost_of_the_base_stock_rule(lead_time):
    """Backorders, normal demand: the cost per period that stockpyl's formula gives."""
    level, cost = newsvendor_normal(**SNYDER_4_3, lead_time=lead_time)
    rows, periods, warm_up = 2_000, 60, 10
    terms = make_terms(rows, lead_time=lead_time, holding=0.18, lost=0.7, pack=1e-3)
    demand_NT = np.random.default_rng(0).normal(50, 8, (rows, periods))
    scenario = make_scenario(
        demand_NT, terms=terms, forecast=normal_forecast(50, 8, rows=rows), start=make_state(rows, on_hand=level)
    )
    result = replay(Newsvendor(), scenario, unmet="backorder")
    assert result.cost_T[warm_up:].mean() / rows == pytest.approx(cost, rel=0.01)


def test_simulated_cost_of_the_reorder_point():
    """Snyder & Shen, example 4.7: (s, S) = (4, 10) costs 8.034 a period under Poisson(6), h = 1, p = 4, K = 5."""
    instance = load_instance("example_4_7")
    low, high, cost = s_s_discrete_exact(**instance, use_poisson=True)
    assert (low, high) == (4, 10)
    rows, periods = 4_000, 100
    terms = make_terms(rows, fixed=5, mean=1)
    demand_NT = np.random.default_rng(0).poisson(6, (rows, periods))
    scenario = make_scenario(demand_NT, terms=terms, forecast=poisson_forecast(6, rows=rows))
    policy = StaticMinMax(safety_periods=low - 1, order_periods=high - low)
    result = replay(policy, scenario, unmet="backorder")
    assert result.cost_T[20:].mean() / rows == pytest.approx(cost, rel=0.005)
    worse = replay(StaticMinMax(safety_periods=low, order_periods=high - low), scenario, unmet="backorder")
    assert worse.cost_S.sum() > result.cost_S.sum()


def test_reorder_point_is_min_max_in_forecast_terms():
    terms = make_terms(3, lead_time=2)
    forecast = normal_forecast(10, 3, rows=3)
    reorder = stats.norm(30, 3 * np.sqrt(3)).ppf(0.9)
    state = make_state(3, on_hand=np.array([reorder - 0.1, reorder + 0.1, 0]))
    wish_S = ReorderPoint(cycle_service_level=0.9, order_periods=2.0).order_quantity_S(state, forecast, terms)
    np.testing.assert_allclose(wish_S, [20.1, 0, reorder + 20], rtol=1e-4)


def test_cap_is_in_periods_of_mean_demand():
    policy = CappedBaseStock(cycle_service_level=0.9, cap_periods=1.5)
    forecast = normal_forecast(10, 3, rows=2)
    terms = make_terms(2, lead_time=2, review=np.array([1, 3]))
    np.testing.assert_allclose(policy.order_quantity_S(make_state(2), forecast, terms), [15, 45], rtol=1e-5)
    almost = base_stock_level_S(forecast, terms, cycle_service_level=0.9) - 1
    np.testing.assert_allclose(policy.order_quantity_S(make_state(2, on_hand=almost), forecast, terms), 1, rtol=1e-4)


def test_static_min_max_does_not_read_the_forecast():
    policy = StaticMinMax(safety_periods=1.0, order_periods=3.0)
    terms = make_terms(2, lead_time=1, mean=np.array([2, 4]))
    quiet = policy.order_quantity_S(make_state(2, on_hand=5), poisson_forecast(1, rows=2), terms)
    busy = policy.order_quantity_S(make_state(2, on_hand=5), poisson_forecast(90, rows=2), terms)
    np.testing.assert_array_equal(quiet, busy)
    np.testing.assert_array_equal(quiet, [12 - 5, 24 - 5])


def law_forecast(law, horizon=8):
    """Forecast of one series whose demand over any interval has the same frozen law."""
    quantile_Q = law.ppf(LEVELS)
    mean_H = np.zeros(horizon)
    mean_H[0] = law.mean()
    return make_forecast(np.broadcast_to(quantile_Q, (horizon, len(LEVELS))), mean_H)


@pytest.mark.parametrize("lost", [1.0, 4.0, 40.0])
def test_negative_binomial_orders_up_to_its_own_quantile(lost):
    """Mean 20 and the deviation 8 of a normal law: scipy's quantile of the law with these moments."""
    forecast = law_forecast(stats.norm(20, 8))
    terms = make_terms(lead_time=2, lost=lost)
    wish_S = NegativeBinomial().order_quantity_S(make_state(), forecast, terms)
    size = 20**2 / (64 - 20)
    assert wish_S[0] == stats.nbinom(size, 20 / 64).ppf(lost / (lost + 1))
    moved_S = NegativeBinomial(score_shift=0.7).order_quantity_S(make_state(), forecast, terms)
    level = stats.norm.cdf(stats.norm.ppf(lost / (lost + 1)) + 0.7)
    assert moved_S[0] == stats.nbinom(size, 20 / 64).ppf(level)


def test_negative_binomial_of_demand_that_hardly_varies_is_poisson():
    wish_S = NegativeBinomial().order_quantity_S(make_state(), law_forecast(stats.norm(30, 1)), make_terms(lost=9))
    assert wish_S[0] == pytest.approx(stats.poisson(30).ppf(0.9), abs=1)


def test_negative_binomial_gives_each_series_the_level_of_its_costs():
    terms = make_terms(3, lead_time=1, lost=np.array([0.5, 4, 60]))
    wish_S = NegativeBinomial().order_quantity_S(make_state(3), poisson_forecast(5, rows=3), terms)
    assert (np.diff(wish_S) > 0).all()
    nothing = make_forecast(np.zeros((8, len(LEVELS))), np.zeros(8), rows=3)
    np.testing.assert_array_equal(NegativeBinomial().order_quantity_S(make_state(3), nothing, terms), 0)


@pytest.mark.parametrize("policy", EVERY_RULE, ids=lambda policy: policy.name)
def test_position_counts_everything_and_wishes_are_never_negative(policy):
    terms, forecast = make_terms(4, lead_time=2, mean=5), poisson_forecast(5, rows=4)
    plenty = make_state(4, on_hand=1_000)
    assert (policy.order_quantity_S(plenty, forecast, terms) == 0).all()
    forms = [make_state(4, on_hand=3), make_state(4, on_order=np.full((4, 3), 1))]
    forms += [make_state(4, on_hand=8, backorder=5), make_state(4, on_hand=8, reserved=5)]
    wishes = [policy.order_quantity_S(state, forecast, terms) for state in forms]
    assert (wishes[0] > 0).all()
    for wish in wishes:
        assert wish.dtype == np.float32
        np.testing.assert_array_equal(wish, wishes[0])


@pytest.mark.parametrize("policy", EVERY_RULE, ids=lambda policy: policy.name)
def test_round_trip_through_a_dict(policy):
    assert policy_from_dict(policy.to_dict()) == policy
    assert RULES[policy.name] is type(policy)


@pytest.mark.parametrize("tree", [{}, {"rule": "magic"}, {"rule": "base_stock"}, {"rule": "newsvendor", "x": 1}])
def test_unknown_rule_or_parameters(tree):
    with pytest.raises(ArtifactError, match="train again"):
        policy_from_dict(tree)


@pytest.mark.parametrize(
    "make",
    [
        lambda: BaseStock(cycle_service_level=1.0),
        lambda: CappedBaseStock(cycle_service_level=0.5, cap_periods=0.0),
        lambda: ReorderPoint(cycle_service_level=0.5, order_periods=-1.0),
        lambda: NegativeBinomial(score_shift=float("nan")),
        lambda: StaticMinMax(safety_periods=0.0, order_periods=-1.0),
    ],
)
def test_impossible_parameters(make):
    with pytest.raises(ValueError, match="must be"):
        make()
