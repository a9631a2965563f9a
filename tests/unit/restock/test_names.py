import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SHOPS = re.compile(r"complete.?journey|online.?retail|instacart|tafeng|ta-feng", re.IGNORECASE)


def test_no_room_knows_a_dataset_by_name():
    """Only the sample's own reader may; settings name it to choose it."""
    allowed = {"cluster/sources/samples.py", "cluster/settings/data.py"}
    found = {
        path.relative_to(ROOT).as_posix()
        for room in ("cluster", "forecasting", "recsys", "rl", "serve", "restock")
        for path in (ROOT / room).rglob("*.py")
        if SHOPS.search(path.read_text())
    }
    assert found <= allowed
