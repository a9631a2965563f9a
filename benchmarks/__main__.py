"""List the benchmarks, or run the quick form of each."""

import argparse
import subprocess
import sys
from pathlib import Path

_CASES = {
    "forecast_panels",
    "insight_items",
    "instances",
    "logs",
    "new_item_cases",
    "order_lines",
    "panels",
    "recommend_cases",
    "recommend_kept",
    "recommend_rows",
}
_PARTS = {
    "__init__",
    "__main__",
    "memory",
    "data_plane_restock",
    "fault_drills",
    "frame",
    "hosts",
    "gpu_policies",
    "nodes",
    "replay_report",
    "rolling_study",
    "serving_bare",
    "serving_batch",
    "serving_shop",
} | _CASES


def main() -> int:
    """Exit with 1 if a benchmark failed to run; a missed target is a figure, not a failure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--run", action="store_true", help="run the quick form of each")
    run = parser.parse_args().run
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in _PARTS)
    failed = []
    for name in names:
        print(f"python -m benchmarks.{name}", flush=True)
        if run and subprocess.run([sys.executable, "-m", f"benchmarks.{name}", "--quick"], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
