"""Hosts of this machine: network namespaces with addresses of their own, joined by a bridge, a Ray node in each.

Needs root and Linux's ``ip``. Unlike the nodes of :mod:`benchmarks.nodes`, which share an address, these reach each
other over a network only, and a host that is lost takes its link with it. The head and who drives are on the bridge.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.nodes import OBJECT_STORE_MB, find_running
from cluster.config import RuntimeSettings
from cluster.runtime import connect, set_environment

_BRIDGE, _LINK, _NETWORK, _PORT = "restock-br", "eth0", "10.177.0", 6399
HERE = f"{_NETWORK}.1"
"""Address of this process on the bridge."""
_IMAGE = Path(__file__).parents[1] / "cluster" / "deploy" / "Dockerfile"
_START_S = 90.0
_RAY = str(Path(sys.executable).with_name("ray"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A network namespace with one address."""

    name: str
    address: str

    @property
    def inside(self) -> tuple[str, ...]:
        """What a command begins with to run in it."""
        return ("ip", "netns", "exec", self.name)

    def processes(self) -> list[psutil.Process]:
        """What runs in it."""
        pids = (int(pid) for pid in _run("ip", "netns", "pids", self.name).split())
        return [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]

    def lose(self) -> None:
        """Pull its link, then end all of its processes at once."""
        _run("ip", "link", "delete", f"{self.name}-b")
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()


def why_no_hosts() -> str:
    """Empty where hosts can be made; else the reason."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if Path("/sys/class/net", _BRIDGE).exists():
        return f"{_BRIDGE} is there: another drill runs, or one that was killed left it (ip link delete {_BRIDGE})"
    try:
        _run("ip", "netns", "add", "restock-try")
        _run("ip", "netns", "delete", "restock-try")
        _run("ip", "link", "add", "restock-t1", "type", "veth", "peer", "name", "restock-t2")
        _run("ip", "link", "delete", "restock-t1")
    except (OSError, subprocess.CalledProcessError) as error:
        return f"this machine makes no network namespaces ({getattr(error, 'stderr', '') or error})".strip()
    return ""


@contextmanager
def join_hosts(count: int) -> Iterator[list[Host]]:
    """So many hosts on one bridge, on which this process is too; gone at the end."""
    with ExitStack() as stack:
        _run("ip", "link", "add", _BRIDGE, "type", "bridge")
        stack.callback(_quietly, "ip", "link", "delete", _BRIDGE)
        _run("ip", "address", "add", f"{HERE}/24", "dev", _BRIDGE)
        _run("ip", "link", "set", _BRIDGE, "up")
        yield [_make_host(number, stack) for number in range(2, count + 2)]


@contextmanager
def start_hosts(count: int, *, cpus: int) -> Iterator[list[Host]]:
    """Ray nodes on so many hosts beside a head without CPUs; yields those that are not lost yet.

    Ray notices lost hosts as in our image: call it before Ray is imported.
    """
    set_environment()
    for name, value in image_environment().items():
        os.environ.setdefault(name, value)
    with join_hosts(count) as hosts, ExitStack() as stack:
        head = _start_ray(f"--head --port={_PORT} --num-cpus=0 --include-dashboard=false", HERE)
        stack.callback(_end, head)
        with connect(RuntimeSettings(address=f"{HERE}:{_PORT}")):
            for number, host in enumerate(hosts, start=1):
                # One after another: nodes that start at once on few cores miss Ray's own deadline.
                node = _start_ray(f"--address={HERE}:{_PORT} --num-cpus={cpus}", host.address, inside=host.inside)
                stack.callback(_end, node)
                _wait_for(node, num_nodes=number + 1, name=host.name)
            yield hosts


def image_environment() -> dict[str, str]:
    """What the image tells Ray about lost hosts."""
    return dict(re.findall(r"\b(RAY_(?:health_check|grpc)\w+)=(\w+)", _IMAGE.read_text()))


def lose_host(hosts: list[Host], *, running: str) -> None:
    """Lose the first host that runs a worker of this title.

    Raises
    ------
    RuntimeError
        If none does.
    """
    host = find_running(hosts, processes_of=Host.processes, running=running)
    host.lose()
    hosts.remove(host)


def _make_host(number: int, stack: ExitStack) -> Host:
    host = Host(name=f"restock-{number}", address=f"{_NETWORK}.{number}")
    _run("ip", "netns", "add", host.name)
    stack.callback(_quietly, "ip", "netns", "delete", host.name)
    _run("ip", "link", "add", f"{host.name}-b", "type", "veth", "peer", "name", _LINK, "netns", host.name)
    _run("ip", "link", "set", f"{host.name}-b", "master", _BRIDGE, "up")
    for command in (f"address add {host.address}/24 dev {_LINK}", f"link set {_LINK} up", "link set lo up"):
        _run("ip", "-n", host.name, *command.split())
    return host


def _start_ray(options: str, address: str, *, inside: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    memory = OBJECT_STORE_MB * 1_000_000
    command = [*inside, _RAY, "start", "--block", f"--node-ip-address={address}", *options.split()]
    return subprocess.Popen(
        [*command, f"--object-store-memory={memory}"],
        # All share this machine's name, which is a loopback address: by it torch's workers would look for each other.
        env=os.environ | ({"GLOO_SOCKET_IFNAME": _LINK} if inside else {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _wait_for(process: subprocess.Popen[bytes], *, num_nodes: int, name: str) -> None:
    import ray

    deadline = time.monotonic() + _START_S
    while sum(node["Alive"] for node in ray.nodes()) < num_nodes:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{name}: its Ray node did not start within {_START_S:g} s; try on a quieter machine")
        time.sleep(0.2)


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(psutil.Error):
        for below in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            with suppress(psutil.Error):
                below.kill()
    process.wait()


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _quietly(*command: str) -> None:
    subprocess.run(command, check=False, capture_output=True)
