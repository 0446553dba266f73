"""An AF_XDP uplink to vhost-user: testpmd bounces packets between the wire's far end and a port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dataplane.specs import EthdevSpec, PortSpec
from tests.bench.bounce import MACS, UNITS, Load, Meter, bounce
from tests.bench.cores import FORWARDER_CORE
from tests.bench.dataplane import bench_lab
from tests.bench.measure import RATE, Bench, Effort, Figures, Subject, Target
from tests.bench.testpmd import testpmd
from tests.bench.vhost import attach
from tests.smoke.netns import Netns, netns
from tests.smoke.ports import Port, switch_offloads, wait_until
from tests.unit.dataplane_process import short_directory

_PEER: Final = "testpmd io"
_LOAD: Final = Load(bursts=4)  # a veth holds 256 packets
_IFNAME: Final = "uplink0"
_FAR_IFNAME: Final = "eth0"


def _af_xdp(ifname: str) -> str:
    return f"net_af_xdp_{ifname},iface={ifname},start_queue=0,queue_count=1"


@contextmanager
def _wire(host: Netns) -> Iterator[Netns]:
    """Make a wire, one end the uplink; gives the netns of the other."""
    with netns() as outside:
        host.ip(f"link add {_IFNAME} type veth peer name {_FAR_IFNAME} netns {outside.name}")
        for space, ifname in ((host, _IFNAME), (outside, _FAR_IFNAME)):
            # Whatever the kernel says by itself would bounce along.
            space.run("sysctl", "-qw", f"net.ipv6.conf.{ifname}.disable_ipv6=1")
            switch_offloads(space, ifname, "tx", "tso", "gso", "gro", "rxvlan", "txvlan")
        outside.ip(f"link set {_FAR_IFNAME} address {MACS[1]} up")
        host.ip(f"link set {_IFNAME} up")
        try:
            yield outside
        finally:
            host.ip(f"link del {_IFNAME}")


def _bounce(path: Path, outside: Netns, meter: Meter, effort: Effort) -> Figures:
    devices = (_LOAD.virtio_user(0, path), _af_xdp(_FAR_IFNAME))
    return bounce(devices, meter, _LOAD, effort, netns=outside.name)


def _ours(effort: Effort) -> Figures:
    with bench_lab() as lab:
        outside = lab.stack.enter_context(_wire(lab.host))
        uplink = Port(lab.control, f"uplink:{_IFNAME}", 0)
        ethdev = EthdevSpec(_af_xdp(_IFNAME))
        lab.control.port_add(PortSpec(uplink.name, "ethdev", "uplink", ethdev=ethdev))
        lab.stack.callback(uplink.delete)
        wait_until(lambda: uplink.state()["link_up"], "the uplink's carrier")
        path = attach(lab, lab.network(uplink), 0)
        return _bounce(path, outside, Meter.of(lab), effort)


def _testpmd_io(effort: Effort) -> Figures:
    options = ("--forward-mode=io", "--record-core-cycles")
    with netns() as host, _wire(host) as outside, short_directory() as directory:
        path = directory / "0.sock"
        devices = (f"net_vhost0,iface={path}", _af_xdp(_IFNAME))
        with testpmd(
            FORWARDER_CORE, devices, *options, memory_mb=512, netns=host.name
        ) as forwarder:
            forwarder.command("start")
            meter = Meter(forwarder.clear_cycles, forwarder.cycles_per_packet)
            return _bounce(path, outside, meter, effort)


UPLINK: Final = Bench(
    "uplink",
    "AF_XDP uplink to vhost-user, 64 B, both ways",
    (Subject("cni-virtio", _ours), Subject(_PEER, _testpmd_io)),
    UNITS,
    (Target(RATE, ">=", 0.95, _PEER),),
)
