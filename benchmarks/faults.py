"""What a lost node costs: ingest, each training and the service, undisturbed and with a node lost in the middle.

Three Ray nodes on this machine beside a head that only drives; the lost one loses all of its processes at once. Every
drill runs in a process of its own (``benchmarks.fault_drills``). ``seconds_lost`` is against the faster of the
undisturbed passes; ``result_gap`` is how far the result is from that of an undisturbed pass: files that differ
(ingest), the largest relative difference of forecasts or weights, how much higher the best cost is (policies), failed
requests (serving). Several nodes on one machine share its cores: seconds say what is lost, not how fast a cluster is.
"""

import argparse
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.fault_drills import DRILLS
from benchmarks.frame import make_parser, make_target, report

Row = dict[str, Any]

_QUICK = ("ingest",)
_TIMEOUT_S, _END_S = 900, 60


def main() -> None:
    """Run the drills one after another."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--drills", nargs="+", choices=list(DRILLS), default=list(DRILLS))
    parser.add_argument("--passes", type=int, default=2, help="undisturbed ones; the first pays for start-up")
    parser.add_argument("--hosts", action="store_true", help="nodes are hosts in network namespaces (needs root)")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.drills, arguments.passes = list(_QUICK), 1
    rows = []
    for name in arguments.drills:
        rows.append(_run(name, arguments))
        print(rows[-1], file=sys.stderr)  # a run of many minutes may be cut off
    targets = [
        make_target(f"{row['drill']}: result apart", value=row["result_gap"], target=row["tolerance"], at_least=False)
        for row in rows
        if "skipped" not in row
    ]
    report("faults", rows, targets=targets, arguments=arguments)


def _run(name: str, arguments: argparse.Namespace) -> Row:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.fault_drills", name]
    process = subprocess.Popen(
        [*command, "--passes", str(arguments.passes), *(["--hosts"] if arguments.hosts else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    try:
        out, err = process.communicate(timeout=_TIMEOUT_S)
        row: Row = json.loads(out.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        _end(process)
        return {"drill": name, "skipped": f"took more than {_TIMEOUT_S} s"}
    except (IndexError, ValueError):
        return {"drill": name, "skipped": (err.strip().splitlines() or ["no word"])[-1][:300]}
    return row


def _end(process: "subprocess.Popen[str]") -> None:
    """As Ctrl-C does, so that the drill takes its nodes with it; by force if it does not listen."""
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    main()
