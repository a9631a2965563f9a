"""Ray's authentication mode, which Ray reads when it is imported: in processes of their own."""

import os
import subprocess
import sys

_LOCAL = """
import ray
from ray._raylet import AuthenticationMode, get_authentication_mode
from cluster import runtime
from cluster.config import RuntimeSettings

runtime._start_local = lambda settings: None
with runtime.connect(RuntimeSettings(auth="{auth}")):
    print(get_authentication_mode() == AuthenticationMode.TOKEN)
"""


def sends_token(auth: str) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", _LOCAL.format(auth=auth)],
        env=os.environ | {"RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1] == "True"


def test_the_setting_turns_the_token_on_although_ray_was_imported_before() -> None:
    assert sends_token("token")


def test_without_the_setting_what_the_environment_says_stays() -> None:
    assert not sends_token("disabled")
