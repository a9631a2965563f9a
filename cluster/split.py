"""Where history is cut: the forecaster's past, the policies' window with its validation end, and the held-out test."""

from dataclasses import dataclass

from cluster.errors import DataError
from cluster.panel import Calendar
from cluster.settings.data import SplitSettings

_SHORTEST_PAST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Period numbers. Each part ends where the next begins; the last one ends at ``end``, exclusive.

    ``0 .. policy`` teaches the forecaster whose forecasts the policies train on, ``policy .. validation`` trains the
    policies, ``validation .. test`` chooses their checkpoints (textbook rules are tuned on both parts), and
    ``test .. end`` is seen by nothing but the replay.
    """

    policy: int
    validation: int
    test: int
    end: int


def make_split(end: int, *, settings: SplitSettings, calendar: Calendar) -> Split:
    """Cut ``end`` periods of history.

    Raises
    ------
    DataError
        If history is too short for the parts that are configured.
    """
    test = end - calendar.num_periods(settings.test_days)
    validation = test - calendar.num_periods(settings.validation_days)
    policy = test - calendar.num_periods(settings.policy_days)
    if policy < _SHORTEST_PAST:
        days = calendar.period_days
        needed = (end - policy + _SHORTEST_PAST) * days
        raise DataError(
            f"history has {end * days} days, the split needs at least {needed} "
            f"(test {settings.test_days} + policies {settings.policy_days} + a past for the forecaster); "
            "load more history, or shorten split.test_days and split.policy_days"
        )
    return Split(policy=policy, validation=validation, test=test, end=end)
