"""Who reaches whom: a full mesh of pings."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cni_virtio.ctl.lab.icmp import Pinger
from cni_virtio.ctl.lab.wiring import opened

_THREADS = 4


@dataclass(frozen=True)
class Host:
    """One end: its addresses on a network; `netns` None if nothing can be sent from it."""

    name: str
    network: str
    addresses: tuple[str, ...]
    netns: str | None


@dataclass(frozen=True)
class Mesh:
    """Round trips in us between hosts by name; None where no answer came, `hint` perhaps why."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    rtts_us: dict[tuple[str, str], float | None]
    hint: str = ""

    @property
    def failed(self) -> list[tuple[str, str]]:
        """The pairs (source, target) without an answer."""
        return [pair for pair, rtt in self.rtts_us.items() if rtt is None]

    @property
    def ok(self) -> bool:
        """Whether there is a pair at all, and each has answered."""
        return bool(self.rtts_us) and not self.failed


def neighbours(hosts: Sequence[Host]) -> int:
    """Return how many entries a mesh needs in the kernel's neighbour tables."""
    return sum(
        len(target.addresses)
        for source in hosts
        for target in hosts
        if source.network == target.network and source.name != target.name
    )


def ping_mesh(hosts: Sequence[Host], timeout_s: float) -> Mesh:
    """Ping from each host to every other one on the same network, and time the answers."""
    reachable = [host for host in hosts if host.addresses]
    sources = [host for host in reachable if host.netns is not None]
    with ThreadPoolExecutor(_THREADS) as pool:
        rows = list(pool.map(lambda host: _row(host, reachable, timeout_s), sources))
    rtts = {pair: rtt for row in rows for pair, rtt in row.items()}
    return Mesh(_names(sources), _names(reachable), rtts)


def _row(
    source: Host, hosts: Sequence[Host], timeout_s: float
) -> dict[tuple[str, str], float | None]:
    targets = [
        host for host in hosts if host.network == source.network and host.name != source.name
    ]
    addresses = [_canonical(address) for host in targets for address in host.addresses]
    with opened(source.netns or "") as fd, Pinger(fd) as pinger:
        rtts = pinger.rtts_us(addresses, timeout_s)
    return {(source.name, host.name): _worst(host, rtts) for host in targets}


def _worst(host: Host, rtts: dict[str, float | None]) -> float | None:
    """Return the longest round trip to a host's addresses; None if one of them is silent."""
    found = [rtts[_canonical(address)] for address in host.addresses]
    known = [rtt for rtt in found if rtt is not None]
    return max(known) if len(known) == len(found) else None


def _canonical(address: str) -> str:
    return str(ipaddress.ip_address(address))


def _names(hosts: Sequence[Host]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(host.name for host in hosts))
