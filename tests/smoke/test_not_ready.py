"""A port whose peer is absent drops what is for it, counted as that and not as congestion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.smoke.frames import EXPERIMENTAL, ethernet
from tests.smoke.ports import Container, Port, counting, wait_until
from tests.smoke.traffic import ping

if TYPE_CHECKING:
    from tests.smoke.topology import Lab


def send_and_count(sender: Container, receiver: Port) -> dict[str, int]:
    """Send a frame and wait until it has been counted; give what the receiver's port dropped."""
    with counting(receiver) as rise, sender.packet_socket() as out:
        before = receiver.drops()
        out.send(ethernet(receiver.mac, sender.mac, EXPERIMENTAL, b""))
        wait_until(lambda: receiver.drops() != before, "the drop")
    drops: dict[str, int] = rise["drops"]
    return drops


def test_socket_without_an_application(lab: Lab) -> None:
    network = lab.network()
    sender, receiver = lab.container(network, 1), lab.application(network, 2)
    assert receiver.state()["ready"] is False
    assert send_and_count(sender, receiver) == {"not_ready": 1}


def test_interface_that_is_down(lab: Lab) -> None:
    network = lab.network()
    sender, receiver = lab.container(network, 1), lab.container(network, 2)
    receiver.netns.ip("link set eth0 down")
    # The sender's kernel has news of its own for all, of IPv6.
    assert send_and_count(sender, receiver).keys() == {"not_ready"}
    receiver.netns.ip("link set eth0 up")
    assert ping(sender.netns, receiver.ip4) == 3
