"""What containers have of a dataplane's end: what must stay, and what is lost and for how long."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cni_virtio import links
from cni_virtio.ctl.agent_client import AgentError
from cni_virtio.links import LinkView
from tests.smoke.agent import Node
from tests.smoke.fleet import Fleet
from tests.smoke.netns import Netns
from tests.smoke.ports import wait_until
from tests.smoke.silence import Flow, under_way
from tests.smoke.stream import stream

IN_FLIGHT = 64
"""Packets that a dataplane may have in its hands when it is killed."""
SHORT_S = 2.0
"""In which what is sent at the flows' rate fits the queue of a tap."""
PATIENCE_S = 30


def link(space: Netns) -> LinkView:
    """Read the container's interface with its addresses and routes."""
    fd = os.open(space.path, os.O_RDONLY)
    try:
        view = links.inspect(fd, "eth0")
    finally:
        os.close(fd)
    assert view is not None
    return view


def port_names(here: Node) -> set[str]:
    """The ports that there are, none without a dataplane."""
    try:
        return here.ports()
    except AgentError:
        return set()


def is_back(here: Node, names: set[str]) -> bool:
    status = here.status()
    whole = status["dataplane"]["running"] and not status["failures"]
    return bool(whole) and names <= port_names(here)


@contextmanager
def losing_nothing(all_: Fleet) -> Iterator[None]:
    """Have traffic to all containers during the block, after which each has all that it had."""
    spaces = [each.space for each in all_.kernel]
    had = [link(space) for space in spaces]
    connections = [each.connections for each in all_.echoes]
    with stream(spaces[0], spaces[1], all_.kernel[1].ip4) as numbers, under_way(all_.flows):
        wait_until(lambda: all(len(flow.arrived) > 10 for flow in all_.flows), "all flows go")
        yield
    numbers.assert_whole()
    assert [link(space) for space in spaces] == had
    assert [each.connections for each in all_.echoes] == [n + 1 for n in connections]
    assert all(each.path.is_socket() for each in (*all_.clients, *all_.servers))


def until_all_go_on(here: Node, all_: Fleet, moment_s: float) -> None:
    """Wait until all ports are back, and what was sent after a moment has arrived at each."""
    wait_until(lambda: is_back(here, all_.port_names), "all ports are back", PATIENCE_S)
    wait_until(
        lambda: all(flow.first_after_s(moment_s) < float("inf") for flow in all_.flows),
        "all flows go on",
        PATIENCE_S,
    )


def figures(what: str, flows: Sequence[Flow], moment_s: float) -> str:
    """Say how long the flows were silent, and what they lost, for who reads the tests' output."""
    firsts = [1000 * flow.first_after_s(moment_s) for flow in flows]
    silences = [1000 * flow.silence_s(moment_s - 0.1) for flow in flows]
    lost = sum(flow.lost for flow in flows)
    return (
        f"{what}: first packet after {statistics.median(firsts):.0f} ms (median),"
        f" {max(firsts):.0f} ms (worst); silence {statistics.median(silences):.0f} ms,"
        f" {max(silences):.0f} ms; {lost} of {sum(flow.sent for flow in flows)} lost"
    )


def assert_little_lost(flows: Sequence[Flow], moment_s: float) -> None:
    """A tap keeps what is sent, if that is not for too long."""
    if max(flow.silence_s(moment_s - 0.1) for flow in flows) < SHORT_S:
        assert sum(flow.lost for flow in flows) <= IN_FLIGHT
