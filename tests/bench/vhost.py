"""vhost-user to vhost-user: testpmd bounces packets between two ports of a forwarder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from dataplane.specs import PortSpec, VhostSpec
from tests.bench import ovs
from tests.bench.bounce import ADDRESS, MACS, RING, UNITS, Load, Meter, bounce
from tests.bench.cores import FORWARDER_CORE
from tests.bench.dataplane import bench_lab
from tests.bench.measure import RATE, Bench, Effort, Figures, Subject, Target
from tests.bench.testpmd import testpmd
from tests.smoke.topology import Lab
from tests.unit.dataplane_process import short_directory

_PEER: Final = "testpmd io"


@dataclass(frozen=True, slots=True)
class Forwarder:
    """Something that forwards between two vhost-user sockets."""

    sockets: tuple[Path, Path]
    meter: Meter


Make = Callable[[], AbstractContextManager[Forwarder]]


def measure(make: Make, load: Load, effort: Effort) -> Figures:
    """Bounce packets through a forwarder made for it."""
    with make() as forwarder:
        devices = [load.virtio_user(i, path) for i, path in enumerate(forwarder.sockets)]
        return bounce(devices, forwarder.meter, load, effort)


def attach(lab: Lab, network: str, number: int) -> Path:
    """Add a port of the load's, with spoof check, and give its socket."""
    path = lab.dataplane.directory / f"{number}.sock"
    spec = PortSpec(
        f"bench:{number}",
        "vhost",
        "container",
        network,
        mac=MACS[number],
        ips=(ADDRESS,),
        spoof_check=True,
        vhost=VhostSpec(str(path)),
    )
    lab.control.port_add(spec)
    lab.stack.callback(lab.control.port_del, spec.name)
    return path


@contextmanager
def _ours(idle: str = "adaptive") -> Iterator[Forwarder]:
    with bench_lab(idle) as lab:
        network = lab.network()
        yield Forwarder((attach(lab, network, 0), attach(lab, network, 1)), Meter.of(lab))


@contextmanager
def _testpmd_io() -> Iterator[Forwarder]:
    with short_directory() as directory:
        sockets = (directory / "0.sock", directory / "1.sock")
        devices = [f"net_vhost{i},iface={path}" for i, path in enumerate(sockets)]
        options = ("--forward-mode=io", f"--rxd={RING}", f"--txd={RING}", "--record-core-cycles")
        with testpmd(FORWARDER_CORE, devices, *options, memory_mb=512) as forwarder:
            forwarder.command("start")
            yield Forwarder(sockets, Meter(forwarder.clear_cycles, forwarder.cycles_per_packet))


@contextmanager
def _ovs(*, normal: bool) -> Iterator[Forwarder]:
    with ovs.switch(normal) as switch:
        sockets = (switch.add_vhost("v0"), switch.add_vhost("v1"))
        if not normal:
            switch.set_flows((("v0", "v1"), ("v1", "v0")))
        yield Forwarder(sockets, Meter(switch.begin, switch.cycles_per_packet))


_SWITCHES: Final[Mapping[str, Make]] = {
    "OVS two flows": partial(_ovs, normal=False),
    "OVS NORMAL": partial(_ovs, normal=True),
}


def _bench(name: str, what: str, load: Load, others: Mapping[str, Make]) -> Bench:
    makes = {"cni-virtio": _ours, _PEER: _testpmd_io, **others}
    return Bench(
        name,
        f"vhost-user to vhost-user, {what}, both ways",
        tuple(Subject(each, partial(measure, make, load)) for each, make in makes.items()),
        UNITS,
        (
            Target(RATE, ">=", 0.9, _PEER),
            *(Target(RATE, ">=", 1.7, each) for each in others if each in _SWITCHES),
        ),
        ovs.PACKAGES if others else (),
    )


VHOST: Final = _bench(
    "vhost",
    "64 B, packed ring in order",
    Load(),
    {**_SWITCHES, "idle: poll": partial(_ours, "poll")},
)
VHOST_SPLIT: Final = _bench("vhost-split", "64 B, split ring in order", Load(packed=False), {})
VHOST_1500: Final = _bench(
    "vhost-1500", "1,514 B, packed ring in order", Load(frame_bytes=1514), {}
)
