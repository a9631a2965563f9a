"""Crops: what they gather, and where their origins may lie."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
import torch
from forecast_panels import NOTICE, make_panel
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.panel import DemandPanel
from forecasting.features import KnownRows, make_features
from forecasting.windows import AheadChannels, CropPlan, Windows, num_ahead_channels


def windows_of(panel: DemandPanel, *, context: int = 8, horizon: int = 5) -> Windows:
    rows = np.arange(panel.num_series)
    known = KnownRows(series_row_S=rows, category_row_S=rows, prior_level_S=np.ones(panel.num_series, dtype=np.float32))
    features = make_features(panel, known=known, yearly=False)
    return Windows(features, context=context, horizon=horizon, device=torch.device("cpu"))


def test_a_crop_holds_the_periods_it_says() -> None:
    panel = make_panel(num_periods=30)
    windows = windows_of(panel)
    plan = CropPlan(
        row_B=np.array([3, 1]), start_B=np.array([10, -4]), origin_BK=np.array([[20, 26], [9, -1]], dtype=np.int64)
    )
    batch = windows.cut(plan, target_end=28)
    demand = windows.features.demand_ST
    np.testing.assert_array_equal(batch.demand_BL[0], demand[3, 10:26])
    np.testing.assert_array_equal(batch.demand_BL[1], np.concatenate([np.zeros(4), demand[1, :12]]))
    assert batch.position_BK.tolist() == [[10, 16], [13, 16]]
    np.testing.assert_array_equal(batch.target_BKH[0, 1, :4], demand[3, 26:30])
    assert batch.weight_BKH[0].tolist() == [[1] * 5, [1, 1, 0, 0, 0]]
    assert batch.weight_BKH[1, 1].tolist() == [0] * 5
    np.testing.assert_allclose(batch.level_BK[0], windows.features.level_SU[3, [20, 26]])


def test_promotions_are_read_up_to_the_notice_and_not_beyond() -> None:
    panel = make_panel(num_periods=30)
    windows = windows_of(panel, horizon=14)
    batch = windows.cut(CropPlan(row_B=np.array([0]), start_B=np.array([8]), origin_BK=np.array([[18]])), target_end=30)
    known, promotion = batch.ahead_BKHG[0, 0, :, 0], batch.ahead_BKHG[0, 0, :, 1]
    assert known.tolist() == [1.0] * NOTICE + [0.0] * 4
    np.testing.assert_array_equal(promotion[:NOTICE], panel.promotion_SXP[0, 18 : 18 + NOTICE, 0])
    assert (promotion[NOTICE:] == 0).all()


def test_known_ahead_channels_lie_where_they_are_said_to() -> None:
    panel = make_panel(num_periods=30, num_promotions=2)
    channels = AheadChannels.of(2)
    places = {
        "known": slice(0, channels.promotions.start),
        "promotions": channels.promotions,
        "holidays": channels.holidays,
        "calendar": slice(channels.holidays.stop, num_ahead_channels(2)),
    }
    assert places["calendar"] == channels.calendar

    def changed(other: DemandPanel) -> set[str]:
        plan = CropPlan(row_B=np.array([0]), start_B=np.array([8]), origin_BK=np.array([[24]]))
        ahead, mine = (windows_of(p).cut(plan, target_end=30).ahead_BKHG for p in (panel, other))
        return {name for name, place in places.items() if not torch.equal(ahead[..., place], mine[..., place])}

    assert changed(replace(panel, promotion_SXP=1 - panel.promotion_SXP)) == {"promotions"}
    assert changed(replace(panel, holiday_X=1 - panel.holiday_X)) == {"holidays"}
    assert changed(replace(panel, calendar=replace(panel.calendar, start_on=date(2023, 1, 5)))) == {"calendar"}


@given(num_periods=st.integers(2, 50), context=st.integers(2, 20), seed=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_drawn_origins_lie_in_the_second_half_of_their_crop(num_periods: int, context: int, seed: int) -> None:
    panel = make_panel(num_periods=num_periods, seed=seed)
    windows = windows_of(panel, context=context)
    plans = windows.draw(
        np.random.default_rng(seed), crops_per_series=3, origins_per_crop=4, batch_size=5, end=num_periods
    )
    assert sum(len(plan.row_B) for plan in plans) == 3 * panel.num_series
    for plan in plans:
        windows.cut(plan, target_end=num_periods)
        exists = plan.origin_BK >= 0
        before = plan.origin_BK - plan.start_B[:, None]
        assert (before[exists] > context).all()
        assert (before[exists] <= 2 * context).all()
        assert (plan.origin_BK[exists] < num_periods).all()
        first_sale = panel.first_sale_S[plan.row_B][:, None]
        assert (plan.origin_BK > first_sale)[exists].all()


@pytest.mark.parametrize("origin", [1, 8, 9, 16, 30])
def test_predicting_crops_give_every_origin_one_to_two_contexts(origin: int) -> None:
    windows = windows_of(make_panel(num_periods=30))
    (plan,) = windows.plans_at(np.array([origin]), batch_size=100)
    assert 8 < origin - plan.start_B[0] <= 16
    assert plan.start_B[0] % 8 == 0
