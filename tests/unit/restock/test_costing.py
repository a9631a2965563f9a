"""The line through pilots, and what it says of its own error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cluster.errors import ConfigError
from restock.cli import app
from restock.costing import Pilot, estimate_part


def estimate(cpu_s, *, works=(1.0, 2.0, 4.0), work=100.0, runs=1, cards=0.0, has_card=False):
    pilots = [Pilot(work=one, cpu_s=cpu, wall_s=2 * cpu) for one, cpu in zip(works, cpu_s, strict=True)]
    return estimate_part("part", unit="u", pilots=pilots, work=work, runs=runs, cards=cards, has_card=has_card)


@given(fixed=st.floats(0, 100), slope=st.floats(0.01, 10), runs=st.integers(1, 9))
def test_a_line_is_found_and_has_no_error(fixed, slope, runs):
    part = estimate([fixed + slope * work for work in (1.0, 2.0, 4.0)], runs=runs)
    assert part.cpu_hours == pytest.approx(runs * (fixed + slope * 100) / 3600)
    assert part.error == pytest.approx(0, abs=1e-6)


def test_the_error_is_that_of_the_smaller_pilots_at_the_largest():
    # 10 and 20 foretell 40 where 50 is found.
    assert estimate([10.0, 20.0, 50.0]).error == pytest.approx(-0.2)


def test_noise_that_falls_with_size_is_no_saving():
    part = estimate([12.0, 10.0, 11.0])
    assert part.cpu_hours * 3600 == pytest.approx(11.0)


def test_cards_are_paid_by_the_clock_and_unknown_without_one():
    line = [10.0, 20.0, 40.0]
    assert estimate(line).gpu_hours == 0.0
    assert estimate(line, cards=2.0).gpu_hours is None
    part = estimate(line, cards=0.25, has_card=True, runs=4)
    assert part.gpu_hours == pytest.approx(4 * 0.25 * 2 * 10 * 100 / 3600)


def test_two_pilots_or_equal_ones_are_refused():
    for works in ((1.0, 2.0), (1.0, 1.0, 2.0), (3.0, 2.0, 1.0)):
        with pytest.raises(ValueError, match="three pilots of growing size"):
            estimate([1.0] * len(works), works=works)


@pytest.mark.parametrize("sizes", ["50,100", "50,fifty,100", "100,50,200", "0,1,2"])
def test_sizes_that_cannot_be_pilots_are_refused(sizes):
    with pytest.raises(ConfigError, match="--series"):
        CliRunner().invoke(app, ["cost", "--series", sizes], catch_exceptions=False)
