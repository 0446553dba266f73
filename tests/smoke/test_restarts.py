"""The dataplane ends in every way, alone or with its agent, and what containers have goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.smoke.agent import Node, containers, node, until_gone
from tests.smoke.netns import Netns
from tests.smoke.ports import wait_until
from tests.smoke.traffic import ping

KEYS: dict[str, Any] = {"isGateway": True}
GATEWAY = "10.88.0.1"


@pytest.fixture
def here() -> Iterator[Node]:
    with node() as one:
        yield one


@pytest.fixture
def a(here: Node) -> Iterator[Netns]:
    """A container that can ping the host."""
    with containers(1) as (one,):
        here.add("a", one, **KEYS)
        assert ping(one, GATEWAY) == 3
        yield one


@contextmanager
def counting_losses(space: Netns) -> Iterator[list[int]]:
    """Give a list that holds, after the block, how many of the pings sent meanwhile were lost."""
    losses: list[int] = []
    words = ("ping", "-n", "-q", "-i", "0.01", "-W", "1", GATEWAY)
    with space.running(*words) as process:
        yield losses
        os.kill(_child(process), signal.SIGINT)
        printed = process.communicate(timeout=10)[0]
    sent, received = re.findall(r"(\d+) (?:packets transmitted|received)", printed)
    losses.append(int(sent) - int(received))


def _child(process: subprocess.Popen[str]) -> int:
    return process.pid  # taskset and ip netns exec replace themselves


def test_the_dataplane_is_brought_back_with_all_that_it_had(here: Node, a: Netns) -> None:
    with containers(20) as others:
        for number, space in enumerate(others):
            here.add(f"c{number}", space, **KEYS)
        before = here.ports()
        has = _addresses_and_routes(a)
        with counting_losses(a) as losses:
            here.kill_dataplane()
            wait_until(lambda: _ports(here) == before, "all ports are back")
            time.sleep(0.2)
        assert losses[0] < 100  # at 10 ms each
        assert _addresses_and_routes(a) == has
        assert ping(others[-1], GATEWAY) == 3
        assert here.status()["dataplane"]["restarts"] == 1
        assert here.status()["failures"] == {}


def _addresses_and_routes(space: Netns) -> str:
    addresses = re.findall("inet6? [^ ]+", space.run("ip", "addr", "show", "eth0"))
    return "\n".join([*addresses, space.run("ip", "route"), space.run("ip", "-6", "route")])


def _ports(here: Node) -> set[str]:
    try:
        return here.ports()
    except Exception:
        return set()


def test_a_port_that_cannot_come_back_holds_up_no_other(here: Node, a: Netns) -> None:
    with containers(1) as (b,):
        here.add("b", b, **KEYS)
        b.ip("link del eth0")
        here.kill_dataplane()
        wait_until(lambda: "pod:a/eth0" in _ports(here), "the other port is back")
        assert ping(a, GATEWAY) == 3
        wait_until(lambda: "pod:b/eth0" in here.status()["failures"], "it is reported")
        assert "interface eth0 is gone" in here.status()["failures"]["pod:b/eth0"]
        here.delete("b", b, **KEYS)
        wait_until(lambda: here.status()["failures"] == {}, "it is wanted no more")


def test_both_end_and_come_back(here: Node, a: Netns) -> None:
    pid = here.status()["dataplane"]["pid"]
    assert here.end() == 0
    until_gone(pid)
    here.start()
    wait_until(lambda: "pod:a/eth0" in _ports(here), "the port is back")
    assert ping(a, GATEWAY) == 3
    here.delete("a", a, **KEYS)
    assert here.left_over() == {}


def test_del_while_the_dataplane_is_dead(here: Node, a: Netns) -> None:
    pid = here.status()["dataplane"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    here.delete("a", a, **KEYS)
    assert "eth0" not in a.run("ip", "link")
    assert here.left_over() == {}
    wait_until(
        lambda: _ports(here) == set() and here.status()["dataplane"]["running"], "it is back"
    )


def test_at_the_end_nothing_is_left(here: Node, a: Netns) -> None:
    pages = _hugepages()
    here.delete("a", a, **KEYS)
    pid = here.status()["dataplane"]["pid"]
    assert here.end() == 0
    until_gone(pid)
    left = {path.name for path in here.directory.iterdir()}
    assert left == {"agent.yaml", "agent.log", "ipam", "state"}
    assert {path.name for path in (here.directory / "state").iterdir()} == {
        "attachments",
        "quarantine",
    }
    assert here.left_over() == {}
    assert _hugepages() <= pages


def _hugepages() -> int:
    return int(Path("/proc/sys/vm/nr_hugepages").read_text())
