"""Agent and dataplane with the capabilities of their units and containers, and no others."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cni_virtio.ctl.agent_client import AgentError
from tests.smoke.agent import Node, containers, node_without_agent
from tests.smoke.confinement import confined
from tests.smoke.netns import Netns
from tests.smoke.ports import wait_until
from tests.smoke.supervised import dataplane
from tests.smoke.traffic import ping

UPLINKS = """
uplinks:
  - {name: xdp, device: "af_xdp:x0"}
  - {name: packet, device: "af_packet:p0"}
"""


@pytest.fixture
def here() -> Iterator[Node]:
    with node_without_agent(more_config=UPLINKS, supervised_by="other") as one:
        for name in ("x0", "p0"):
            one.host.run("ip", "link", "add", name, "type", "veth", "peer", f"{name}-peer")
            one.host.run("ip", "link", "set", f"{name}-peer", "up")
        one.confinement = confined("agent")
        yield one


@dataclass(frozen=True)
class ByProcess(Netns):
    """A namespace that a runtime names by a process in it."""

    pid: int

    @property
    def path(self) -> Path:
        return Path(f"/proc/{self.pid}/ns/net")


@contextmanager
def by_process(space: Netns) -> Iterator[ByProcess]:
    """Have a process of another user in a namespace."""
    words = ["ip", "netns", "exec", space.name, "setpriv", "--reuid=1000", "sleep", "60"]
    with subprocess.Popen(words) as process:
        try:
            name = Path(f"/proc/{process.pid}/comm")
            wait_until(lambda: name.read_text() == "sleep\n", "the process")
            yield ByProcess(space.name, process.pid)
        finally:
            process.kill()


def test_the_capabilities_do_for_all(here: Node) -> None:
    user = {"interface": "vhost-user", "vhostUser": {"uid": 1000, "gid": 1000}}
    with containers(2) as (space, b), by_process(space) as a:
        with dataplane(here, *confined("dataplane")):
            here.start()
            wait_until(lambda: _ports(here) == {"uplink:xdp", "uplink:packet"}, "the uplinks")
            here.add("a", a, isGateway=True, ipMasq=True)
            assert ping(a, "10.88.0.1") == 3
            here.add("b", b, **user)
            socket = here.directory / "vhost/b/eth0.sock"
            assert (socket.stat().st_uid, socket.parent.stat().st_uid) == (1000, 1000)
            socket.parent.chmod(0o755)  # it is the application's, which may
        with dataplane(here, *confined("dataplane")):
            wait_until(lambda: len(_ports(here)) == 5, "all is taken up")
            assert socket.parent.stat().st_mode & 0o777 == 0o700
            assert ping(a, "10.88.0.1") == 3
            here.delete("b", b, **user)
            here.delete("a", a, isGateway=True, ipMasq=True)
            assert here.end() == 0
    assert here.left_over() == {}


def _ports(here: Node) -> set[str]:
    try:
        return here.ports()
    except AgentError:
        return set()
