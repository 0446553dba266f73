"""Receive queues are spread over two workers, and moved under traffic without a packet lost."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.smoke.netns import netns
from tests.smoke.numbered import numbered, numbered_and_returned
from tests.smoke.ports import Container, Port, switch_offloads, wait_until
from tests.smoke.testpmd import running_testpmd
from tests.smoke.topology import Lab, dataplane_in_host, lab_on
from tests.smoke.traffic import ping
from tests.unit.dataplane_process import CORES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.smoke.topology import Driver

WORKER_CORES = CORES[:2]
ROUNDS = 30

pytestmark = pytest.mark.skipif(len(CORES) < 2, reason="two workers need two cores")


@pytest.fixture
def lab() -> Iterator[Lab]:
    cores = ",".join(map(str, WORKER_CORES))
    with dataplane_in_host("--cores", cores) as both, lab_on(*both) as lab:
        yield lab


def cores_of(*ports: Port) -> list[int]:
    """Give the core that serves each receive queue."""
    return [queue["core"] for port in ports for queue in port.counters()["queues"]]


def plugged(lab: Lab, network: str, number: int, queues: int = 1) -> Container:
    """Make a port that nobody sends to."""
    space = lab.stack.enter_context(netns())
    container = Container(lab.control, f"pod:{space.name}/eth0", number, space)
    lab.stack.callback(container.delete)
    lab.plug(container, network, queues)
    return container


def pair_of_each_core(containers: list[Container]) -> tuple[list[Container], list[Container]]:
    one, other = ([c for c in containers if cores_of(c) == [core]] for core in WORKER_CORES)
    assert len(one) == len(other) == 2
    return one, other


@contextmanager
def serving(sink: Container) -> Iterator[None]:
    """Have iperf3 listen."""
    with sink.netns.running("iperf3", "--server"):
        wait_until(lambda: ":5201" in sink.netns.run("ss", "-Hltn"), "iperf3 listens")
        yield


def test_load_is_even_after_deletions(lab: Lab) -> None:
    network = lab.network()
    ports = [plugged(lab, network, number) for number in range(1, 11)]
    assert Counter(cores_of(*ports)) == dict.fromkeys(WORKER_CORES, 5)
    on_first = [port for port in ports if cores_of(port) == [WORKER_CORES[0]]]
    for port in on_first:
        port.delete()
        counts = [worker["rx_queues"] for worker in lab.control.workers()["workers"]]
        assert max(counts) - min(counts) <= 1
    assert sorted(counts) == [2, 3]


@pytest.mark.parametrize("queues", [2, 3, 4])
def test_queues_of_one_port_are_on_both_workers(lab: Lab, queues: int) -> None:
    network = lab.network()
    others = [plugged(lab, network, number) for number in (2, 3)]
    port = plugged(lab, network, 1, queues)
    counts = Counter(cores_of(port))
    assert sum(counts.values()) == queues
    assert abs(counts[WORKER_CORES[0]] - counts[WORKER_CORES[1]]) <= 1
    for other in others:
        other.delete()
    assert sorted(Counter(cores_of(port)).values()) == sorted(counts.values())


def test_queues_that_a_frontend_does_not_use_do_not_count(lab: Lab) -> None:
    network = lab.network()
    one, other = (lab.application(network, number, queues=2) for number in (1, 2))
    with running_testpmd(one, "rxonly"), running_testpmd(other, "rxonly"):
        assert sorted(cores_of(one, other)) == WORKER_CORES


def test_nothing_is_lost_while_ports_come_and_go(lab: Lab) -> None:
    network = lab.network()
    source, sink = (lab.container(network, number, queues=2) for number in (1, 2))
    single = lab.container(network, 3)
    newcomers = [
        Container(lab.control, f"pod:new{number}/eth0", number, lab.stack.enter_context(netns()))
        for number in (11, 12, 13)
    ]
    source.know(sink)
    single.know(source)
    with numbered(source, sink) as flows, numbered(single, source) as more_flows:
        for _ in range(ROUNDS):
            for newcomer, queues in zip(newcomers, (1, 2, 3), strict=True):
                lab.plug(newcomer, network, queues)
            lab.application(network, 14).delete()
            assert len(lab.control.fdb(network)["entries"]) == 6
            for newcomer in newcomers:
                newcomer.delete()
    flows.assert_all_in_order()
    more_flows.assert_all_in_order()


def test_nothing_is_lost_to_and_from_an_application(lab: Lab) -> None:
    network = lab.network()
    source, application = lab.container(network, 1, queues=2), lab.application(network, 2, queues=2)
    source.know(application)
    # testpmd hands back a checksum that is still to be completed as if it were complete.
    switch_offloads(source.netns, "eth0", "tx")
    two_queues = ("--rxq=2", "--txq=2")
    with running_testpmd(application, "5tswap", *two_queues, device=",queues=2"):
        wait_until(lambda: application.state()["rx_queues"] == 2, "both queue pairs")
        wait_until(lambda: set(cores_of(application)) == set(WORKER_CORES), "both are served")
        with numbered_and_returned(source, application) as flows:
            for number in range(21, 21 + ROUNDS):
                plugged(lab, network, number).delete()
                lab.application(network, number).delete()
    flows.assert_all_in_order()


def test_busy_queues_move_apart(lab: Lab) -> None:
    """And what they receive meanwhile neither gets lost nor changes its order."""
    network = lab.network()
    containers = [lab.container(network, number) for number in (1, 2, 3, 4)]
    sources, sinks = pair_of_each_core(containers)
    for source, sink in zip(sources, sinks, strict=True):
        assert ping(source.netns, sink.ip4) == 3
    with ExitStack() as stack:
        for sink in sinks:
            stack.enter_context(serving(sink))
        all_flows = [
            stack.enter_context(numbered(source, sink))
            for source, sink in zip(sources, sinks, strict=True)
        ]
        for source, sink in zip(sources, sinks, strict=True):
            words = ("iperf3", "--bitrate", "3G", "--time", "60", "--client", sink.ip4)
            stack.enter_context(source.netns.running(*words))
        wait_until(lambda: sorted(cores_of(*sources)) == WORKER_CORES, "a move", timeout_s=20)
    for flows in all_flows:
        flows.assert_all_in_order()


@pytest.mark.parametrize("driver", ["af_xdp", "af_packet"])
def test_both_workers_send_to_one_queue_of_an_uplink(lab: Lab, driver: Driver) -> None:
    outside = lab.uplink(driver)
    network = lab.network(outside)
    containers = [lab.container(network, number) for number in (1, 2, 3, 4)]
    one, other = (pair[0] for pair in pair_of_each_core(containers))
    for container in (one, other):
        container.know(outside)
        assert ping(container.netns, outside.ip4) == 3
    with numbered(one, outside) as flows, numbered(other, outside, port=5001) as more_flows:
        for number in range(21, 21 + ROUNDS):
            plugged(lab, network, number).delete()
    flows.assert_all_in_order()
    more_flows.assert_all_in_order()
