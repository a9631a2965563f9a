"""Priors of new series: found from similar ones where the truth is known, and sane where little is."""

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pytest
from forecast_panels import make_panel, small_settings

from cluster.panel import SeriesIndex
from cluster.schema import ITEMS
from forecasting.launch_curves import growth_S, launch_curves_SA, launch_level_S, warping_distance_SR
from forecasting.named_alike import find_named_alike
from forecasting.new_items import (
    ItemTraits,
    SimilarItems,
    fit_similar_items,
    make_prior,
    reference_rows,
    usual_dispersion,
)
from forecasting.predict import Forecaster
from forecasting.preparation import fit_in_process, make_vocabulary


def make_traits(
    categories: list[str], *, price: list[float] | None = None, first: int = 0, promotion: list[float] | None = None
) -> ItemTraits:
    num = len(categories)
    promotion_SP = np.zeros((num, 0)) if promotion is None else np.array(promotion)[:, None]
    return ItemTraits(
        index=SeriesIndex(
            item_ids_S=np.array([f"i{s}" for s in range(first, first + num)]),
            location_ids_S=np.full(num, "shop"),
            category_ids_S=np.array(categories, dtype=np.str_),
        ),
        price_S=np.array(price if price is not None else [np.nan] * num, dtype=np.float32),
        promotion_SP=promotion_SP.astype(np.float32),
    )


@dataclass(frozen=True, kw_only=True)
class Lists:
    item_ids_I: np.ndarray
    item_IK: np.ndarray
    score_IK: np.ndarray


def slow_warping(a: np.ndarray, b: np.ndarray, *, band: int) -> float:
    length = len(a)
    table = np.full((length + 1, length + 1), np.inf)
    table[0, 0] = 0
    for i, j in itertools.product(range(1, length + 1), repeat=2):
        if abs(i - j) <= band:
            best = min(table[i - 1, j], table[i, j - 1], table[i - 1, j - 1])
            table[i, j] = (a[i - 1] - b[j - 1]) ** 2 + best
    return float(np.sqrt(table[length, length] / length))


@pytest.mark.parametrize("band", [0, 1, 3, 20])
@pytest.mark.parametrize("length", [1, 2, 9])
def test_warping_equals_a_slow_loop(band: int, length: int) -> None:
    rng = np.random.default_rng(length)
    a, b = rng.random((4, length), dtype=np.float32), rng.random((3, length), dtype=np.float32)
    wanted = [[slow_warping(x, y, band=band) for y in b] for x in a]
    np.testing.assert_allclose(warping_distance_SR(a, b, band=band), wanted, rtol=1e-5)


def test_a_launch_that_runs_a_period_late_is_near_when_warped() -> None:
    curves = launch_curves_SA(np.array([[0, 5, 3, 0, 0, 0], [0, 0, 5, 3, 0, 0], [0, 0, 0, 0, 0, 8]], dtype=np.float32))
    near, far = warping_distance_SR(curves[:1], curves[1:])[0]
    assert near == pytest.approx(0.0, abs=1e-6)
    assert far > 0.2


def test_demand_goes_on_as_in_launches_that_began_alike() -> None:
    fading, rising = [8.0, 4, 2, 1, 0, 0, 0], [0.0, 0, 1, 2, 4, 8, 16]
    known = np.array([fading] * 20 + [rising] * 20, dtype=np.float32)
    went_on = np.repeat([0.5, 20.0], 20).astype(np.float32)
    factor = growth_S(known[[0, -1]], known, expected_R=known.mean(axis=1), next_level_R=went_on)
    assert factor[0] < 2.0 < factor[1]
    assert growth_S(known[:2], known[:0], expected_R=went_on[:0], next_level_R=went_on[:0]).tolist() == [1.0, 1.0]


def test_similar_series_decide_and_unlike_ones_do_not() -> None:
    rng = np.random.default_rng(0)
    categories = ["dear"] * 40 + ["cheap"] * 40
    level_S = np.repeat([2.0, 20.0], 40) * rng.lognormal(0, 0.2, 80)
    known = make_traits(categories, price=[9.0] * 40 + [1.0] * 40)
    similar = fit_similar_items(known, level_S=level_S.astype(np.float32))
    new = make_traits(["dear", "cheap", "dear", "unheard of"], price=[9.0, 1.0, np.nan, 1.0], first=100)
    dear, cheap, unpriced, unknown = similar.prior(new).level_S
    assert dear == pytest.approx(2.0, rel=0.15)
    assert cheap == pytest.approx(20.0, rel=0.15)
    assert dear < unpriced < unknown < cheap
    assert similar.log_spread < 0.3


def test_where_similar_series_differ_the_mean_of_all_is_kept() -> None:
    level_S = np.random.default_rng(1).lognormal(1, 1, 200).astype(np.float32)
    known = make_traits([f"c{s % 20}" for s in range(200)])
    similar = fit_similar_items(known, level_S=level_S)
    prior_S = similar.prior(make_traits([f"c{s}" for s in range(20)], first=500)).level_S
    group_S = np.array([np.log(level_S[s::20]).mean() for s in range(20)])
    assert np.log(prior_S).std() < 0.5 * group_S.std()


def test_announced_promotions_and_neighbours_are_read() -> None:
    level_S = np.repeat([2.0, 20.0], 20).astype(np.float32)
    known = make_traits(["a"] * 40, promotion=[0.0] * 20 + [0.9] * 20)
    quiet, loud = (
        fit_similar_items(known, level_S=level_S).prior(make_traits(["a"] * 2, promotion=[0.0, 0.9], first=90)).level_S
    )
    assert quiet < 4 < 12 < loud
    item_IK = np.array([[(s + 1) % 20 + s // 20 * 20, -1] for s in range(40)] + [[3, 4], [33, -1], [-1, -1]])
    lists = Lists(
        item_ids_I=np.array([f"i{s}" for s in [*range(40), 90, 91, 92]]),
        item_IK=item_IK,
        score_IK=np.where(item_IK >= 0, 0.9, 0.0),
    )
    plain = make_traits(["a"] * 40)
    similar = fit_similar_items(plain, level_S=level_S, neighbours=lists)
    low, high, lone, unlisted = similar.prior(make_traits(["a"] * 4, first=90), neighbours=lists).level_S
    assert low < lone < high
    assert lone == unlisted


def fitted_on(num: int, *, seed: int) -> tuple[ItemTraits, np.ndarray, SimilarItems]:
    rng = np.random.default_rng(seed)
    known = make_traits([f"c{s % 3}" for s in range(num)], price=rng.uniform(1, 9, num).tolist())
    level_S = rng.lognormal(1, 1, num).astype(np.float32)
    return known, level_S, fit_similar_items(known, level_S=level_S)


def test_the_order_of_series_does_not_matter() -> None:
    known, level_S, similar = fitted_on(30, seed=2)
    order = np.random.default_rng(3).permutation(30)
    shuffled = fit_similar_items(known.take(order), level_S=level_S[order])
    new = make_traits(["c0", "c1", "x"], price=[2.0, 3.0, np.nan], first=70)
    np.testing.assert_allclose(shuffled.prior(new).level_S, similar.prior(new).level_S, rtol=1e-4)
    np.testing.assert_allclose(shuffled.left_out_level_R, similar.left_out_level_R[order], rtol=1e-4)


def test_a_series_left_out_is_predicted_as_if_it_had_not_been_known() -> None:
    known, level_S, similar = fitted_on(40, seed=4)
    louder_S = np.where(np.arange(40) == 7, level_S + 1e-3, level_S).astype(np.float32)
    again = fit_similar_items(known, level_S=louder_S)
    np.testing.assert_allclose(again.left_out_level_R[7], similar.left_out_level_R[7], rtol=1e-3)


@pytest.mark.parametrize("level", [0.0, 1e-6, 3.0, 1e6])
@pytest.mark.parametrize("num", [0, 1, 2, 5])
def test_priors_are_finite_and_never_negative(num: int, level: float) -> None:
    known = make_traits(["a"] * num)
    similar = fit_similar_items(known, level_S=np.full(num, level, dtype=np.float32))
    for price in ([np.nan, 0.0, -1.0], [np.inf, 1e-9, 1e9]):
        prior = similar.prior(make_traits(["a", "b", ""], price=price, first=50))
        for value_S in (prior.level_S, prior.periods_S):
            assert np.isfinite(value_S).all()
            assert (value_S >= 0).all()
        assert prior.level_S == pytest.approx(np.full(3, level if num else 0.0), rel=1e-3)


def test_the_noisier_demand_is_the_longer_the_prior_counts() -> None:
    level_S = np.array([2.0, 8.0], dtype=np.float32)
    calm, noisy = (make_prior(level_S, dispersion=d, log_spread=0.8, least_level=0.1) for d in (2.0, 20.0))
    assert (noisy.periods_S > calm.periods_S).all()
    assert calm.periods_S[0] > calm.periods_S[1]
    np.testing.assert_allclose(noisy.combined_level_S(sold_S=np.array([0.0, 0.0]), periods=0), level_S)


def test_levels_start_with_the_first_sale_unless_that_may_have_been_unseen() -> None:
    panel = make_panel(num_series=3, num_periods=140)
    sales_ST = np.zeros((3, 140), dtype=np.float32)
    sales_ST[0, 40:], sales_ST[0, 96:] = 6, 1
    sales_ST[1, 0:], sales_ST[1, 84:] = 6, 1
    panel = replace(panel, sales_ST=sales_ST, in_stock_ST=np.ones((3, 140), dtype=bool))
    np.testing.assert_allclose(launch_level_S(panel), [6, 1, 0])


def test_dispersion_is_that_of_a_usual_series() -> None:
    rng = np.random.default_rng(5)
    panel = make_panel(num_series=9, num_periods=700)
    sales_ST = rng.poisson(4, (9, 700)).astype(np.float32)
    sales_ST[0, ::50] += 5_000
    panel = replace(panel, sales_ST=sales_ST, in_stock_ST=np.ones((9, 700), dtype=bool))
    assert usual_dispersion(panel) == pytest.approx(1.0, abs=0.25)
    assert usual_dispersion(panel.until(3)) == 1.0


def test_references_are_the_same_in_whatever_order_series_come() -> None:
    index = make_traits(["a"] * 1_500).index
    usable_S = np.arange(1_500) % 10 > 0
    order = np.random.default_rng(6).permutation(1_500)
    plain, shuffled = (
        reference_rows(index, usable_S=usable_S),
        reference_rows(index.take(order), usable_S=usable_S[order]),
    )
    assert len(plain) == 1_000
    assert set(plain.tolist()) == set(order[shuffled].tolist())
    assert usable_S[plain].all()


def test_an_unseen_series_starts_from_its_similar_ones_and_so_after_loading(tmp_path) -> None:
    panel = make_panel(num_series=12, num_periods=60)
    sales_ST = panel.sales_ST * np.where(np.arange(12) % 2, 30, 1).astype(np.float32)[:, None]
    panel = replace(panel, sales_ST=sales_ST)
    forecaster = fit_in_process(panel, settings=small_settings("forecast.epochs=1"))
    index = SeriesIndex(
        item_ids_S=np.array(["new0", "new1"]),
        location_ids_S=np.full(2, "shop"),
        category_ids_S=np.array(["c0", "c1"]),
    )
    view = replace(panel.take(np.array([0, 1])), index=index, sales_ST=np.zeros((2, 60), dtype=np.float32)).until(1)
    levels = make_vocabulary(panel).rows(index).prior_level_S
    assert levels[1] > 4 * levels[0]
    forecaster.save(tmp_path)
    forecast, again = forecaster.predict(view), Forecaster.load(tmp_path).predict(view)
    assert forecast.mean_SH[1].sum() > 2 * forecast.mean_SH[0].sum()
    np.testing.assert_array_equal(forecast.cumulative_SHQ, again.cumulative_SHQ)


def named_panel(*, num_series: int = 24):
    """Items called clips sell thirty times what items called chains do; the last two were never sold."""
    panel = make_panel(num_series=num_series, num_periods=60)
    is_clip_S = np.arange(num_series) % 2 == 0
    sales_ST = np.ones((num_series, 60), np.float32) * np.where(is_clip_S, 30, 1).astype(np.float32)[:, None]
    sales_ST[-2:] = 0
    index = replace(panel.index, category_ids_S=np.full(num_series, "all"))
    names = ["paper clips" if is_clip else "golden chain" for is_clip in is_clip_S]
    rows = [{"item_id": item, "name": name} for item, name in zip(index.item_ids_S.tolist(), names, strict=True)]
    items = pa.Table.from_pylist(rows, schema=ITEMS)
    return replace(panel, sales_ST=sales_ST, index=index), items


def test_a_name_tells_what_a_series_without_sales_will_sell() -> None:
    panel, items = named_panel()
    clip, chain = make_vocabulary(panel, items=items).prior_levels[-2:]
    assert clip > 4 * chain
    plain_clip, plain_chain = make_vocabulary(panel).prior_levels[-2:]
    assert plain_clip == pytest.approx(plain_chain, rel=0.2)


def test_neighbours_by_name_are_sold_items_other_than_the_item_itself() -> None:
    panel, items = named_panel()
    references = np.flatnonzero(panel.first_sale_S < panel.num_periods)
    found = find_named_alike(items, panel.index, references=references)
    assert found is not None
    sold = set(panel.index.item_ids_S[references])
    name_of = dict(zip(items["item_id"].to_pylist(), items["name"].to_pylist(), strict=True))
    for row, item in enumerate(found.item_ids_I.tolist()):
        near = found.item_ids_I[found.item_IK[row][found.item_IK[row] >= 0]].tolist()
        assert near
        assert item not in near
        assert set(near) <= sold
        assert {name_of[other] for other in near} == {name_of[item]}


def test_items_without_names_are_like_none() -> None:
    panel, items = named_panel()
    bare = items.set_column(items.schema.get_field_index("name"), "name", pa.nulls(items.num_rows, pa.string()))
    assert find_named_alike(bare, panel.index, references=np.arange(3)) is None
    assert find_named_alike(None, panel.index, references=np.arange(3)) is None
