"""``restock serve``: the service in the foreground."""

import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from cluster.config import Settings, load_settings
from cluster.errors import RestockError
from cluster.options import ConfigOption, SetOption
from cluster.runtime import set_environment
from serve.proxy import set_proxy_environment

if TYPE_CHECKING:
    from serve.app import ServiceHandle


def serve_command(
    config: ConfigOption = None,
    overrides: SetOption = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = None,
) -> None:
    """Serve forecasts, recommendations and order plans over HTTP until Ctrl-C or SIGTERM."""
    set_environment()
    given = [*(overrides or ()), *([f"serve.port={port}"] if port is not None else [])]
    settings = load_settings(config, overrides=given)
    set_proxy_environment(settings.serve)
    from serve.app import start  # here: importing Ray takes seconds, and 'restock --help' needs none

    with Console(stderr=True).status("Starting the service"):
        service = start(settings)
    with service:
        print(f"Serving at {service.url}, documentation at {service.url}/docs")
        print(f"{describe_access(settings)}\n")
        print("\n\n".join(example_calls(service.url, settings=settings)))
        print("\nCtrl-C ends it", flush=True)
        wait_for_signal(meanwhile=Follower(service).look, every_s=settings.serve.follow_s)
        print("Stopping", flush=True)


def describe_access(settings: Settings) -> str:
    """Who may call, in one sentence."""
    if settings.serve.access == "development":
        return (
            "Development access: everybody on this machine may do everything, no token is asked for; "
            "serve.access=tokens asks for one"
        )
    return "Calls need a token: 'restock tokens create NAME --role ROLE' prints one; the calls below read RESTOCK_TOKEN"


def example_calls(url: str, *, settings: Settings) -> list[str]:
    """Commands that call each route, to copy."""
    token = ' -H "authorization: Bearer $RESTOCK_TOKEN"' if settings.serve.access == "tokens" else ""
    get, post = f"curl -s{token}", f"curl -s{token} -H 'content-type: application/json'"
    return [
        f"{get} '{url}/v1/recommendations?user_id=1&k=5'",
        f"{post} {url}/v1/order-plans -d '{{\"limit\": 5}}'",
        f"{get} {url}/v1/models",
        f"curl -s {url}/readyz",
    ]


class Follower:
    """Releases what the champion aliases say when somebody has moved them, such as ``restock models promote``."""

    def __init__(self, service: "ServiceHandle") -> None:
        self._service = service
        self._seen = service.champions()

    def look(self) -> None:
        """Release once if aliases or dataset have moved since the last look; say what came of it."""
        try:
            found = self._service.champions()
            if found == self._seen:
                return
            # What cannot serve is tried once: not again until the aliases move.
            self._seen = found
            self._service.refresh()
            print("The champions have moved and serve", flush=True)
        except RestockError as error:
            print(f"The champions have moved, but do not serve: {error}", flush=True)


def wait_for_signal(*, meanwhile: Callable[[], None] | None = None, every_s: float = 0.0) -> None:
    """Return at the first SIGINT or SIGTERM; a second one during the shutdown acts as it always does.

    Parameters
    ----------
    meanwhile
        Called every so many seconds until then; with 0 seconds, never.
    """
    asked = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in signals}
    try:
        while not asked.wait(every_s or None):
            if meanwhile is not None:
                meanwhile()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
