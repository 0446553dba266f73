"""TCP and UDP request-response between two kernel containers: sockperf, one request at a time.

Our worker owns the forwarder's core; client and server share the load's core. The kernel's
bridge has no forwarder: it is measured with client and server on the load's core, as ours,
which is its best (no other core has to be woken), and left to the scheduler.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from tests.bench.bridge import bridge, free
from tests.bench.measure import Bench, Effort, Figures, Subject, Target
from tests.bench.pair import Make, ours
from tests.bench.sockperf import PROTOCOLS, round_trips_us

_BRIDGE: Final = "kernel bridge"
_BRIDGE_FREE: Final = "kernel bridge, unpinned"
_MAKES: Final[dict[str, Make]] = {"cni-virtio": ours, _BRIDGE: bridge, _BRIDGE_FREE: free}


def _measure(make: Make, effort: Effort) -> Figures:
    with make() as pair:
        return round_trips_us(pair, effort.seconds / 2)


RR = Bench(
    "rr",
    "kernel container to kernel container, one request at a time",
    tuple(Subject(name, partial(_measure, make)) for name, make in _MAKES.items()),
    {f"{protocol} {p}": "us" for protocol in PROTOCOLS for p in ("p50", "p99")},
    tuple(
        Target(f"{protocol} {p}", "<=", limit, peer)
        for peer in (_BRIDGE, _BRIDGE_FREE)
        for protocol in PROTOCOLS
        for p, limit in (("p50", 1.2), ("p99", 1.5))
    ),
    ("sockperf",),
)
