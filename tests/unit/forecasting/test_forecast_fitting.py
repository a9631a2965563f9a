"""The training loop: repeatable, resumable, early to stop, ready to refit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from forecast_panels import make_panel, small_settings, untrained_forecaster

from cluster.errors import DataError
from cluster.panel import DemandPanel
from forecasting.features import SeriesFeatures
from forecasting.fitting import Fitting
from forecasting.model import restore_network
from forecasting.preparation import (
    Start,
    fit_and_hold_out,
    fit_in_process,
    make_start,
    make_vocabulary,
    validation_periods,
)
from forecasting.rows import features_of_table, series_table


def start_of(panel: DemandPanel, *overrides: str) -> tuple[Start, SeriesFeatures]:
    start = make_start(panel, settings=small_settings(*overrides))
    table = series_table(panel, known=start.vocabulary.rows(panel.index), seed=0)
    return start, features_of_table(table, shared=start.shared)


def fitting_of(start: Start, features: SeriesFeatures) -> Fitting:
    network = restore_network(start.shape, weights=start.weights)
    return Fitting(network, plan=start.plan, validation=[features], device=torch.device("cpu"))


def finish(fitting: Fitting, features: SeriesFeatures) -> dict[str, torch.Tensor]:
    while not fitting.is_done:
        fitting.run_epoch([features])
    return fitting.best


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    panel = make_panel()
    one, other, third = (fit_in_process(panel, settings=small_settings(f"seed={seed}")) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.predict(panel).cumulative_SHQ, other.predict(panel).cumulative_SHQ)
    assert not np.allclose(one.predict(panel).mean_SH, third.predict(panel).mean_SH)
    for row, again in zip(one.history, other.history, strict=True):
        assert replace(row, seconds=0.0) == replace(again, seconds=0.0)


def test_bfloat16_computes_less_exactly_learns_as_well_and_keeps_float32_weights() -> None:
    panel = make_panel()
    exact, coarse = (
        fit_in_process(panel, settings=small_settings(f"forecast.precision={precision}"))
        for precision in ("float32", "bfloat16")
    )
    losses = [[row.train_loss for row in fitted.history] for fitted in (exact, coarse)]
    assert losses[0] != losses[1]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)
    assert {value.dtype for value in coarse.network.state_dict().values()} == {torch.float32}


def test_training_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    fit_in_process(make_panel(num_series=2), settings=small_settings("forecast.epochs=1"))
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize("after", [1, 2])
def test_a_resumed_run_ends_where_an_unbroken_one_does(after: int, tmp_path) -> None:
    start, features = start_of(make_panel())
    unbroken = fitting_of(start, features)
    wanted = finish(unbroken, features)
    broken = fitting_of(start, features)
    for _ in range(after):
        broken.run_epoch([features])
    torch.save(broken.state(), tmp_path / "state.pt")
    resumed = fitting_of(start, features)
    resumed.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    got = finish(resumed, features)
    for name, value in wanted.items():
        assert torch.equal(value, got[name]), name
    assert [row.epoch for row in resumed.history] == [1, 2, 3]


def test_learning_passes_never_see_the_tail_and_the_finishing_pass_does() -> None:
    panel = make_panel()
    spoilt = replace(panel, sales_ST=panel.sales_ST.copy())
    spoilt.sales_ST[:, -7:] += 50
    start, features = start_of(panel)
    table = series_table(spoilt, known=start.vocabulary.rows(panel.index), seed=0)
    wrong = features_of_table(table, shared=start.shared)
    assert start.plan.tail == 7
    one, two = fitting_of(start, features), fitting_of(start, wrong)
    for _ in range(2):
        assert one.run_epoch([features]).train_loss == two.run_epoch([wrong]).train_loss
    assert one.run_epoch([features]).train_loss != two.run_epoch([wrong]).train_loss


def test_training_stops_when_validation_gets_no_better() -> None:
    start, features = start_of(make_panel(), "forecast.epochs=40", "forecast.patience=1", "forecast.learning_rate=0.05")
    fitting = fitting_of(start, features)
    finish(fitting, features)
    learned = [row for row in fitting.history if row.phase == "learn"]
    assert len(learned) < 40
    losses = [row.validation_loss for row in learned]
    assert int(np.argmin(losses)) == len(losses) - 3
    assert fitting.history[-1].phase == "finish"


def test_history_too_short_for_a_tail_is_learned_without_one() -> None:
    panel = make_panel(num_periods=12)
    fitted = fit_in_process(panel, settings=small_settings())
    assert [row.phase for row in fitted.history] == ["learn", "learn"]
    assert all(row.validation_wql is None for row in fitted.history)
    assert np.isfinite(fitted.predict(panel).cumulative_SHQ).all()


@pytest.mark.parametrize(("num_series", "num_periods"), [(0, 60), (3, 3)])
def test_nothing_to_learn_from_is_refused(num_series: int, num_periods: int) -> None:
    panel = make_panel(num_periods=60).until(num_periods).take(np.arange(num_series))
    with pytest.raises(DataError, match="at least one series and 4 periods"):
        make_start(panel, settings=small_settings())


@pytest.mark.parametrize("num_periods", [4, 9, 40])
def test_series_that_never_sold_are_learned_without_harm(num_periods: int) -> None:
    panel = make_panel(num_periods=num_periods)
    panel.sales_ST[1] = 0
    fitted = fit_in_process(panel, settings=small_settings("forecast.epochs=1"))
    assert np.isfinite(fitted.predict(panel).cumulative_SHQ).all()
    idle = replace(panel, sales_ST=np.zeros_like(panel.sales_ST))
    nothing = fit_in_process(idle, settings=small_settings("forecast.epochs=1")).predict(idle)
    assert nothing.mean_SH.max() < 0.5


def test_a_refit_starts_from_the_earlier_weights_by_name() -> None:
    panel = make_panel()
    earlier = untrained_forecaster(panel.take(np.arange(4)))
    order = np.array([3, 5, 0])
    start = make_start(panel.take(order), settings=small_settings(), warm_start=earlier)
    old, new = earlier.network.state_dict(), start.weights
    assert torch.equal(new["encoder.enter.weight"], old["encoder.enter.weight"])
    assert torch.equal(new["series.weight"][1:], old["series.weight"][[4, 0, 1]])
    assert torch.equal(new["category.weight"], old["category.weight"])
    assert start.plan.epochs == 1
    assert start.plan.learning_rate == pytest.approx(1e-3)


def test_a_refit_of_another_shape_is_refused() -> None:
    panel = make_panel()
    with pytest.raises(DataError, match="hidden differ"):
        make_start(panel, settings=small_settings("forecast.hidden=8"), warm_start=untrained_forecaster(panel))


def test_the_vocabulary_expects_of_each_series_what_the_others_sell() -> None:
    panel = make_panel(num_series=4)
    vocabulary = make_vocabulary(panel)
    assert vocabulary.category_ids == ("c0", "c1")
    assert len(vocabulary.prior_levels) == 4
    louder = replace(panel, sales_ST=np.where(np.arange(4)[:, None] == 1, 10, 1) * panel.sales_ST)
    change = np.array(make_vocabulary(louder).prior_levels) / np.array(vocabulary.prior_levels)
    assert (change[[0, 2, 3]] > 1).all()
    assert not vocabulary.yearly
    assert make_vocabulary(make_panel(num_periods=110, period_days=7)).yearly


def test_what_is_judged_has_read_nothing_of_the_validation_periods() -> None:
    panel, plan = make_panel(num_series=4), small_settings("forecast.epochs=1")
    cut = panel.num_periods - validation_periods(panel, settings=plan)
    sales_ST = panel.sales_ST.copy()
    sales_ST[:, cut:] = 10 * sales_ST[::-1, cut:] + 3
    (one, held_out), (other, held_out_too) = (
        fit_and_hold_out(known, settings=plan) for known in (panel, replace(panel, sales_ST=sales_ST))
    )
    assert held_out is not None
    assert held_out_too is not None
    for name, weights in held_out.network.state_dict().items():
        assert torch.equal(weights, held_out_too.network.state_dict()[name])
    assert held_out.vocabulary.prior_levels == held_out_too.vocabulary.prior_levels
    assert one.vocabulary.prior_levels != other.vocabulary.prior_levels


@pytest.mark.parametrize(("least_steps", "crops_per_series", "steps"), [(1, 2, 2), (5, 7, 6)])
def test_few_series_are_drawn_more_often(least_steps: int, crops_per_series: int, steps: int) -> None:
    start, features = start_of(make_panel(num_series=6), f"forecast.least_steps={least_steps}")
    assert (start.plan.crops_per_series, start.plan.steps_per_epoch) == (crops_per_series, steps)
    fitting = fitting_of(start, features)
    fitting.run_epoch([features])
    assert fitting.state()["steps"] == steps
