"""Hosts in network namespaces reach this process over the bridge, and a lost one takes its processes with it."""

import socket
import subprocess
import sys

import pytest

from benchmarks.hosts import HERE, join_hosts, why_no_hosts

CALL = "import socket, sys, time; socket.create_connection((sys.argv[1], int(sys.argv[2])), 60); time.sleep(600)"


def test_hosts_have_addresses_of_their_own_and_are_lost_whole() -> None:
    if reason := why_no_hosts():
        # Namespaces and veth need root and a kernel that has them, which no change of ours can bring.
        pytest.skip(reason)
    with join_hosts(2) as hosts, socket.create_server((HERE, 0)) as server:
        port = str(server.getsockname()[1])
        seen, callers = {}, []
        for host in hosts:
            callers.append(subprocess.Popen([*host.inside, sys.executable, "-c", CALL, HERE, port]))
            _, (address, _) = server.accept()
            seen[host.name] = address
        assert seen == {host.name: host.address for host in hosts}
        hosts[0].lose()
        assert callers[0].wait() == -9
        assert callers[1].poll() is None
        hosts[1].lose()
        callers[1].wait()
    assert "restock" not in subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
