"""The dataplane dies in every way, many containers under traffic: none of them loses a thing."""

from __future__ import annotations

import os
import re
import resource
import signal
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cni_virtio import links
from cni_virtio.ctl.agent_client import query
from cni_virtio.links import LinkView
from tests.smoke.agent import Node, containers, node
from tests.smoke.fleet import KERNEL, Fleet, fleet
from tests.smoke.netns import Netns
from tests.smoke.ports import wait_until
from tests.smoke.silence import Flow, under_way
from tests.smoke.stream import stream
from tests.smoke.traffic import ping

GATEWAY = "10.88.0.1"
IN_FLIGHT = 64
"""Packets that a dataplane may have in its hands when it is killed."""
SHORT_S = 2.0
"""In which what is sent at the flows' rate fits the queue of a tap."""
LITTLE_MEMORY = 8 << 30
"""Of addresses: enough for a program, and not for what EAL reserves."""


def link(space: Netns) -> LinkView:
    """Read the container's interface with its addresses and routes."""
    fd = os.open(space.path, os.O_RDONLY)
    try:
        view = links.inspect(fd, "eth0")
    finally:
        os.close(fd)
    assert view is not None
    return view


def is_back(here: Node, names: set[str]) -> bool:
    status = here.status()
    return bool(status["dataplane"]["running"]) and not status["failures"] and names <= _ports(here)


def _ports(here: Node) -> set[str]:
    try:
        return here.ports()
    except Exception:
        return set()


def figures(what: str, flows: Sequence[Flow], since_s: float) -> str:
    """Say how long the flows were silent, and what they lost, for who reads the tests' output."""
    firsts = [1000 * flow.first_after_s(since_s) for flow in flows]
    lost = sum(flow.lost for flow in flows)
    return (
        f"{what}: first packet after {statistics.median(firsts):.0f} ms (median),"
        f" {max(firsts):.0f} ms (worst), {lost} of {sum(flow.sent for flow in flows)} lost"
    )


def assert_little_lost(flows: Sequence[Flow], since_s: float) -> None:
    for flow in flows:
        assert flow.first_after_s(since_s) < float("inf"), f"{flow.name} stays silent"
    if max(flow.silence_s(since_s - 0.1) for flow in flows) < SHORT_S:
        assert sum(flow.lost for flow in flows) <= IN_FLIGHT


@pytest.mark.timeout(120)
def test_fifty_kernel_and_four_user_space_containers_lose_nothing() -> None:
    with node(memory="256Mi") as here, fleet(here, kernel=50, clients=2, servers=2) as all_:
        spaces = [each.space for each in all_.kernel]
        had = [link(space) for space in spaces]
        connections = [each.connections for each in all_.echoes]
        with (
            stream(spaces[0], spaces[1], all_.kernel[1].ip4) as numbers,
            under_way(all_.flows),
        ):
            moment_s = kill_under_way(here, all_)
        numbers.assert_whole()
        assert [link(space) for space in spaces] == had
        assert [each.connections for each in all_.echoes] == [n + 1 for n in connections]
        kernel, user = all_.flows[:50], all_.flows[50:]
        print(figures("kernel", kernel, moment_s))
        print(figures("vhost-user", user, moment_s))
        assert_little_lost(kernel, moment_s)
        assert all(flow.first_after_s(moment_s) < float("inf") for flow in user)
        (said,) = re.findall(r"dataplane was away for \d+ ms .*", here.log())
        assert said.endswith("55 of 55 ports back")  # with the host's


def kill_under_way(here: Node, all_: Fleet) -> float:
    """Kill the dataplane and wait until its successor has all ports; give when that was."""
    names = all_.port_names
    wait_until(lambda: all(len(flow.arrived) > 10 for flow in all_.flows), "all flows go")
    moment_s = here.kill_dataplane()
    wait_until(lambda: is_back(here, names), "all ports are back", 30)
    wait_until(
        lambda: all(flow.first_after_s(moment_s) < float("inf") for flow in all_.flows),
        "all flows go on",
        30,
    )
    return moment_s


@contextmanager
def dead_and_nobody_knows(here: Node, number: signal.Signals) -> Iterator[None]:
    """End the dataplane with a signal, and keep the agent from noticing it during the block."""
    pid = int(here.status()["dataplane"]["pid"])
    assert here.process
    here.process.send_signal(signal.SIGSTOP)
    try:
        os.kill(pid, number)
        # It keeps its entry until the agent has seen it; what it had open is closed by then.
        wait_until(lambda: _state(pid) == "Z", "it is dead")
        yield
    finally:
        here.process.send_signal(signal.SIGCONT)


def _state(pid: int) -> str:
    """Read proc_pid_stat(5): Z is a process that has ended."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def pings_sent(space: Netns) -> int:
    """How many echo requests the container has sent."""
    lines = [line.split() for line in space.run("cat", "/proc/net/snmp").splitlines()]
    names, values = (line for line in lines if line[0] == "Icmp:")
    return int(dict(zip(names, values, strict=True))["OutEchos"])


def _last_error(here: Node) -> str:
    return str(here.status()["dataplane"]["last_error"])


def missing_failure(here: Node) -> str:
    return " ".join(each["failure"] for each in query(here.socket, "ports")["missing"])


@pytest.fixture(scope="module")
def three() -> Iterator[tuple[Node, Fleet]]:
    """A node with two kernel containers, and a user-space one of each kind."""
    with node() as here, fleet(here, kernel=2, clients=1, servers=1) as all_:
        yield here, all_


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGKILL])
@pytest.mark.parametrize("agent", ["first", "second"])
def test_a_tap_keeps_its_carrier_and_what_is_sent_on_it(
    three: tuple[Node, Fleet], agent: str, number: signal.Signals
) -> None:
    here, all_ = three
    space, peer = all_.kernel[0].space, all_.kernel[1]
    if agent == "second":  # which has never opened the taps itself
        here.end(signal.SIGKILL)
        here.start()
    assert ping(space, peer.ip4) == 3
    words = ("ping", "-n", "-c", "3", "-l", "3", "-W", "10", peer.ip4)
    with ExitStack() as stack:
        with dead_and_nobody_knows(here, number):
            assert link(space).carrier
            had = pings_sent(space)
            pings = stack.enter_context(space.running(*words))
            wait_until(lambda: pings_sent(space) >= had + 3, "they are sent")
        assert " 3 received" in pings.communicate(timeout=20)[0]
    wait_until(lambda: is_back(here, all_.port_names), "all ports are back")


def test_a_port_that_cannot_come_back_is_told_of_and_comes_back_once_it_can(
    three: tuple[Node, Fleet],
) -> None:
    here, all_ = three
    with containers(1) as (space,):
        here.add("x", space, **KERNEL)
        mac = link(space).mac
        space.ip("link del eth0")
        here.kill_dataplane()
        wait_until(lambda: all_.port_names <= _ports(here), "the others are back")
        assert ping(all_.kernel[0].space, all_.kernel[1].ip4) == 3
        (missing,) = query(here.socket, "ports")["missing"]
        assert missing["spec"]["name"] == "pod:x/eth0"
        wait_until(lambda: "is gone" in missing_failure(here), "the reason is told")
        assert "pod:x/eth0: interface eth0 is gone" in here.log()
        assert "5 of 6 ports back" in here.log()
        space.ip("tuntap add eth0 mode tap vnet_hdr", f"link set eth0 address {mac} up")
        wait_until(lambda: "pod:x/eth0" in _ports(here), "it is back, too")
        assert query(here.socket, "ports")["missing"] == []
        here.delete("x", space, **KERNEL)


def test_a_socket_that_nobody_listens_on_holds_up_no_other(three: tuple[Node, Fleet]) -> None:
    here, all_ = three
    keys = {"interface": "vhost-user", "vhostUser": {"mode": "server"}}
    with containers(1) as (space,):
        here.add("y", space, **keys)
        here.kill_dataplane()
        wait_until(lambda: is_back(here, {*all_.port_names, "pod:y/eth0"}), "all are back")
        assert not here.port("pod:y/eth0")["state"]["ready"]
        assert ping(all_.kernel[0].space, all_.kernel[1].ip4) == 3
        here.delete("y", space, **keys)


def test_a_dataplane_that_does_not_start_is_tried_again_ever_more_slowly(
    three: tuple[Node, Fleet],
) -> None:
    here, all_ = three
    assert here.process
    had = [link(each.space) for each in all_.kernel]
    limit = resource.prlimit(here.process.pid, resource.RLIMIT_AS)
    with stream(all_.kernel[0].space, all_.kernel[1].space, all_.kernel[1].ip4) as numbers:
        wait_until(lambda: numbers.read > 100, "numbers go")
        resource.prlimit(here.process.pid, resource.RLIMIT_AS, (LITTLE_MEMORY, limit[1]))
        here.kill_dataplane()
        wait_until(lambda: "cannot start: DPDK does not start" in _last_error(here), "it says why")
        wait_until(lambda: "in a row" in " ".join(here.status()["messages"]), "it says how often")
        resource.prlimit(here.process.pid, resource.RLIMIT_AS, limit)
        wait_until(lambda: is_back(here, all_.port_names), "all are back", 20)
    numbers.assert_whole()
    assert [link(each.space) for each in all_.kernel] == had
    assert re.search(r"\d dataplanes in a row did not last 10 s: the next start", here.log())
