import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cluster.scaling import Scaler

values = hnp.arrays(np.float64, (3, 12), elements=st.floats(-1e4, 1e4, width=32))


def test_standard_has_mean_zero_and_deviation_one_on_training_time():
    rng = np.random.default_rng(0)
    values_NT = rng.normal(5, 3, (4, 100))
    scaled_NT = Scaler.fit(values_NT, kind="standard", until=60).transform(values_NT)
    np.testing.assert_allclose(scaled_NT[:, :60].mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(scaled_NT[:, :60].std(axis=1), 1, atol=1e-5)


def test_min_max_is_in_0_and_1_on_training_time():
    values_NT = np.array([[1.0, 3.0, 5.0, 99.0]])
    scaled_NT = Scaler.fit(values_NT, kind="min-max", until=3).transform(values_NT)
    assert scaled_NT[0, :3].tolist() == [0, 0.5, 1]


@given(values, values, st.sampled_from(["standard", "min-max"]), st.integers(1, 12))
def test_nothing_after_training_time_is_looked_at(before, after, kind, until):
    changed = np.concatenate([before[:, :until], after[:, until:]], axis=1)
    assert Scaler.fit(before, kind=kind, until=until).to_dict() == Scaler.fit(changed, kind=kind, until=until).to_dict()


@given(values, st.sampled_from(["standard", "min-max"]))
def test_the_inverse_gives_the_values_back(values_NT, kind):
    scaler = Scaler.fit(values_NT, kind=kind, until=12)
    np.testing.assert_allclose(scaler.inverse(scaler.transform(values_NT)), values_NT, rtol=1e-4, atol=1e-2)
    again = Scaler.from_dict(json.loads(json.dumps(scaler.to_dict())))
    np.testing.assert_array_equal(again.transform(values_NT), scaler.transform(values_NT))


@pytest.mark.parametrize("kind", ["standard", "min-max"])
def test_a_row_that_never_varies_becomes_zero(kind):
    values_NT = np.full((2, 9), 0.1, dtype=np.float32)
    assert not Scaler.fit(values_NT, kind=kind, until=9).transform(values_NT).any()


def test_what_was_not_observed_does_not_count():
    scaler = Scaler.fit(np.array([[np.nan, 2.0, 4.0], [np.nan] * 3]), kind="standard", until=3)
    assert scaler.centre_N.tolist() == [3, 0]
    assert scaler.spread_N.tolist() == [1, 1]


@pytest.mark.parametrize("until", [0, 4])
def test_training_time_lies_within_the_values(until):
    with pytest.raises(ValueError, match="until must be in 1..3"):
        Scaler.fit(np.zeros((1, 3)), kind="standard", until=until)
