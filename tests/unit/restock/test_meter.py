import time

import pytest

from restock.meter import Meter


def test_seconds_of_a_stage_add_up_and_memory_is_seen():
    with Meter() as meter:
        for _ in range(2):
            with meter.stage("work"):
                time.sleep(0.6)
    assert 1.2 <= meter.seconds["work"] < 60
    assert meter.peak_memory_mb > 10


def test_a_stage_that_fails_is_counted_too():
    meter = Meter()
    with pytest.raises(RuntimeError), meter.stage("work"):
        raise RuntimeError
    assert "work" in meter.seconds
