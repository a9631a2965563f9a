"""``restock serve``: the service in the foreground."""

import signal
import threading
from typing import Annotated

import typer
from rich.console import Console

from cluster.config import Settings, load_settings
from cluster.options import ConfigOption, SetOption
from cluster.runtime import set_environment


def serve_command(
    config: ConfigOption = None,
    overrides: SetOption = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = None,
) -> None:
    """Serve forecasts, recommendations and order plans over HTTP until Ctrl-C or SIGTERM."""
    set_environment()
    from serve.app import start  # here: importing Ray takes seconds, and 'restock --help' needs none

    given = [*(overrides or ()), *([f"serve.port={port}"] if port is not None else [])]
    settings = load_settings(config, overrides=given)
    with Console(stderr=True).status("Starting the service"):
        service = start(settings)
    with service:
        print(f"Serving at {service.url}, documentation at {service.url}/docs")
        print(f"{describe_access(settings)}\n")
        print("\n\n".join(example_calls(service.url, settings=settings)))
        print("\nCtrl-C ends it", flush=True)
        wait_for_signal()
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


def wait_for_signal() -> None:
    """Return at the first SIGINT or SIGTERM; a second one during the shutdown acts as it always does."""
    asked = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in signals}
    try:
        asked.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
