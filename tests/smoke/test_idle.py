"""A dataplane without traffic gives its core back, and wakes for the first packet."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.smoke.testpmd import running_testpmd
from tests.smoke.traffic import ping

if TYPE_CHECKING:
    from tests.smoke.topology import Driver, Lab

SILENCE_S = 1


def cycles(lab: Lab) -> dict[str, int]:
    workers = lab.control.workers()["workers"]
    counters = [key for key, value in workers[0].items() if isinstance(value, int)]
    return {key: sum(worker[key] for worker in workers) for key in counters}


def awake_share_of_a_silence(lab: Lab) -> float:
    before = cycles(lab)
    time.sleep(SILENCE_S)
    after = cycles(lab)
    rise = {key: after[key] - before[key] for key in after}
    assert rise["sleeps"] > 0
    awake = rise["busy_cycles"] + rise["idle_cycles"]
    return awake / (awake + rise["sleep_cycles"])


def test_kernel_ports_without_traffic(lab: Lab) -> None:
    network = lab.network()
    containers = [lab.container(network, number) for number in range(1, 21)]
    for container in containers:
        container.netns.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")
    assert awake_share_of_a_silence(lab) < 0.1
    assert ping(containers[0].netns, containers[-1].ip4, 1) == 1


def test_application_without_traffic(lab: Lab) -> None:
    network = lab.network()
    container, port = lab.container(network, 1), lab.application(network, 2)
    with running_testpmd(port, "icmpecho"):
        container.netns.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")
        assert awake_share_of_a_silence(lab) < 0.1
        assert ping(container.netns, port.ip4, 1) == 1


@pytest.mark.parametrize("driver", ["af_xdp", "af_packet"])
def test_uplink_without_traffic(lab: Lab, driver: Driver) -> None:
    """A driver that cannot notify is looked at every now and then."""
    outside = lab.uplink(driver)
    container = lab.container(lab.network(outside), 1)
    for end in (outside, container):
        end.netns.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")
    assert awake_share_of_a_silence(lab) < 0.5
    assert ping(outside.netns, container.ip4, 1) == 1
