"""Packets lost between two busy applications while other ports come and go."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from dataplane.specs import PortSpec, VhostSpec
from tests.bench.bounce import Load, bouncing
from tests.bench.cores import LOAD_CORE, on_core
from tests.bench.dataplane import bench_lab
from tests.bench.measure import Bench, Effort, Figures, Subject, Target
from tests.bench.testpmd import Testpmd
from tests.bench.vhost import attach
from tests.smoke.netns import Netns, netns
from tests.smoke.taps import add_tap_port
from tests.smoke.topology import Lab

_PORTS: Final = 100
_DRAIN_S: Final = 0.1
_COUNTED: Final = re.compile(r"([RT]X)-packets: (\d+)")

Work = Callable[[Lab, str, float], int]
"""What goes on beside the busy pair, for so many seconds; gives how many ports came and went."""


def _measure(work: Work, effort: Effort) -> Figures:
    load = Load()
    with bench_lab() as lab:
        network = lab.network()
        devices = [load.virtio_user(i, attach(lab, network, i)) for i in (0, 1)]
        with bouncing(devices, load) as app, on_core(LOAD_CORE):
            app.command(f"start tx_first {load.bursts}")
            ports = work(lab, network, effort.seconds)
            sent, received = _drained(app)
            return {"lost": sent - received, "bounced": sent / 1e6, "ports": ports}


def _drained(app: Testpmd) -> tuple[int, int]:
    """Stop, receive what is still under way, and give how many packets were sent and received."""
    app.command("stop")
    app.command("set fwd rxonly")
    time.sleep(_DRAIN_S)
    app.command("start")
    time.sleep(_DRAIN_S)
    app.command("stop")
    counts = {"RX": 0, "TX": 0}
    for direction, count in _COUNTED.findall(app.command("show port stats all")):
        counts[direction] += int(count)
    return counts["TX"], counts["RX"]


def _come_and_go(lab: Lab, network: str, seconds: float) -> int:
    """Add all ports, set the taps up, delete all; and again, until the time is over."""
    deadline_s, ports = time.perf_counter() + seconds, 0
    with netns() as space:
        space.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        while ports == 0 or time.perf_counter() < deadline_s:
            specs = [_add(lab, network, space, number) for number in range(_PORTS)]
            taps = (number for number, spec in enumerate(specs) if spec.kind == "tap")
            space.ip(*(f"link set eth{number} up" for number in taps))
            for spec in specs:
                lab.control.port_del(spec.name)
            ports += len(specs)
    return ports


def _add(lab: Lab, network: str, space: Netns, number: int) -> PortSpec:
    """Add a tap or, for every other number, a socket."""
    name, mac = f"bench:churn{number}", f"02:00:00:00:01:{number:02x}"
    if number % 2:
        path = str(lab.dataplane.directory / f"churn{number}.sock")
        spec = PortSpec(name, "vhost", "container", network, mac=mac, vhost=VhostSpec(path))
        lab.control.port_add(spec)
        return spec
    spec = PortSpec(name, "tap", "container", network, mac=mac)
    add_tap_port(lab.control, spec, space, f"eth{number}")
    return spec


def _nothing(_lab: Lab, _network: str, seconds: float) -> int:
    time.sleep(seconds)
    return 0


CHURN: Final = Bench(
    "churn",
    f"vhost-user to vhost-user, 64 B, both ways, while {_PORTS} other ports come and go",
    (
        Subject("cni-virtio", partial(_measure, _come_and_go)),
        Subject("no churn", partial(_measure, _nothing)),
    ),
    {"lost": "packets", "bounced": "M packets", "ports": "come and gone"},
    (Target("lost", "<=", 0, kind="value"),),
)
