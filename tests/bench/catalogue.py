"""All benches, in the order in which they run, by what they are about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.bench.churn import CHURN
from tests.bench.cni import CNI
from tests.bench.fair import FAIR
from tests.bench.idle import IDLE
from tests.bench.measure import Bench
from tests.bench.mixed import MIXED
from tests.bench.ports import PORTS, SCALE
from tests.bench.rr import RR
from tests.bench.start import START
from tests.bench.tcp import TCP1, TCP4
from tests.bench.udp import UDP
from tests.bench.uplink import UPLINK
from tests.bench.vhost import VHOST, VHOST_1500, VHOST_SPLIT

GROUPS: Final[Mapping[str, tuple[Bench, ...]]] = {
    "User-space containers": (VHOST, VHOST_SPLIT, VHOST_1500, UPLINK, PORTS, SCALE),
    "Kernel containers": (TCP1, TCP4, RR, UDP, MIXED),
    "Behaviour": (IDLE, CHURN, FAIR, START, CNI),
}
BENCHES: Final = tuple(bench for benches in GROUPS.values() for bench in benches)
