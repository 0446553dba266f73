"""What two containers with kernel interfaces can do, whatever is behind the interfaces."""

from __future__ import annotations

from typing import Any

import pytest

from tests.smoke.attached import Attached
from tests.smoke.frames import IPV4, UDP, checksum_errors, ethernet, ipv4, receive_all, udp
from tests.smoke.netns import Netns
from tests.smoke.ports import counting, switch_offloads, wait_until
from tests.smoke.traffic import DATA_HASH, iperf3, ping, received_bytes, send_data

Pair = tuple[Attached, Attached]

QUEUES = 2
FAMILIES = ("ip4", "ip6")
LARGE_BYTES = 60_000
ATTEMPTS = 6


class KernelContainers:
    """The tests. A subclass has the fixture `pair`: on one network, with QUEUES queues each."""

    @pytest.mark.parametrize("family", FAMILIES)
    def test_ping(self, pair: Pair, family: str) -> None:
        one, other = pair
        assert ping(one.space, getattr(other, family)) == 3
        assert ping(other.space, getattr(one, family)) == 3

    @pytest.mark.parametrize("family", FAMILIES)
    def test_tcp_crosses_in_whole_large_segments(self, pair: Pair, family: str) -> None:
        one, other = pair
        with counting(one) as sent, counting(other) as got:
            longest = 0
            # One that has to send again, on a slow machine, may never get to large segments.
            for _ in range(ATTEMPTS):
                longest = max(longest, longest_frame(one, other, family))
                if longest > LARGE_BYTES:
                    break
        assert longest > LARGE_BYTES
        for rise in (sent, got):
            assert rise["sw_gso_packets"] == rise["sw_csum_packets"] == 0
            # A ring in the kernel may be full for a moment; TCP sends again then.
            assert set(rise["drops"]) <= {"tx_full"}
        assert sent["rx_gso_packets"] > 0
        assert got["tx_gso_packets"] > 0

    @pytest.mark.parametrize("family", FAMILIES)
    def test_flows_use_both_queues_in_both_directions(self, pair: Pair, family: str) -> None:
        before = [queues(each) for each in pair]
        for source, sink in (pair, pair[::-1]):
            target = getattr(sink, family)
            summary = iperf3(source.space, sink.space, target, "--parallel", "8")
            assert received_bytes(summary) > 1e6
        for each, had in zip(pair, before, strict=True):
            rises = [
                {key: queue[key] - old[key] for key in ("rx_packets", "tx_packets")}
                for queue, old in zip(queues(each), had, strict=True)
            ]
            assert len(rises) == QUEUES
            assert all(count > 20 for rise in rises for count in rise.values()), rises

    @pytest.mark.parametrize("family", FAMILIES)
    def test_udp_arrives_undamaged(self, pair: Pair, family: str) -> None:
        one, other = pair
        before = udp_faults(other.space)
        options = ("--udp", "--bitrate", "10M", "--length", "1200")
        report = iperf3(one.space, other.space, getattr(other, family), *options)["sum"]
        # An emulated machine may not keep up for a moment.
        assert report["lost_packets"] < report["packets"] / 2
        assert udp_faults(other.space) == before

    def test_checksums_that_the_sender_fills_in_arrive_as_they_are(self, pair: Pair) -> None:
        one, other = pair
        switch_offloads(one.space, "eth0", "tx")
        try:
            with other.space.packet_socket() as capture:
                for family in FAMILIES:
                    options = ("--udp", "--bitrate", "2M", "--length", "1200")
                    iperf3(one.space, other.space, getattr(other, family), *options)
                frames = receive_all(capture)
        finally:
            one.space.run("ethtool", "-K", "eth0", "tx", "on", "tso", "on")
        assert len(frames) > 200
        assert [frame for frame in frames if checksum_errors(frame)] == []

    def test_a_wrong_checksum_is_found_by_the_receiver(self, pair: Pair) -> None:
        one, other = pair
        before = udp_faults(other.space)
        datagram = bytearray(udp(9, 9, b"damaged"))
        datagram[6:8] = b"\x12\x34"
        packet = ipv4(one.ip4, other.ip4, UDP, bytes(datagram))
        with one.space.packet_socket() as out:
            out.send(ethernet(other.mac, one.mac, IPV4, packet))
        wait_until(
            lambda: udp_faults(other.space)["InCsumErrors"] == before["InCsumErrors"] + 1,
            "the receiver counts a wrong checksum",
        )


def longest_frame(source: Attached, sink: Attached, family: str) -> int:
    """Send data by TCP, which must arrive undamaged; give the longest frame that carried it."""
    with sink.space.packet_socket() as capture:
        assert send_data(source.space, sink.space, getattr(sink, family)) == DATA_HASH
        return max(len(frame.data) for frame in receive_all(capture))


def queues(attached: Attached) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = attached.counters()["queues"]
    return found


def udp_faults(space: Netns) -> dict[str, int]:
    """Give the kernel's counters of datagrams with wrong checksums, IPv4's and IPv6's."""
    names, values = (
        line.split()[1:]
        for line in space.run("cat", "/proc/net/snmp").splitlines()
        if line.startswith("Udp:")
    )
    of_ipv6 = dict(line.split() for line in space.run("cat", "/proc/net/snmp6").splitlines())
    return {
        "InCsumErrors": int(dict(zip(names, values, strict=True))["InCsumErrors"]),
        "Udp6InCsumErrors": int(of_ipv6["Udp6InCsumErrors"]),
    }
