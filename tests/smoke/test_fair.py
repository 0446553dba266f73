"""One container that floods all others is held to its share; what the others say arrives."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from tests.smoke.frames import BROADCAST, EXPERIMENTAL, ethernet, receive_until
from tests.smoke.ports import counting, wait_until
from tests.smoke.testpmd import running_testpmd
from tests.smoke.traffic import ping

if TYPE_CHECKING:
    from tests.smoke.topology import Lab

MEMBERS = 12
ENOUGH = 100_000


def test_a_flood_of_broadcasts_is_bounded_and_others_are_not(lab: Lab) -> None:
    network = lab.network()
    one, other, *_ = [lab.container(network, number) for number in range(2, 2 + MEMBERS)]
    attacker = lab.application(network, 1, spoof_check=False)
    with (
        running_testpmd(attacker, "txonly", f"--eth-peer=0,{BROADCAST}"),
        counting(attacker) as flood,
        counting(one) as reached,
    ):
        wait_until(lambda: attacker.drops().get("flood", 0) > ENOUGH, "the flood is held back")
        # Neither knows the other yet: this takes broadcasts of theirs.
        assert ping(one.netns, other.ip4) == 3
    assert "flood" not in one.drops()
    assert "flood" not in other.drops()
    assert 0 < reached["tx_packets"] < flood["rx_packets"] / 2


def test_what_a_container_says_at_first_is_no_flood(lab: Lab) -> None:
    network = lab.network()
    one, other, *_ = [lab.container(network, number) for number in range(2, 2 + MEMBERS)]
    end = uuid.uuid4().bytes
    with other.packet_socket() as sink, one.packet_socket() as source:
        for _ in range(9):
            source.send(ethernet(BROADCAST, one.mac, EXPERIMENTAL, b"first"))
        source.send(ethernet(BROADCAST, one.mac, EXPERIMENTAL, end))
        frames = receive_until(sink, end)
    assert sum(frame.type == EXPERIMENTAL for frame in frames) == 10
    assert "flood" not in one.drops()
