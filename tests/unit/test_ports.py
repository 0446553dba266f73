"""Attachments, uplinks and networks as the dataplane sees them, and what is wanted of it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from cni_virtio import labels, ports
from cni_virtio.backend import Backend
from cni_virtio.config import AgentConfig, load
from cni_virtio.reconcile import Actual, AddPort, DelPort, Desired, plan
from cni_virtio.state import Attachment
from cni_virtio.wanted import Wanted
from dataplane.limits import Limits
from dataplane.wire import NetworkSpec, PortSpec

TAP = Backend("tap")
VHOST_NET = Backend("vhost-net")

YAML = """
uplinks:
  - {name: wire-0.1, device: "net_null0,copy=1", queues: 2}
networks:
  - {name: pods, uplink: wire-0.1, vlan: 5, mtu: 9000}
  - {name: quiet, mtu: 1400}
"""


def attachment(number: int = 0, **keys: object) -> Attachment:
    values: dict[str, object] = {
        "name": "net",
        "network": "pods",
        "container_id": f"c{number}",
        "ifname": "eth0",
        "netns": "/run/netns/x",
        "netns_inode": 4026532000,
        "netns_seen": True,
        "mac": f"02:00:00:00:00:{number:02x}",
        "ips": ("10.0.0.5/16", "fd00::5/64"),
        "result": {"cniVersion": "1.0.0"},
        "cni_version": "1.0.0",
        "labels": {"pod": "p", "namespace": "ns", "uid": "u"},
        "created_s": float(number),
    }
    return Attachment(**(values | keys))  # type: ignore[arg-type]


KERNEL = attachment(
    gateways=("10.0.0.1/16",),
    queues=4,
    ip_masq=True,
    netns_cookie=4099,
    cni_path="/opt/cni/bin",
    cni_args="IgnoreUnknown=1",
    netconf={
        "cniVersion": "1.0.0",
        "name": "net",
        "type": "cni-virtio",
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.0.0.0/16"}]]},
    },
)
VHOST = attachment(
    1,
    interface="vhost-user",
    socket_path="/run/v/c1/eth0.sock",
    vhost_mode="server",
    uid=7,
    gid=8,
    spoof_check=False,
    netns_seen=False,
    mount_path="/run/vhost",
    device_info_file="/run/info/eth0.json",
    limits=Limits(10**8, 10**7, 10**9, 10**8),
)


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    file = tmp_path / "agent.yaml"
    file.write_text(YAML)
    return load(file)


@pytest.mark.parametrize("backend", [TAP, VHOST_NET], ids=["tap", "vhost-net"])
@pytest.mark.parametrize("one", [KERNEL, VHOST], ids=["kernel", "vhost-user"])
def test_a_port_survives_the_wire_and_rebuilds_its_record(
    one: Attachment, backend: Backend
) -> None:
    spec = ports.container_port(one, backend)
    assert PortSpec.from_json(spec.to_json()) == spec
    rebuilt = labels.attachment_of(spec)
    assert rebuilt is not None
    assert ports.container_port(rebuilt, backend) == spec
    changed = {"created_s": 0.0, "result": {"cniVersion": "1.0.0"}}
    assert rebuilt.__dict__ | changed == one.__dict__ | changed


def test_a_kernel_interface_on_vhost_net_in_dpdks_words() -> None:
    spec = ports.container_port(KERNEL, VHOST_NET)
    assert (spec.kind, spec.queues, spec.queue_size) == ("ethdev", 4, 256)
    assert spec.ethdev is not None
    name = hashlib.sha256(b"pod:c0/eth0").hexdigest()[:12]
    assert spec.ethdev.devargs == (
        f"net_virtio_user_{name},path=/dev/vhost-net,queues=4,queue_size=256,iface=eth0"
        ",mac=02:00:00:00:00:00"
    )
    assert set(spec.ethdev.offloads.values()) == {True}


@pytest.mark.parametrize("one", [attachment(queues=9), attachment(ifname="a,b")])
def test_what_vhost_net_cannot_have_stays_on_its_tap(one: Attachment) -> None:
    assert ports.container_port(one, VHOST_NET).kind == "tap"


def test_another_backend_makes_a_port_anew() -> None:
    before, after = (ports.container_port(KERNEL, backend) for backend in (TAP, VHOST_NET))
    network = {"pods": NetworkSpec("pods")}
    desired, actual = Desired(network, {after.name: after}), Actual(network, {before.name: before})
    assert plan(desired, actual) == [DelPort(after.name), AddPort(after)]


@pytest.mark.parametrize("backend", [TAP, VHOST_NET], ids=["tap", "vhost-net"])
def test_the_twin_has_its_uplinks_mac_once_that_is_known(tmp_path: Path, backend: Backend) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text(YAML.replace("queues: 2", "queues: 2, exception: {queues: 3}"))
    config = replace(load(file), backend=backend)
    wanted = Wanted(config)
    (uplink,) = wanted.configured().ports.values()
    assert wanted.exceptions() == {"exception:wire-0.1": None}
    assert set(wanted.everything().ports) == {uplink.name}
    other = replace(uplink, mtu=1400)
    wanted.learn_uplink(other, "02:00:00:00:00:01")  # what is there is not what is wanted
    assert wanted.exceptions() == {"exception:wire-0.1": None}
    wanted.learn_uplink(replace(uplink, labels={}), "02:00:00:00:00:02")
    twin = wanted.everything().ports["exception:wire-0.1"]
    assert wanted.exceptions() == {twin.name: twin}
    assert (twin.role, twin.uplink, twin.network) == ("exception", uplink.name, None)
    assert (twin.mac, twin.mtu, twin.queues) == ("02:00:00:00:00:02", 9000, 3)
    assert twin.kind == ("ethdev" if backend.is_vhost_net else "tap")
    assert PortSpec.from_json(twin.to_json()) == twin
    if twin.ethdev:
        assert ",queues=3,queue_size=256,iface=virtio_user0,mac=02:" in twin.ethdev.devargs


def test_a_port_of_somebody_else_rebuilds_nothing() -> None:
    spec = PortSpec("pod:a/b", kind="tap", role="container", network="n", mac="02:00:00:00:00:01")
    assert labels.attachment_of(spec) is None


def test_the_hosts_interface_has_a_name_that_fits() -> None:
    assert ports.gateway_ifname("pods") == "cv-pods"
    assert ports.gateway_ifname("twelve-chars") == "cv-twelve-chars"
    long, other = ports.gateway_ifname("a" * 64), ports.gateway_ifname("a" * 63)
    assert len(long) == len(other) == 15
    assert long != other


def test_macs_are_local_unicast_and_the_gateways_stays_the_same() -> None:
    for mac in (ports.random_mac(b"\xff" * 6), ports.random_mac(bytes(6))):
        assert int(mac[:2], 16) & 3 == 2
    assert ports.gateway_mac("pods", "s") == ports.gateway_mac("pods", "s")
    assert ports.gateway_mac("pods", "s") != ports.gateway_mac("pods", "t")


@pytest.mark.parametrize(
    ("device", "devargs"),
    [
        ("af_xdp:lo", "net_af_xdp_wire_0_1,iface=lo,start_queue=0,queue_count=2"),
        (
            "af_packet:lo",
            "net_af_packet_wire_0_1,iface=lo,qpairs=2,blocksz=65536,framesz=16384",
        ),
        ("net_tap0,iface=t0", "net_tap0,iface=t0"),
    ],
)
def test_uplinks_in_dpdks_words(tmp_path: Path, device: str, devargs: str) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text(YAML.replace("net_null0,copy=1", device))
    config = load(file)
    spec = ports.uplink_port(config.uplinks[0], config.networks)
    assert spec.ethdev is not None
    assert spec.ethdev.devargs == devargs
    assert (spec.queues, spec.mtu) == (2, 9000)
    assert PortSpec.from_json(spec.to_json()) == spec


def test_a_scope_holds_what_its_ports_stand_on(config: AgentConfig) -> None:
    wanted = Wanted(config)
    wanted.add(KERNEL)
    wanted.add(attachment(2))
    scope = wanted.scope("pods", ["pod:c0/eth0", "host:pods"])
    assert set(scope.networks) == {"pods"}
    assert set(scope.ports) == {"uplink:wire-0.1", "host:pods", "pod:c0/eth0"}
    assert [type(action).__name__ for action in plan(scope, Actual())] == [
        "AddPort",
        "AddNetwork",
        "AddPort",
        "AddPort",
    ]


def test_the_gateway_goes_with_the_last_that_wanted_it(config: AgentConfig) -> None:
    wanted = Wanted(config)
    wanted.add(KERNEL)
    wanted.add(attachment(2, gateways=("10.0.0.1/16", "fd00::1/64")))
    assert wanted.gateway_addresses("pods") == ["10.0.0.1/16", "fd00::1/64"]
    wanted.remove(KERNEL.key)
    assert wanted.has_gateway("pods")
    wanted.add(attachment(2))  # the same attachment, now without one
    assert not wanted.has_gateway("pods")
    assert "host:pods" not in wanted.everything().ports


def test_undeclared_networks_come_and_go_and_declared_ones_stay(config: AgentConfig) -> None:
    wanted = Wanted(config)
    one = attachment(network="adhoc")
    wanted.add(one)
    assert wanted.networks() == ["adhoc", "pods", "quiet"]
    assert wanted.scope("adhoc", []).networks["adhoc"].uplink is None
    assert (wanted.default_mtu("adhoc"), wanted.default_mtu("quiet")) == (1500, 1400)
    assert wanted.remove(one.key) == one
    assert wanted.remove(one.key) is None
    assert not wanted.scope("adhoc", []).networks
    assert set(wanted.everything().networks) == {"pods", "quiet"}
