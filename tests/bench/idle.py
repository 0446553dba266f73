"""A hundred idle kernel ports: what the worker still takes, and how late a first packet is."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from dataplane.specs import PortSpec
from tests.bench.cores import LOAD_CORE, on_core
from tests.bench.dataplane import bench_lab
from tests.bench.measure import Bench, Effort, Figures, Subject, Target
from tests.smoke.frames import IPV4, ethernet, internet_checksum, ipv4
from tests.smoke.netns import Netns, netns, open_packet_socket
from tests.smoke.taps import add_tap_port
from tests.smoke.topology import Lab

_PAIRS: Final = 50
_CYCLE_S: Final = 1.0
_SETTLE_S: Final = 0.2
_PATIENCE_S: Final = 1.0
_ICMP: Final = 1
_ICMP_TYPE_AT: Final = 34
_ECHO_REPLY: Final = 0
_POLL: Final = "idle: poll"


@dataclass(frozen=True, slots=True)
class _Asker:
    """A tap on which raw frames are sent to a kernel that answers them."""

    sock: socket.socket
    request: bytes

    def round_trip_us(self) -> float:
        """Send an echo request and spin until the reply is there."""
        began_ns = time.perf_counter_ns()
        self.sock.send(self.request)
        while time.perf_counter_ns() - began_ns < _PATIENCE_S * 1e9:
            try:
                frame = self.sock.recv(2048, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            if frame[_ICMP_TYPE_AT] == _ECHO_REPLY:
                return (time.perf_counter_ns() - began_ns) / 1e3
        raise TimeoutError(f"no echo reply within {_PATIENCE_S:g} s")


def _measure(idle: str, effort: Effort) -> Figures:
    with bench_lab(idle) as lab, _askers(lab) as askers, on_core(LOAD_CORE):
        time.sleep(_SETTLE_S)
        cpu_percent = 100 * _cpu_share(lab.dataplane.process.pid, effort.seconds)
        trips_us = _first_round_trips_us(askers, effort.seconds)
        return {
            "CPU": cpu_percent,
            "p50": median(trips_us),
            "p99": quantiles(trips_us, n=100, method="inclusive")[98],
        }


def _cpu_share(pid: int, seconds: float) -> float:
    """Measure which share of a core the worker runs on, as the kernel accounts it."""
    began_s, before_ns = time.perf_counter(), _worker_cpu_ns(pid)
    time.sleep(seconds)
    took_s = time.perf_counter() - began_s
    return (_worker_cpu_ns(pid) - before_ns) / 1e9 / took_s


def _worker_cpu_ns(pid: int) -> int:
    tasks = [
        task
        for task in Path(f"/proc/{pid}/task").iterdir()
        if (task / "comm").read_text("ascii").startswith("rte-worker")
    ]
    if not tasks:
        raise LookupError(f"process {pid} has no worker thread")
    return sum(int((task / "schedstat").read_text("ascii").split()[0]) for task in tasks)


def _first_round_trips_us(askers: Sequence[_Asker], seconds: float) -> list[float]:
    """Take the pairs in turn, so that each has been silent for a cycle when its turn comes again.

    What passes between the others is over, and the worker asleep again, within a millisecond. The
    first cycle follows the silence in which the CPU was measured.
    """
    trips_us = []
    for _ in range(max(1, round(seconds / _CYCLE_S))):
        for asker in askers:
            time.sleep(min(_CYCLE_S, seconds) / len(askers))
            trips_us.append(asker.round_trip_us())
    return trips_us


@contextmanager
def _askers(lab: Lab) -> Iterator[list[_Asker]]:
    """Make pairs of taps: one end of each in a namespace that asks, one in one that answers."""
    network = lab.network()
    asking, answering = _silent_netns(lab.stack), _silent_netns(lab.stack)
    for number in range(_PAIRS):
        _plug(lab, network, asking, 1, number)
        _plug(lab, network, answering, 2, number)
    asking.ip(*(f"link set eth{number} up" for number in range(_PAIRS)))
    answering.ip(*(line for number in range(_PAIRS) for line in _answer(number)))
    with ExitStack() as stack:
        sockets = asking.inside(lambda: [open_packet_socket(f"eth{i}") for i in range(_PAIRS)])
        for sock in sockets:
            stack.enter_context(sock)
        yield [_Asker(sock, _echo_request(number)) for number, sock in enumerate(sockets)]


def _silent_netns(stack: ExitStack) -> Netns:
    space = stack.enter_context(netns())
    space.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    return space


def _plug(lab: Lab, network: str, space: Netns, side: int, number: int) -> None:
    name = f"bench:{side}-{number}"
    spec = PortSpec(
        name, "tap", "container", network, mac=_mac(side, number), ips=(_ip(side, number),)
    )
    add_tap_port(lab.control, spec, space, f"eth{number}")
    lab.stack.callback(lab.control.port_del, name)


def _answer(number: int) -> Iterator[str]:
    """Give the lines of `ip` that make an interface answer its asker, without ARP."""
    ifname = f"eth{number}"
    yield f"link set {ifname} address {_mac(2, number)} up"
    yield f"addr add {_ip(2, number)}/32 dev {ifname}"
    yield f"route add {_ip(1, number)}/32 dev {ifname}"
    yield f"neigh replace {_ip(1, number)} lladdr {_mac(1, number)} dev {ifname}"


def _echo_request(number: int) -> bytes:
    bare = struct.pack("!BBHHH", 8, 0, 0, number, 0)
    message = bare[:2] + struct.pack("!H", internet_checksum(bare)) + bare[4:]
    packet = ipv4(_ip(1, number), _ip(2, number), _ICMP, message)
    return ethernet(_mac(2, number), _mac(1, number), IPV4, packet)


def _mac(side: int, number: int) -> str:
    return f"02:00:00:00:{side:02x}:{number:02x}"


def _ip(side: int, number: int) -> str:
    return f"10.9.{side}.{number + 1}"


IDLE: Final = Bench(
    "idle",
    f"{2 * _PAIRS} idle kernel ports: the worker's CPU, then first round trips after a silence",
    (
        Subject("cni-virtio", partial(_measure, "adaptive")),
        Subject(_POLL, partial(_measure, "poll")),
    ),
    {"CPU": "% of a core", "p50": "us", "p99": "us"},
    (
        Target("CPU", "<=", 2.0, kind="value"),
        Target("p99", "<=", 100.0, _POLL, "difference"),
    ),
)
