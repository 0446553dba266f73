"""TCP between two kernel containers: iperf3, one stream and four.

Our worker and OVS own the forwarder's core; client and server share the load's core. The
kernel's bridge has no forwarder: it is measured with client and server on the load's core, as
ours, and with the client there and the server on the other core, the fastest of all placements
(the scheduler's own choice lies between).
"""

from __future__ import annotations

from functools import partial
from typing import Final

from tests.bench.bridge import apart, bridge
from tests.bench.iperf import tcp
from tests.bench.measure import CYCLES, RATE, Bench, Subject, Target
from tests.bench.ovs import PACKAGES
from tests.bench.ovs_pair import ovs
from tests.bench.pair import Make, ours

_BRIDGE: Final = "kernel bridge"
_BRIDGE_APART: Final = "kernel bridge, both cores"
_OVS: Final = "OVS-DPDK"


def _bench(name: str, title: str, streams: int, least: float) -> Bench:
    makes: dict[str, Make] = {"cni-virtio": ours, _BRIDGE: bridge, _BRIDGE_APART: apart, _OVS: ovs}
    return Bench(
        name,
        title,
        tuple(Subject(each, partial(tcp, make, streams)) for each, make in makes.items()),
        {RATE: "Gbit/s", CYCLES: "busy cycles/packet"},
        (
            Target(RATE, ">=", least, _BRIDGE),
            Target(RATE, ">=", least, _BRIDGE_APART),
            Target(RATE, ">=", 15, _OVS),
        ),
        ("iperf3", *PACKAGES),
    )


TCP1 = _bench("tcp1", "kernel container to kernel container, TCP, 1 stream", 1, 0.9)
TCP4 = _bench("tcp4", "kernel container to kernel container, TCP, 4 streams", 4, 0.6)
