"""What the VM's NICs are plugged into: a netns with the other end of each one's wire."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.smoke.netns import Netns, netns
from tests.smoke.ports import switch_offloads

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Nic:
    """A NIC of the VM. What its wire leads to has the address `ip4`, `ip6` on `far_ifname`."""

    model: str
    number: int
    queues: int
    offloads: tuple[str, ...]
    """What it may do and can, as the dataplane shows it; none: nothing of what it can."""

    def __str__(self) -> str:
        return self.model + ("" if self.offloads else "-without-offloads")

    @property
    def tap(self) -> str:
        return f"nic{self.number}"

    @property
    def far_ifname(self) -> str:
        return f"out{self.number}"

    @property
    def pci_address(self) -> str:
        return f"0000:00:{0x10 + self.number:02x}.0"

    @property
    def wire_ifname(self) -> str:
        """Where to look at what it sends: at the very connector, if it has nothing left to do."""
        return self.far_ifname if self.offloads else self.tap

    @property
    def mac(self) -> str:
        return f"02:00:00:00:0a:{self.number:02x}"

    @property
    def far_mac(self) -> str:
        return f"02:00:00:00:0b:{self.number:02x}"

    @property
    def network(self) -> int:
        """Third byte of its IPv4 addresses, and last group of its IPv6 prefix."""
        return 20 + self.number

    def ip4(self, host: int) -> str:
        return f"10.9.{self.network}.{host}"

    def ip6(self, host: int) -> str:
        return f"fd00:9:{self.network}::{host:x}"

    def conf(self, directory: Path) -> dict[str, Any]:
        """Give the keys of a netconf for its network."""
        ranges = [[{"subnet": f"{self.ip4(0)}/24"}], [{"subnet": f"{self.ip6(0)}/64"}]]
        data = str(directory / "ipam")
        ipam = {"type": "host-local", "dataDir": data, "ranges": ranges}
        return {"name": f"lan{self.number}", "ipam": ipam}

    @property
    def far_ip4(self) -> str:
        return self.ip4(254)

    @property
    def far_ip6(self) -> str:
        return self.ip6(254)


VIRTIO = Nic("virtio-net-pci", 0, 2, ("tx_checksum", "tso4", "tso6", "rx_checksum", "lro"))
E1000E = Nic("e1000e", 1, 1, ("tx_checksum", "rx_checksum"))
PLAIN = Nic("virtio-net-pci", 2, 1, ())
NICS = (VIRTIO, E1000E, PLAIN)

TWIN = "virtio_user0"
"""The host's interface on the wire of VIRTIO."""


@contextmanager
def wires() -> Iterator[Netns]:
    """Make the netns with the wire of every NIC, for the VM to be started in."""
    with netns() as space:
        for nic in NICS:
            _plug(space, nic)
        yield space


def _plug(space: Netns, nic: Nic) -> None:
    """Join a tap, the NIC's connector, by a hub to a pair whose far end is the peer.

    The tap hands on segments over the MTU and checksums yet to be filled in, as the NIC's driver
    asked the NIC to do it. The near end of the pair does what the NIC would have done.
    """
    tap, near, far, hub = nic.tap, f"near{nic.number}", nic.far_ifname, f"hub{nic.number}"
    queues = "multi_queue" if nic.queues > 1 else ""
    space.ip(
        f"tuntap add dev {tap} mode tap vnet_hdr {queues}",
        f"link add {near} type veth peer name {far}",
        f"link add {hub} type bridge forward_delay 0 mcast_snooping 0",
        *(f"link set {end} master {hub}" for end in (tap, near)),
        # A frame that comes back the way it went must not teach anything.
        *(f"link set {end} type bridge_slave learning off flood on" for end in (tap, near)),
        f"link set {far} address {nic.far_mac}",
        f"addr add {nic.far_ip4}/24 dev {far}",
        f"addr add {nic.far_ip6}/64 dev {far} nodad",
    )
    for silent in (hub, tap, near):
        space.run("sysctl", "-qw", f"net.ipv6.conf.{silent}.disable_ipv6=1")
    switch_offloads(space, near, "tx", "tso", "gso", "gro")
    switch_offloads(space, far, "gro")
    # Else the hub would answer for the address of the far end, and take its traffic.
    space.ip(f"link set {hub} arp off", *(f"link set {name} up" for name in (hub, tap, near, far)))
