"""Windows of a rolling replay: where they lie, and that none knows what comes after its start."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from inventory_cases import make_panel, make_terms, random_scenario

from cluster.config import Settings
from cluster.errors import DataError
from forecasting.baselines import weekday_quantiles
from rl.assumptions import mean_demand_of_history_S
from rl.evaluate import replay
from rl.jobs import make_jobs
from rl.policies.classical import BaseStock, ReorderPoint
from rl.rolling import RollingHistory, make_lessons, plan_rolling, side_by_side
from rl.tuning import tune_categories

NUM_SERIES, NUM_PERIODS = 5, 60
PLAN = plan_rolling(NUM_PERIODS, num_windows=3, horizon=8, period_days=7)


@given(st.integers(1, 400), st.integers(1, 8), st.integers(2, 60), st.sampled_from([1, 7]))
def test_windows_end_with_history_and_something_is_over_before_each(num_periods, num_windows, horizon, period_days):
    try:
        plan = plan_rolling(num_periods, num_windows=num_windows, horizon=horizon, period_days=period_days)
    except DataError:
        assume(False)
    assert len(plan.windows) == num_windows
    assert plan.end == num_periods
    assert set(np.diff(plan.blocks)) <= {plan.step}
    assert plan.step in (horizon, -(-horizon // 2))
    assert plan.blocks[0] >= 4
    assert set(plan.fits) <= set(plan.blocks)
    for window in plan.windows:
        assert all(block + horizon <= window for block in plan.blocks_before(window))
        for interval in (1, 4, horizon):
            start = plan.validation_start(window, longest_interval=interval)
            assert start < window
            assert plan.blocks_before(start), "policies need a block before the stretch that chooses them"


def test_a_year_of_days_has_six_windows_four_weeks_apart():
    plan = plan_rolling(365, num_windows=6, horizon=56, period_days=1)
    assert plan.windows == (169, 197, 225, 253, 281, 309)
    assert plan.fits == plan.blocks
    assert plan.fits[0] == 85, "twelve weeks of days, rounded up to a step"


def test_long_histories_have_disjoint_windows():
    plan = plan_rolling(1_100, num_windows=6, horizon=56, period_days=1)
    assert np.diff(plan.windows).tolist() == [56] * 5


@pytest.mark.parametrize(("periods", "windows"), [(40, 6), (10, 1)])
def test_too_short_a_history_says_what_would_do(periods, windows):
    with pytest.raises(DataError, match=r"need at least \d+.*lower --windows or --horizon"):
        plan_rolling(periods, num_windows=windows, horizon=8, period_days=7)


def test_needed_periods_are_enough():
    needed = 4 + 3 * 4 + 8 + 5 * 4
    assert plan_rolling(needed, num_windows=6, horizon=8, period_days=7).blocks[0] == 4
    with pytest.raises(DataError, match=str(needed)):
        plan_rolling(needed - 1, num_windows=6, horizon=8, period_days=7)


@pytest.mark.parametrize("seed", range(3))
def test_side_by_side_is_each_by_itself(seed):
    scenarios = [random_scenario(3 * seed + k, rows=7, periods=24) for k in range(3)]
    assert len({scenario.first_period for scenario in scenarios}) > 1
    joined = side_by_side(scenarios)
    for policy in (BaseStock(cycle_service_level=0.9), ReorderPoint(cycle_service_level=0.7, order_periods=2.0)):
        apart = np.concatenate([replay(policy, scenario).cost_S for scenario in scenarios])
        np.testing.assert_array_equal(replay(policy, joined).cost_S, apart)


def test_only_equal_stretches_stand_side_by_side():
    with pytest.raises(ValueError, match="same number of periods"):
        side_by_side([random_scenario(0, periods=20), random_scenario(0, periods=21)])


def make_history(sales_ST):
    panel = make_panel(sales_ST, period_days=7, categories=["a", "a", "b", "b", "b"])
    forecasts = {
        t: weekday_quantiles(panel.until(t), horizon=4, seed=t) for t in range(PLAN.blocks[0], panel.num_periods)
    }

    def make_master_data(known):
        return make_terms(NUM_SERIES, lead_time=2, fixed=3, holding=0.1, mean=mean_demand_of_history_S(known))

    return RollingHistory(panel=panel, forecasts=forecasts, make_terms=make_master_data, seed=0, jitter_periods=1)


@pytest.mark.parametrize("window", PLAN.windows[::2])
def test_what_comes_after_the_start_of_a_window_changes_no_choice(window):
    rng = np.random.default_rng(0)
    sales_ST = rng.poisson(6, (NUM_SERIES, NUM_PERIODS)).astype(np.float32)
    changed_ST = sales_ST.copy()
    changed_ST[:, window:] = rng.poisson(60, (NUM_SERIES, NUM_PERIODS - window))
    choices = [choices_before(make_history(sales), window) for sales in (sales_ST, changed_ST)]
    assert choices[0] == choices[1]
    earlier_ST = sales_ST.copy()
    earlier_ST[:, window - PLAN.step : window] = 60
    assert choices_before(make_history(earlier_ST), window) != choices[0], "what came before does count"


def choices_before(history, window):
    """Tuned parameters, and the digest of everything that decides what a policy learns."""
    lessons = make_lessons(history, PLAN, window=window)
    tuned = tune_categories(
        lessons.learning,
        category_ids_S=np.tile(history.panel.index.category_ids_S, lessons.learning.num_rows // NUM_SERIES),
    )
    jobs = make_jobs(
        Settings(),
        scenarios_train={"shop": lessons.learning},
        scenarios_validation={"shop": lessons.validation},
        heuristics={"shop": tuned["a"]},
        store_folder=Path("unused"),
    )
    return tuned, {job.algorithm: job.digest() for job in jobs}


def test_the_history_of_a_day_ends_with_it():
    history = make_history(np.ones((NUM_SERIES, NUM_PERIODS)))
    known = history.until(40)
    assert known.panel.num_periods == 40
    assert max(known.forecasts) == 39
    with pytest.raises(ValueError, match="not within"):
        replace(known, forecasts=history.forecasts).scenario(38, 42)
