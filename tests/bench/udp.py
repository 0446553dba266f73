"""64-byte UDP packets from one kernel container to another: sockperf, as fast as it sends.

`rate` is what the receiving interface counted, `read` what the program there received. Our
worker and OVS own the forwarder's core; client and server share the load's core. The kernel's
bridge has no forwarder: it is measured with client and server on the load's core, as ours, and
with the server on the other core, the fastest of all placements.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from tests.bench.bridge import apart, bridge
from tests.bench.measure import CYCLES, RATE, Bench, Effort, Figures, Subject, Target
from tests.bench.ovs import PACKAGES
from tests.bench.ovs_pair import ovs
from tests.bench.pair import Make, ours
from tests.bench.sockperf import datagrams_per_s

_BRIDGE: Final = "kernel bridge"
_BRIDGE_APART: Final = "kernel bridge, both cores"
_OVS: Final = "OVS-DPDK"
_MAKES: Final[dict[str, Make]] = {
    "cni-virtio": ours,
    _BRIDGE: bridge,
    _BRIDGE_APART: apart,
    _OVS: ovs,
}


def _measure(make: Make, effort: Effort) -> Figures:
    with make() as pair:
        return datagrams_per_s(pair, effort.seconds / 2)


UDP = Bench(
    "udp",
    "kernel container to kernel container, UDP, 64 B",
    tuple(Subject(name, partial(_measure, make)) for name, make in _MAKES.items()),
    {RATE: "Mpps", "read": "Mpps", CYCLES: "busy cycles/packet"},
    (
        Target(RATE, ">=", 0.9, _BRIDGE),
        Target(RATE, ">=", 0.9, _BRIDGE_APART),
        Target(RATE, ">=", 2, _OVS),
    ),
    ("sockperf", *PACKAGES),
)
