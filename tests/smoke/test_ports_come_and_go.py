"""Ports come and go while others talk: no packet of theirs is lost, and nothing is left over."""

from __future__ import annotations

import re
import signal
import time
from typing import TYPE_CHECKING

from tests.smoke.netns import netns
from tests.smoke.ports import Container, wait_until
from tests.smoke.testpmd import running_testpmd
from tests.smoke.topology import buffers_in_use

if TYPE_CHECKING:
    from tests.smoke.topology import Lab

ROUNDS = 100


def test_ping_between_others_goes_on(lab: Lab) -> None:
    network = lab.network()
    one, other = lab.container(network, 1), lab.container(network, 2)
    space = lab.stack.enter_context(netns())
    newcomer = Container(lab.control, "pod:newcomer/eth0", 3, space)
    come_and_go(lab, network, newcomer)
    fds, buffers = lab.dataplane.open_fds(), buffers_in_use(lab.control)
    with one.netns.running("ping", "-n", "-q", "-i", "0.01", other.ip4) as ping:
        began_s = time.monotonic()
        for _ in range(ROUNDS):
            come_and_go(lab, network, newcomer)
        took_s = time.monotonic() - began_s
        ping.send_signal(signal.SIGINT)
        printed = ping.communicate(timeout=10)[0]
    match = re.search(r"(\d+) packets transmitted, (\d+) received", printed)
    assert match, printed
    sent, received = int(match[1]), int(match[2])
    assert sent > took_s * 50
    assert received == sent
    assert lab.dataplane.open_fds() == fds
    assert buffers_in_use(lab.control) <= buffers + 2


def come_and_go(lab: Lab, network: str, newcomer: Container) -> None:
    """Add a tap and a vhost-user port, and delete them."""
    lab.plug(newcomer, network)
    lab.application(network, 4).delete()
    newcomer.delete()


def test_kernel_port_deleted_under_load(lab: Lab) -> None:
    network = lab.network()
    one, other = lab.container(network, 1), lab.container(network, 2)
    with other.netns.running("iperf3", "-s"):
        wait_until(lambda: ":5201" in other.netns.run("ss", "-Hltn"), "iperf3 listens")
        with one.netns.running("iperf3", "-t", "30", "-c", other.ip4):
            wait_until(lambda: other.counters()["tx_gso_packets"] > 100, "traffic")
            other.delete()
            wait_until(lambda: one.drops().get("no_destination"), "traffic for the port that went")
    lab.dataplane.assert_alive()


def test_application_port_deleted_under_load(lab: Lab) -> None:
    network = lab.network()
    receiver, sender = lab.application(network, 1), lab.application(network, 2)
    options = (f"--tx-ip={sender.ip4},{receiver.ip4}", f"--eth-peer=0,{receiver.mac}")
    with running_testpmd(receiver, "rxonly"), running_testpmd(sender, "txonly", *options):
        wait_until(lambda: receiver.counters()["tx_packets"] > 1000, "traffic")
        receiver.delete()
        wait_until(lambda: sender.drops().get("no_destination"), "traffic for the port that went")
        sender.delete()
    assert not sender.path.exists()
    lab.dataplane.assert_alive()
