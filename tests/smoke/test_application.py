"""testpmd as the user-space application: both roles on the socket, and it may die and return."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.smoke.frames import IPV4, UDP, ethernet, ipv4, udp
from tests.smoke.ports import wait_until
from tests.smoke.prerequisites import free_hugepages
from tests.smoke.testpmd import HUGEPAGES, running_testpmd
from tests.smoke.traffic import ping, reaches_nobody

if TYPE_CHECKING:
    from dataplane.specs import Mode
    from tests.smoke.topology import Lab

SPLIT_RING, PACKED_RING = "", ",packed_vq=1,in_order=1"
VIRTIO_F_RING_PACKED = 1 << 34


@pytest.mark.parametrize("ring", [SPLIT_RING, PACKED_RING], ids=["split", "packed"])
@pytest.mark.parametrize("mode", ["client", "server"])
def test_answers_ping_and_does_so_again_after_kill_9(lab: Lab, mode: Mode, ring: str) -> None:
    network = lab.network()
    container, port = lab.container(network, 1), lab.application(network, 2, mode=mode)
    device = ring + (",server=1" if mode == "server" else "")
    for _ in range(2):
        with running_testpmd(port, "icmpecho", device=device) as process:
            assert ping(container.netns, port.ip4) == 3
            assert bool(port.state()["features"] & VIRTIO_F_RING_PACKED) == (ring == PACKED_RING)
            process.kill()
        wait_until(lambda: not port.state()["ready"], "its end is noticed")
        if mode == "server":
            port.path.unlink()
    assert reaches_nobody(container.netns, port.ip4)


def test_two_applications_reach_each_other(lab: Lab) -> None:
    network = lab.network()
    sender, replier = lab.application(network, 1), lab.application(network, 2)
    start = (f"--eth-peer=0,{replier.mac}", f"--tx-ip={sender.ip4},{replier.ip4}", "--tx-first")
    with (
        running_testpmd(replier, "5tswap"),
        running_testpmd(sender, "5tswap", *start),
    ):
        wait_until(lambda: sender.counters()["rx_packets"] > 1000, "packets go to and fro")
    for port in (sender, replier):
        assert {"spoof_mac", "spoof_ipv4"}.isdisjoint(port.drops())


def test_two_queue_pairs(lab: Lab) -> None:
    network = lab.network()
    container = lab.container(network, 1)
    port = lab.application(network, 2, queues=2)
    queues = ("--rxq=2", "--txq=2")
    with (
        running_testpmd(port, "5tswap", *queues, device=",queues=2"),
        container.packet_socket() as out,
    ):
        wait_until(lambda: port.state()["rx_queues"] == 2, "both queue pairs")
        assert port.state()["tx_queues"] == 2
        for source_port in range(1000, 1050):
            packet = ipv4(container.ip4, port.ip4, UDP, udp(source_port, 9, b"flow"))
            out.send(ethernet(port.mac, container.mac, IPV4, packet))
        wait_until(lambda: port.counters()["rx_packets"] >= 50, "each comes back")
        for queue in port.counters()["queues"]:
            assert queue["tx_packets"] > 0
            assert queue["rx_packets"] > 0


def test_memory_in_hugepages(lab: Lab) -> None:
    network = lab.network()
    container, port = lab.container(network, 1), lab.application(network, 2)
    with free_hugepages(64), running_testpmd(port, "icmpecho", memory=HUGEPAGES):
        assert ping(container.netns, port.ip4) == 3
