"""What code loads: run in a process of its own, since this one has loaded nearly everything."""

import json
import subprocess
import sys
from collections.abc import Sequence


def loaded_by(code: str, *, among: Sequence[str]) -> list[str]:
    """Which of some modules are loaded once ``code`` has run."""
    told = f"{code}; import json, sys; print(json.dumps([name for name in {list(among)!r} if name in sys.modules]))"
    command = [sys.executable, "-c", told]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    names: list[str] = json.loads(answer.stdout.splitlines()[-1])
    return names
