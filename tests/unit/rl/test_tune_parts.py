"""What Tune is told to reserve for a trial, and when it is told to stop one."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.settings.models import PolicySettings
from rl.train import resources_of
from rl.tune_scheduler import BehindTheRule

SHARE = st.floats(0, 1)
COST = st.floats(0.2, 5)


def decision(scheduler, *, share, best_score):
    trial = SimpleNamespace(config={"key": "tea-ppo"})
    return scheduler.on_trial_result(None, trial, {"share": share, "best_score": best_score})


@given(share=SHARE, best_score=COST, stop_share=SHARE, stop_margin=st.floats(0, 1))
def test_only_a_late_trial_that_is_behind_is_stopped(share, best_score, stop_share, stop_margin):
    scheduler = BehindTheRule(stop_share=stop_share, stop_margin=stop_margin)
    is_stopped = decision(scheduler, share=share, best_score=best_score) == "STOP"
    assert is_stopped == (best_score - 1 > stop_margin and stop_share <= share != 1)
    assert scheduler.stopped == ({"tea-ppo"} if is_stopped else set())


@given(share=SHARE, best_score=st.floats(0.2, 1.0))
def test_a_trial_that_has_beaten_the_rule_is_never_stopped(share, best_score):
    assert decision(BehindTheRule(stop_share=0.0, stop_margin=0.0), share=share, best_score=best_score) == "CONTINUE"


@pytest.mark.parametrize(
    ("algorithm", "changes", "expected"),
    [
        ("ppo", {}, {"CPU": 1.0}),
        ("dqn", {"cpus_per_trial": 0.5, "gpus_per_trial": 0.25}, {"CPU": 0.5, "GPU": 0.25}),
        ("ppo", {"cpus_per_trial": 0.5, "num_env_runners": 2}, {"CPU": 2.5}),
        # It has neither runners nor a use for a card.
        ("direct", {"cpus_per_trial": 0.5, "gpus_per_trial": 0.25, "num_env_runners": 2}, {"CPU": 0.5}),
    ],
)
def test_a_trial_reserves_what_it_uses(algorithm, changes, expected):
    job = SimpleNamespace(algorithm=algorithm, settings=PolicySettings(**changes))
    assert resources_of(job).required_resources == expected
