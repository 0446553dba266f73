"""The dataplane dies in every way, many containers under traffic: none of them loses a thing."""

from __future__ import annotations

import os
import re
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cni_virtio.ctl.agent_client import query
from tests.smoke.agent import Node, containers, node
from tests.smoke.fleet import KERNEL, Fleet, fleet
from tests.smoke.netns import Netns
from tests.smoke.outages import (
    assert_little_lost,
    figures,
    is_back,
    link,
    losing_nothing,
    port_names,
    until_all_go_on,
)
from tests.smoke.ports import wait_until
from tests.smoke.stream import stream
from tests.smoke.traffic import ping

LITTLE_MEMORY = 8 << 30
"""Of addresses: enough for a program, and not for what EAL reserves."""


@pytest.mark.timeout(120)
def test_fifty_kernel_and_four_user_space_containers_lose_nothing() -> None:
    with node(memory="256Mi") as here, fleet(here, kernel=50, clients=2, servers=2) as all_:
        with losing_nothing(all_):
            killed_s = here.kill_dataplane()
            until_all_go_on(here, all_, killed_s)
        print(figures("killed, kernel", all_.to_kernel, killed_s))
        print(figures("killed, vhost-user", all_.to_user_space, killed_s))
        assert_little_lost(all_.to_kernel, killed_s)
        (said,) = re.findall(r"dataplane was away for \d+ ms .*", here.log())
        assert said.endswith("55 of 55 ports back")  # with the host's
        pid = here.status()["dataplane"]["pid"]
        for flow in all_.flows:
            flow.forget()
        with losing_nothing(all_):
            upgraded_s = time.monotonic()
            done = query(here.socket, "upgrade", timeout_s=60)
            until_all_go_on(here, all_, time.monotonic())
        print(done["text"])
        print(figures("upgraded, kernel", all_.to_kernel, upgraded_s))
        print(figures("upgraded, vhost-user", all_.to_user_space, upgraded_s))
        assert_little_lost(all_.to_kernel, upgraded_s)
        assert (done["ports"], done["ports_wanted"]) == (55, 55)
        assert done["from"]["pid"] == pid
        assert done["to"]["pid"] == here.status()["dataplane"]["pid"] != pid


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
        wait_until(lambda: all_.port_names <= port_names(here), "the others are back")
        assert ping(all_.kernel[0].space, all_.kernel[1].ip4) == 3
        (missing,) = query(here.socket, "ports")["missing"]
        assert missing["spec"]["name"] == "pod:x/eth0"
        wait_until(lambda: "is gone" in missing_failure(here), "the reason is told")
        assert "pod:x/eth0: interface eth0 is gone" in here.log()
        assert "5 of 6 ports back" in here.log()
        space.ip("tuntap add eth0 mode tap vnet_hdr", f"link set eth0 address {mac} up")
        wait_until(lambda: "pod:x/eth0" in port_names(here), "it is back, too")
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
