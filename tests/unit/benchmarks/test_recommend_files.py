"""Any file of interactions becomes a case: what may be learned from, and what is to be found."""

import numpy as np
import polars as pl
import pytest

from benchmarks.recommend_cases import load_file
from cluster.errors import DataError

COLUMNS = {"user": "who", "item": "what", "time": "when", "basket": None}
DAY = 86_400
FRAME = pl.DataFrame(
    {
        "who": ["a", "a", "a", "b", "b", "c"],
        "what": ["x", "y", "z", "x", "z", "y"],
        "when": [0, DAY, 9 * DAY, 2 * DAY, 10 * DAY, DAY],
        "bill": ["1", "2", "2", "3", "4", "5"],
    }
)


@pytest.fixture(params=["csv", "parquet"])
def path(request, tmp_path):
    path = tmp_path / f"events.{request.param}"
    (FRAME.write_csv if request.param == "csv" else FRAME.write_parquet)(path)
    return path


def found(case):
    names = case.train.item_ids_I
    offset = case.test.offset_V1
    targets = [sorted(names[case.test.target_N[offset[v] : offset[v + 1]]]) for v in range(len(case.test))]
    users = case.test.history.user_ids_U[case.test.user_V]
    return dict(zip(users.tolist(), targets, strict=True))


def learned(case):
    log = case.train
    return sorted(zip(log.user_ids_U[log.user_E].tolist(), log.item_ids_I[log.item_E].tolist(), strict=True))


def test_last_event_of_each_user_with_a_history(path):
    case = load_file(path, columns=COLUMNS, protocol="last", days=7, users=None)
    assert found(case) == {"a": ["z"], "b": ["z"]}
    assert ("a", "z") not in learned(case)
    assert ("a", "x") in learned(case)


def test_last_basket_of_each_user(path):
    case = load_file(path, columns=COLUMNS | {"basket": "bill"}, protocol="basket", days=7, users=None)
    assert found(case) == {"a": ["y", "z"], "b": ["z"]}


def test_last_days_of_the_file(path):
    case = load_file(path, columns=COLUMNS, protocol="temporal", days=3, users=None)
    assert found(case) == {"a": ["z"], "b": ["z"]}
    assert np.all(case.train.time_E <= 2 * DAY)


def test_a_missing_column_is_named(path):
    with pytest.raises(DataError, match="nobody"):
        load_file(path, columns=COLUMNS | {"user": "nobody"}, protocol="last", days=7, users=None)


def test_a_file_with_nothing_to_find_is_refused(tmp_path):
    path = tmp_path / "events.csv"
    FRAME.head(1).write_csv(path)
    with pytest.raises(DataError, match="something to find"):
        load_file(path, columns=COLUMNS, protocol="last", days=7, users=None)
