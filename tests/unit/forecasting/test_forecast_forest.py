"""The walk through the trees gives the numbers that LightGBM gives, to the last bit."""

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.forest import Forest

NUM_ORIGIN, NUM_AHEAD = 4, 2
COLUMN_Z = np.array([-1, 0, -2, -3, 1, -4])
"""Inputs 1 and 4 differ between periods ahead; the others are columns of the origin. Input 0 is a category."""


def draw_inputs(random: np.random.Generator, *, num_series: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    origin_SY = random.normal(size=(num_series, NUM_ORIGIN)).astype(np.float32)
    origin_SY[:, 0] = random.integers(-1, 90, num_series)
    origin_SY[:, 2] = np.where(random.random(num_series) < 0.3, np.nan, origin_SY[:, 2])
    origin_SY[:, 3] = random.integers(0, 3, num_series)
    ahead_SHV = random.normal(size=(num_series, horizon, NUM_AHEAD)).astype(np.float32)
    return origin_SY, ahead_SHV


def rows_of(origin_SY: np.ndarray, ahead_SHV: np.ndarray) -> np.ndarray:
    S, H, _ = ahead_SHV.shape
    out_SHZ = np.empty((S, H, len(COLUMN_Z)), dtype=np.float32)
    for z, column in enumerate(COLUMN_Z):
        out_SHZ[:, :, z] = ahead_SHV[:, :, column] if column >= 0 else origin_SY[:, None, ~column]
    return out_SHZ.reshape(S * H, -1)


@pytest.fixture(scope="module")
def boosters() -> list[lightgbm.Booster]:
    random = np.random.default_rng(0)
    read_NZ = rows_of(*draw_inputs(random, num_series=3_000, horizon=2))
    read_NZ[:, 0] = np.maximum(read_NZ[:, 0], 0)
    hidden_NZ = np.nan_to_num(read_NZ)
    target_N = (read_NZ[:, 0] % 7) + hidden_NZ[:, 1] * hidden_NZ[:, 2] + 3.0 * (hidden_NZ[:, 4] > 0) * hidden_NZ[:, 5]
    common = {"objective": "quantile", "num_leaves": 31, "min_data_in_leaf": 20, "verbosity": -1, "num_threads": 1}
    data = lightgbm.Dataset(read_NZ, target_N, categorical_feature=[0], free_raw_data=False, params=common)
    made = [lightgbm.train(common | {"alpha": level}, data, num_boost_round=25) for level in (0.2, 0.9)]
    stump = lightgbm.Dataset(read_NZ, np.full(len(read_NZ), 3.5), params=common)
    return [*made, lightgbm.train(common | {"alpha": 0.5}, stump, num_boost_round=3)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1_000_000), st.integers(0, 70), st.integers(1, 130))
def test_every_answer_equals_that_of_lightgbm(
    boosters: list[lightgbm.Booster], seed: int, num_series: int, horizon: int
) -> None:
    forest = Forest.read([booster.model_to_string() for booster in boosters])
    origin_SY, ahead_SHV = draw_inputs(np.random.default_rng(seed), num_series=num_series, horizon=horizon)
    got_SHQ = forest.predict_SHQ(origin_SY, ahead_SHV, column_Z=COLUMN_Z)
    assert got_SHQ.shape == (num_series, horizon, len(boosters))
    if num_series:
        rows_NZ = rows_of(origin_SY, ahead_SHV)
        expected_NQ = np.stack([np.asarray(booster.predict(rows_NZ)) for booster in boosters], axis=-1)
        np.testing.assert_array_equal(got_SHQ.reshape(-1, len(boosters)), expected_NQ)


def test_boosters_with_fewer_trees_stand_beside_others(boosters: list[lightgbm.Booster]) -> None:
    forest = Forest.read([booster.model_to_string() for booster in boosters])
    assert len(set(np.diff(forest.end_Q, prepend=0).tolist())) > 1


def test_periods_ahead_that_agree_share_one_answer_with_a_single_period(boosters: list[lightgbm.Booster]) -> None:
    forest = Forest.read([boosters[0].model_to_string()])
    origin_SY, ahead_SHV = draw_inputs(np.random.default_rng(5), num_series=9, horizon=1)
    one_SHQ = forest.predict_SHQ(origin_SY, ahead_SHV, column_Z=COLUMN_Z)
    many_SHQ = forest.predict_SHQ(origin_SY, np.repeat(ahead_SHV, 65, axis=1), column_Z=COLUMN_Z)
    np.testing.assert_array_equal(many_SHQ, np.repeat(one_SHQ, 65, axis=1))


@pytest.mark.parametrize("text", ["", "nothing", "tree\n\nTree=0\nnum_leaves=2\nleaf_value=1 2\n\n"])
def test_what_is_no_model_is_refused(text: str) -> None:
    with pytest.raises((ValueError, LookupError)):
        Forest.read([text])


@pytest.mark.parametrize("line", ["left_child", "right_child", "split_feature"])
@pytest.mark.parametrize("number", ["0", "999999", "-999999"])
def test_branches_that_lead_nowhere_are_refused(boosters: list[lightgbm.Booster], line: str, number: str) -> None:
    text = boosters[0].model_to_string()
    start = text.index(f"{line}=") + len(line) + 1
    broken = text[:start] + number + text[text.index(" ", start) :]
    if line == "split_feature" and number != "-999999":
        inputs = draw_inputs(np.random.default_rng(2), num_series=2, horizon=2)
        few_Z = COLUMN_Z[:2]
        with pytest.raises(ValueError, match="more than the 2 inputs"):
            Forest.read([broken]).predict_SHQ(*inputs, column_Z=few_Z)
        return
    with pytest.raises(ValueError, match="not a model of LightGBM"):
        Forest.read([broken])


def test_sets_of_categories_that_are_not_there_are_refused(boosters: list[lightgbm.Booster]) -> None:
    text = next(text for text in (one.model_to_string() for one in boosters) if "cat_boundaries=" in text)
    head, tail = text.split("cat_boundaries=", 1)
    bounds, rest = tail.split("\n", 1)
    wider = " ".join([*bounds.split()[:-1], "999999"])
    with pytest.raises(ValueError, match="categories that are not there"):
        Forest.read([f"{head}cat_boundaries={wider}\n{rest}"])


def test_zero_for_missing_is_refused(boosters: list[lightgbm.Booster]) -> None:
    random = np.random.default_rng(1)
    read_NZ = rows_of(*draw_inputs(random, num_series=500, horizon=1))
    data = lightgbm.Dataset(read_NZ, read_NZ[:, 1].copy(), params={"zero_as_missing": True, "verbosity": -1})
    text = lightgbm.train({"zero_as_missing": True, "verbosity": -1}, data, num_boost_round=2).model_to_string()
    with pytest.raises(ValueError, match="zero for missing"):
        Forest.read([text])
