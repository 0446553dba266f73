"""The packet load: testpmd bounces a fixed number of packets through a forwarder, both ways."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.core_distance import are_near, core_distance_ns, wait_until_near
from tests.bench.cores import LOAD_CORE
from tests.bench.dataplane import cycles
from tests.bench.measure import CYCLES, RATE, Effort, Figures
from tests.bench.testpmd import Testpmd, testpmd
from tests.smoke.topology import Lab

RING: Final = 1024
MACS: Final = ("02:00:00:00:00:01", "02:00:00:00:00:02")
ADDRESS: Final = "10.9.0.1"
"""Every packet comes from it, on either port, as they come back."""
LEAST_CYCLES: Final = "least cycles"
DISTANCE: Final = "core to core"
NEAR: Final = "cores near"
UNITS: Final = {
    RATE: "Mpps",
    CYCLES: "busy cycles/packet",
    LEAST_CYCLES: "busy cycles/packet",
    DISTANCE: "ns round trip",
    NEAR: "share of starts",
}

_WARM_UP_S: Final = 0.1
_STARTS: Final = 6


@dataclass(frozen=True, slots=True)
class Meter:
    """Reads what a forwarder spends."""

    begin: Callable[[], None]
    cycles_per_packet: Callable[[], float]
    """Busy cycles per packet since `begin`."""

    @classmethod
    def of(cls, lab: Lab) -> Meter:
        """Read our worker's counters."""
        before = [cycles(lab)]

        def begin() -> None:
            before[0] = cycles(lab)

        return cls(begin, lambda: cycles(lab).busy_per_packet(before[0]))


@dataclass(frozen=True, slots=True)
class Load:
    """What crosses: the rings' layout, the size of frames, how many are under way."""

    packed: bool = True
    frame_bytes: int = 60
    """Without checksum: 64 B on a wire are 60 here."""
    bursts: int = 12
    """Bursts of 32 under way in each direction: all of them fit every ring, so none is lost."""

    def virtio_user(self, number: int, path: Path) -> str:
        """Give what --vdev takes for one of the two ports on a vhost-user socket."""
        ring = f"queue_size={RING},packed_vq={int(self.packed)},in_order=1"
        return f"net_virtio_user{number},path={path},mac={MACS[number]},{ring}"


@contextmanager
def bouncing(devices: Sequence[str], load: Load, netns: str | None = None) -> Iterator[Testpmd]:
    """Run a testpmd that sends back on either device what it has got on the other."""
    options = (
        *("--forward-mode=mac", f"--eth-peer=0,{MACS[1]}", f"--eth-peer=1,{MACS[0]}"),
        *(f"--tx-ip={ADDRESS},{ADDRESS}", f"--txpkts={load.frame_bytes}"),
        *(f"--rxd={RING}", f"--txd={RING}"),
    )
    with testpmd(LOAD_CORE, devices, *options, netns=netns) as app:
        yield app


def bounce(
    devices: Sequence[str], meter: Meter, load: Load, effort: Effort, netns: str | None = None
) -> Figures:
    """Bounce packets between two devices, which a forwarder connects.

    The figures are medians over several starts, of those during which the cores were near each
    other, if there are any. (See core_distance.)
    """
    with bouncing(devices, load, netns) as app:
        starts = list(_starts(app, meter, load, effort))
    were_near = [start for start in starts if are_near(start.distance_ns)]
    near = were_near or starts
    cycles_per_packet = [start.cycles_per_packet for start in near]
    return {
        RATE: statistics.median(start.rate for start in near),
        CYCLES: statistics.median(cycles_per_packet),
        LEAST_CYCLES: min(cycles_per_packet),
        DISTANCE: statistics.median(start.distance_ns for start in near),
        NEAR: len(were_near) / len(starts),
    }


@dataclass(frozen=True, slots=True)
class _Start:
    rate: float
    cycles_per_packet: float
    distance_ns: float
    """The farther one of before and after."""


def _starts(app: Testpmd, meter: Meter, load: Load, effort: Effort) -> Iterator[_Start]:
    """Start until enough have found the cores near, or twice the time is over."""
    seconds, near = effort.seconds / _STARTS, 0
    patience_s = 0 if effort.quick else effort.seconds + _STARTS * _WARM_UP_S
    deadline_s = time.monotonic() + effort.seconds + patience_s
    for number in itertools.count(1):
        distance_ns = wait_until_near(deadline_s)
        rate, cycles_per_packet = _start(app, meter, load, seconds)
        start = _Start(rate, cycles_per_packet, max(distance_ns, core_distance_ns()))
        yield start
        near += are_near(start.distance_ns)
        if near == _STARTS or (number >= _STARTS and time.monotonic() >= deadline_s):
            break


def _start(app: Testpmd, meter: Meter, load: Load, seconds: float) -> tuple[float, float]:
    app.command(f"start tx_first {load.bursts}")
    time.sleep(_WARM_UP_S)
    meter.begin()
    rate = app.received_per_s(seconds) / 1e6
    cycles_per_packet = meter.cycles_per_packet()
    app.command("stop")
    return rate, cycles_per_packet
