import numpy as np

from recsys.uplift import WeeklySales, base_units_S, extra_units, fit_effects

CATEGORIES = np.array([f"c{row // 20}" for row in range(120)])
NUM_WEEKS = 60


def simulate(*, seed, effect=(1.0, 0.3), spread=0.0, season=True):
    """Items of six categories with a common season; promotions fall into the season's high weeks more often."""
    rng = np.random.default_rng(seed)
    level_S = rng.lognormal(2.5, 0.7, size=len(CATEGORIES))
    season_W = 1 + 0.6 * np.sin(np.arange(NUM_WEEKS) / 5) if season else np.ones(NUM_WEEKS)
    promoted_SW = rng.random((len(CATEGORIES), NUM_WEEKS)) < 0.1 * season_W
    mailed_SW = rng.random((len(CATEGORIES), NUM_WEEKS)) < 0.1
    reach_SWP = np.stack([promoted_SW * rng.uniform(0.4, 1, promoted_SW.shape), mailed_SW * 1.0], axis=2)
    own_S1 = spread * rng.standard_normal((len(CATEGORIES), 1)) - spread**2 / 2
    log_lift_SW = reach_SWP @ np.array(effect) + own_S1 * reach_SWP.max(axis=2)
    mean_SW = level_S[:, None] * season_W * np.exp(log_lift_SW)
    return WeeklySales(
        category_ids_S=CATEGORIES,
        promotion_names=("display", "mailer"),
        sales_SW=rng.poisson(mean_SW).astype(float),
        reach_SWP=reach_SWP,
    )


def test_a_planted_effect_is_found_although_promotions_fall_into_the_season():
    found = fit_effects(simulate(seed=0))
    np.testing.assert_allclose(found.effect_CP, np.tile([1.0, 0.3], (7, 1)), atol=0.06)
    assert found.item_spread < 0.15
    assert 1 <= found.dispersion < 1.1


def test_an_effect_that_is_not_there_is_not_found():
    found = fit_effects(simulate(seed=1, effect=(0.0, 0.0)))
    assert np.abs(found.effect_CP).max() < 0.06


def test_a_category_that_is_not_listed_gets_the_mean_of_all():
    found = fit_effects(simulate(seed=0))
    mean_S, deviation_S = found.log_lift_S(np.array(["new", "c0"]), reach_SP=np.array([[1.0, 0.0], [0.0, 0.0]]))
    assert mean_S[0] == found.effect_CP[-1, 0]
    assert mean_S[1] == deviation_S[1] == 0


def test_the_interval_holds_the_outcome_as_often_as_it_says():
    """The last six weeks are hidden; items differ in what a display does to them."""
    whole = simulate(seed=3, spread=0.3, season=False)
    seen = WeeklySales(
        category_ids_S=CATEGORIES,
        promotion_names=whole.promotion_names,
        sales_SW=whole.sales_SW[:, :-6],
        reach_SWP=whole.reach_SWP[:, :-6],
    )
    effects = fit_effects(seen)
    base_S = base_units_S(seen, effects, weeks=40)
    inside, error, total = [], 0.0, 0.0
    for week in range(NUM_WEEKS - 6, NUM_WEEKS):
        on_S = whole.reach_SWP[:, week, 0] > 0
        expected = extra_units(
            effects,
            category_ids_S=CATEGORIES[on_S],
            base_S=base_S[on_S],
            reach_SP=whole.reach_SWP[on_S, week],
            seed=week,
        )
        extra_S = whole.sales_SW[on_S, week] - base_S[on_S]
        inside += ((extra_S >= expected.low_S) & (extra_S <= expected.high_S)).tolist()
        error += float(expected.mean_S.sum() - extra_S.sum())
        total += float(extra_S.sum())
    assert 0.68 <= np.mean(inside) <= 0.92
    assert abs(error) < 0.2 * total


def test_a_shop_without_promotions_gives_effects_of_no_use_and_no_error():
    quiet = WeeklySales(
        category_ids_S=CATEGORIES,
        promotion_names=(),
        sales_SW=np.ones((len(CATEGORIES), 9)),
        reach_SWP=np.zeros((len(CATEGORIES), 9, 0)),
    )
    effects = fit_effects(quiet)
    assert effects.category_ids_C == ()
    assert base_units_S(quiet, effects).tolist() == [1.0] * len(CATEGORIES)
