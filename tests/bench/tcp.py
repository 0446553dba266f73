"""TCP between two kernel containers: iperf3, one stream and four.

Each of those compared has both cores. Our worker and OVS poll on the forwarder's, and the scheduler
puts client and server where it likes. The kernel's bridge has the client on one core and the server
on the other, the fastest of all its placements.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from tests.bench.bridge import apart
from tests.bench.cores import BOTH
from tests.bench.iperf import tcp
from tests.bench.measure import CYCLES, RATE, Bench, Subject, Target
from tests.bench.ovs import PACKAGES
from tests.bench.ovs_pair import ovs
from tests.bench.pair import Make, ours

_BRIDGE: Final = "kernel bridge"
_OVS: Final = "OVS-DPDK"


def _bench(name: str, title: str, streams: int, least: float) -> Bench:
    makes: dict[str, Make] = {
        "cni-virtio": partial(ours, BOTH),
        _BRIDGE: apart,
        _OVS: partial(ovs, BOTH),
    }
    return Bench(
        name,
        title,
        tuple(Subject(each, partial(tcp, make, streams)) for each, make in makes.items()),
        {RATE: "Gbit/s", CYCLES: "busy cycles/packet"},
        (
            Target(RATE, ">=", least, _BRIDGE),
            Target(RATE, ">=", 15, _OVS),
        ),
        ("iperf3", *PACKAGES),
    )


TCP1 = _bench("tcp1", "kernel container to kernel container, TCP, 1 stream", 1, 0.9)
TCP4 = _bench("tcp4", "kernel container to kernel container, TCP, 4 streams", 4, 0.6)
