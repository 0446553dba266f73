"""A frame over the MTU of the port that it leaves by is dropped and counted there."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from tests.smoke.frames import BROADCAST, EXPERIMENTAL, ethernet, receive_until
from tests.smoke.ports import counting
from tests.smoke.traffic import DATA_HASH, send_data

if TYPE_CHECKING:
    from tests.smoke.topology import Lab

ETHERNET_HEADER_BYTES = 14


@pytest.mark.parametrize("broadcast", [False, True])
def test_frame_over_the_mtu_is_too_big(lab: Lab, broadcast: bool) -> None:
    network = lab.network()
    sender, narrow = lab.container(network, 1), lab.container(network, 2, port_mtu=1280)
    to = BROADCAST if broadcast else narrow.mac
    too_big, fits = (uuid.uuid4().bytes.ljust(size, b"\0") for size in (1281, 1280))
    with (
        sender.packet_socket() as out,
        narrow.packet_socket() as seen,
        counting(narrow) as rise,
    ):
        out.send(ethernet(to, sender.mac, EXPERIMENTAL, too_big))
        out.send(ethernet(to, sender.mac, EXPERIMENTAL, fits))
        arrived = receive_until(seen, fits[:16])
    assert not [frame for frame in arrived if too_big[:16] in frame.data]
    assert len(arrived[-1].data) == 1280 + ETHERNET_HEADER_BYTES
    assert rise["drops"] == {"too_big": 1}


def test_tcp_segment_is_judged_by_what_it_is_cut_into(lab: Lab) -> None:
    """TCP agrees on segments that fit the narrower interface, and then nothing is dropped."""
    network = lab.network()
    sender, narrow = lab.container(network, 1), lab.container(network, 2, port_mtu=1280)
    narrow.netns.ip("link set eth0 mtu 1280")
    with counting(narrow) as rise:
        assert send_data(sender.netns, narrow.netns, narrow.ip4) == DATA_HASH
    assert rise["tx_gso_packets"] > 0
    assert rise["drops"] == {}


def test_jumbo_frames_pass_where_the_ports_allow_them(lab: Lab) -> None:
    network = lab.network(mtu=9000)
    pair = [lab.container(network, number, port_mtu=9000) for number in (1, 2)]
    for container in pair:
        container.netns.ip("link set eth0 mtu 9000")
    one, other = pair
    whole = ("ping", "-n", "-q", "-c", "1", "-M", "do", "-s", "8972")
    one.netns.run(*whole, other.ip4)
    assert send_data(one.netns, other.netns, other.ip4) == DATA_HASH
