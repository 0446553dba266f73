"""What idle ports cost: a busy pair among more and more of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from dataplane.specs import NetworkSpec, PortSpec, VhostSpec
from tests.bench.bounce import UNITS, Load, Meter, bounce
from tests.bench.dataplane import bench_lab
from tests.bench.frontend import connect_silently
from tests.bench.measure import RATE, Bench, Effort, Figures, Subject, Target
from tests.bench.vhost import attach
from tests.smoke.netns import Netns, netns
from tests.smoke.ports import wait_until
from tests.smoke.taps import add_tap_port
from tests.smoke.topology import Lab

_NETWORK: Final = "bench"
_BUSY: Final = 2


def _measure(count: int, effort: Effort) -> Figures:
    """Bounce packets between two ports of so many in one network."""
    load = Load()
    with bench_lab() as lab:
        # It ends with the dataplane: deleting taps one by one takes seconds.
        lab.control.network_add(NetworkSpec(_NETWORK))
        devices = [load.virtio_user(i, attach(lab, _NETWORK, i)) for i in range(_BUSY)]
        with _idle_ports(lab, count - _BUSY):
            return bounce(devices, Meter.of(lab), load, effort)


@contextmanager
def _idle_ports(lab: Lab, count: int) -> Iterator[None]:
    """Attach ports, every other one a tap, that have a peer and carry nothing."""
    with ExitStack() as stack:
        space = stack.enter_context(netns())
        space.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        for number in range(0, count, 2):
            _add_tap(lab, space, number)
        for number in range(1, count, 2):
            connect_silently(stack, _add_vhost(lab, number))
        space.ip(*(f"link set eth{number} up" for number in range(0, count, 2)))
        wait_until(
            lambda: sum(port["state"]["ready"] for port in lab.control.ports()["ports"]) >= count,
            "idle ports with a peer",
        )
        yield


def _add_tap(lab: Lab, space: Netns, number: int) -> None:
    spec = PortSpec(_name(number), "tap", "container", _NETWORK, mac=_mac(number))
    add_tap_port(lab.control, spec, space, f"eth{number}")


def _add_vhost(lab: Lab, number: int) -> Path:
    path = lab.dataplane.directory / f"idle{number}.sock"
    vhost = VhostSpec(str(path))
    spec = PortSpec(_name(number), "vhost", "container", _NETWORK, mac=_mac(number), vhost=vhost)
    lab.control.port_add(spec)
    return path


def _name(number: int) -> str:
    return f"idle:{number}"


def _mac(number: int) -> str:
    return f"02:00:00:01:{number >> 8:02x}:{number & 0xFF:02x}"


def _subject(count: int) -> Subject:
    return Subject(f"{count} ports", partial(_measure, count))


PORTS: Final = Bench(
    "ports",
    "vhost-user to vhost-user, 64 B, both ways, among idle taps and vhost-user ports",
    (
        Subject("256 idle ports", partial(_measure, _BUSY + 256)),
        Subject("no idle ports", partial(_measure, _BUSY)),
    ),
    UNITS,
    (Target(RATE, ">=", 0.9, "no idle ports"),),
)
SCALE: Final = Bench(
    "scale",
    "cycles of a busy pair among so many ports in all",
    tuple(_subject(count) for count in (256, 64, 16, 2)),
    UNITS,
)
