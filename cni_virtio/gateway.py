"""The host's interface in a network: a tap with the gateway's addresses, as on a bridge."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from pathlib import Path

from cni_virtio import departure, links, tap
from cni_virtio.links import LinkConfig
from cni_virtio.netns import NetnsError
from cni_virtio.ports import gateway_ifname
from dataplane.wire import PortSpec

log = logging.getLogger(__name__)

_FORWARDING = {
    4: Path("/proc/sys/net/ipv4/ip_forward"),
    6: Path("/proc/sys/net/ipv6/conf/all/forwarding"),
}


class Gateways:
    """The host's interfaces, by network, in the agent's own namespace."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._addresses: dict[str, set[str]] = {}

    def open(self, spec: PortSpec, mtu: int, addresses: Iterable[str]) -> list[int]:
        """Make the interface, or take up the one that is there; return the fds of its port.

        Raises NetnsError; an interface that this call made is gone then.
        """
        network = spec.network or ""
        ifname, given = gateway_ifname(network), tuple(addresses)
        fds, made = tap.create_or_attach(ifname, spec.queues)
        try:
            # With the addresses, where it is new: coming up is when the kernel announces them.
            links.configure(None, ifname, LinkConfig(spec.mac, mtu, given if made else ()))
            with self._lock:
                self._addresses[network] = set(given if made else ())
            self.add_addresses(network, given)
        except NetnsError:
            tap.close_all(fds)
            if made:
                links.delete_link(None, ifname, "tun")
            raise
        return tap.for_dataplane(fds, None, vhost_net=spec.kind == "ethdev")

    def add_addresses(self, network: str, addresses: Iterable[str]) -> None:
        """Give the host those addresses (with prefix length) that it lacks, and let it forward.

        Raises NetnsError naming the address.
        """
        ifname = gateway_ifname(network)
        with self._lock:
            known = self._addresses.setdefault(network, set())
            for address in addresses:
                if address not in known:
                    links.add_address(None, ifname, address)
                    known.add(address)
                _forward(6 if ":" in address else 4)

    def close(self, network: str) -> None:
        """Remove the interface; that it is gone already is fine. Raises NetnsError."""
        with self._lock:
            self._addresses.pop(network, None)
            departure.delete_link(None, gateway_ifname(network), "tun")


def _forward(version: int) -> None:
    path = _FORWARDING[version]
    try:
        with path.open("rb", buffering=0) as file:
            off = file.read(1) == b"0"
        if off:
            path.write_text("1", "ascii")
    except OSError as error:
        log.warning("cannot let the host forward IPv%d: %s: %s", version, path, error.strerror)
