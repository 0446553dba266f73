"""What a container must not send is dropped and counted by reason, and nothing else is."""

from __future__ import annotations

import struct
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.smoke.forgeries import HONEST, TAGGED, Pair, forgeries
from tests.smoke.frames import BROADCAST, EXPERIMENTAL, Frame, ethernet, receive_until
from tests.smoke.ports import Application, Container, counting, wait_until
from tests.smoke.testpmd import running_testpmd

if TYPE_CHECKING:
    from pathlib import Path

    from tests.smoke.ports import Port
    from tests.smoke.topology import Lab

PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 16, 1)
"""Of Ethernet frames."""


def deliver(sender: Container, receiver: Container, frames: list[bytes]) -> list[bytes]:
    """Send frames; give which of them arrived before another that passes anyway."""
    mark = uuid.uuid4().bytes
    with sender.packet_socket() as out, receiver.packet_socket() as capture:
        for frame in frames:
            out.send(frame)
        out.send(ethernet(receiver.mac, sender.mac, EXPERIMENTAL, mark))
        return among(frames, receive_until(capture, mark))


def among(frames: list[bytes], arrived: list[Frame]) -> list[bytes]:
    data = [each.data for each in arrived]
    return [frame for frame in frames if frame in data]


def forged_frames(sender: Port, receiver: Port) -> list[bytes]:
    return [frame for _, frame in forgeries(Pair(sender, receiver))]


def honest_frames(sender: Port, receiver: Port) -> list[bytes]:
    return [build(Pair(sender, receiver)) for build in HONEST.values()]


def expected_drops(sender: Port, receiver: Port) -> Counter[str]:
    return Counter(reason for reason, _ in forgeries(Pair(sender, receiver)))


def sent_drops(rise: dict[str, Any]) -> dict[str, int]:
    """Leave out replies to an application that is gone again."""
    return {key: n for key, n in rise["drops"].items() if key not in ("tx_full", "not_ready")}


def test_forged_frames_are_dropped_by_reason_and_honest_ones_pass(lab: Lab) -> None:
    network = lab.network()
    sender, receiver = lab.container(network, 1), lab.container(network, 2, spoof_check=False)
    forged, honest = forged_frames(sender, receiver), honest_frames(sender, receiver)
    with counting(sender) as rise:
        arrived = deliver(sender, receiver, forged + honest)
    assert arrived == honest
    assert rise["drops"] == expected_drops(sender, receiver)


def test_without_spoof_check_all_pass_but_tags(lab: Lab) -> None:
    """A tag would reach another network on the uplink, so spoofCheck does not matter."""
    network = lab.network()
    sender, receiver = lab.container(network, 1, spoof_check=False), lab.container(network, 2)
    frames = forged_frames(sender, receiver)
    with counting(sender) as rise:
        arrived = deliver(sender, receiver, frames)
    assert arrived == frames[: -len(TAGGED)]
    assert rise["drops"] == {"vlan": len(TAGGED)}


def test_the_outside_world_may_send_what_a_container_may_not(lab: Lab) -> None:
    """It is where routers and DHCP servers are."""
    outside = lab.uplink("af_xdp")  # AF_PACKET puts fragments together
    container = lab.container(lab.network(outside), 1)
    frames = forged_frames(outside, container)[: -len(TAGGED)]
    with counting(outside) as rise:
        assert deliver(outside, container, frames) == frames
    assert rise["drops"] == {}


@pytest.mark.parametrize("spoof_check", [True, False])
def test_application_is_checked_as_a_kernel_is(lab: Lab, tmp_path: Path, spoof_check: bool) -> None:
    network = lab.network()
    receiver, sender = (
        lab.container(network, 2, spoof_check=False),  # one that gets what is for routers, too
        lab.application(network, 1, spoof_check=spoof_check),
    )
    forged, honest = forged_frames(sender, receiver), honest_frames(sender, receiver)
    mark = uuid.uuid4().bytes
    end = ethernet(BROADCAST, sender.mac, EXPERIMENTAL, mark)
    with receiver.packet_socket() as capture, counting(sender) as rise:
        send_from_application(sender, tmp_path, [*forged, *honest, end])
        arrived = among(forged + honest, receive_until(capture, mark))
    if spoof_check:
        assert arrived == honest
        assert sent_drops(rise) == expected_drops(sender, receiver)
    else:
        assert arrived == forged[: -len(TAGGED)] + honest
        assert sent_drops(rise) == {"vlan": len(TAGGED)}


def send_from_application(port: Application, directory: Path, frames: list[bytes]) -> None:
    """Let testpmd send frames to a port's socket, once each."""
    path = directory / "frames.pcap"
    records = [struct.pack("<IIII", 0, 0, len(each), len(each)) + each for each in frames]
    path.write_bytes(PCAP_HEADER + b"".join(records))
    wait_for = port.counters()["rx_packets"] + len(frames)
    with running_testpmd(port, "io", eal=(f"--vdev=net_pcap0,rx_pcap={path}",)):
        wait_until(lambda: port.counters()["rx_packets"] >= wait_for, "all frames are sent")
