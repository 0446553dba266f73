"""Ports and networks on the control socket: what is accepted, and how the rest is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane import specs, wire
from dataplane.limits import MAX_BURST_BITS, MAX_RATE_BITS_S, MIN_RATE_BITS_S, Limits
from dataplane.wire import (
    Code,
    Decoder,
    EthdevSpec,
    NetworkSpec,
    PortSpec,
    VhostSpec,
    WireError,
)
from tests.unit.wire_values import json_values, refusal_of

if TYPE_CHECKING:
    pass

MAC = "02:00:00:00:00:01"
ABSENT = object()


def tap(**changes: Any) -> dict[str, Any]:
    port: dict[str, Any] = {
        "name": "pod:c1/eth0",
        "kind": "tap",
        "role": "container",
        "network": "pods",
        "mac": MAC,
    }
    port.update(changes)
    return {key: value for key, value in port.items() if value is not ABSENT}


def vhost(**changes: Any) -> dict[str, Any]:
    socket = {"path": "/run/vhost/a.sock"} | changes
    return tap(kind="vhost", vhost={k: v for k, v in socket.items() if v is not ABSENT})


def ethdev(**changes: Any) -> dict[str, Any]:
    device = {"devargs": "net_af_xdp0,iface=w0"} | changes
    return tap(
        kind="ethdev",
        role="uplink",
        network=None,
        mac=None,
        ethdev={k: v for k, v in device.items() if v is not ABSENT},
    )


SLOW = Limits(egress_bits_s=10**6, egress_burst_bits=10**5)

GOOD_PORTS: list[tuple[dict[str, Any], str, object]] = [
    (tap(), "mtu", 1500),
    (tap(), "queues", 1),
    (tap(), "queue_size", 0),
    (tap(), "spoof_check", False),
    (tap(name="a"), "name", "a"),
    (tap(name="é" * 127), "name", "é" * 127),
    (tap(mac="0A:BC:DE:F0:12:34"), "mac", "0a:bc:de:f0:12:34"),
    (tap(role="exception", network=None, uplink="uplink:a"), "uplink", "uplink:a"),
    (tap(role="host"), "role", "host"),
    (tap(ips=["10.0.0.1", "FD00:0::1"]), "ips", ("10.0.0.1", "fd00::1")),
    (tap(ips=[]), "ips", ()),
    (tap(mtu=68), "mtu", 68),
    (tap(mtu=65521), "mtu", 65521),
    (tap(queues=64), "queues", 64),
    (tap(queue_size=64), "queue_size", 64),
    (tap(queue_size=32768), "queue_size", 32768),
    (tap(labels={"pod": "a b"}), "labels", {"pod": "a b"}),
    (vhost(), "vhost", VhostSpec("/run/vhost/a.sock", "client", 0, 0)),
    (vhost(mode="server"), "vhost", VhostSpec("/run/vhost/a.sock", "server")),
    (vhost(uid=2**32 - 2, gid=7), "vhost", VhostSpec("/run/vhost/a.sock", "client", 2**32 - 2, 7)),
    (vhost(path="/" + "a" * 106), "vhost", VhostSpec("/" + "a" * 106)),
    (ethdev(), "ethdev", EthdevSpec("net_af_xdp0,iface=w0")),
    (ethdev(offloads={"tso": True}), "ethdev", EthdevSpec("net_af_xdp0,iface=w0", {"tso": True})),
    (ethdev() | {"queues": 256}, "queues", 256),
    (tap(), "limits", Limits()),
    (tap(limits={"ingress_bits_s": 1000, "ingress_burst_bits": 1}), "limits", Limits(1000, 1)),
    (vhost() | {"limits": SLOW.to_json()}, "limits", SLOW),
]


@pytest.mark.parametrize(("given", "key", "value"), GOOD_PORTS)
def test_port_is_read(given: dict[str, Any], key: str, value: object) -> None:
    spec = PortSpec.from_json(given)
    assert getattr(spec, key) == value
    assert PortSpec.from_json(spec.to_json()) == spec


BAD_PORTS: list[tuple[object, str, str]] = [
    ([], "port", "object"),
    (None, "port", "object"),
    (tap(name=ABSENT), "port.name", "is missing"),
    (tap(name=""), "port.name", "1 to 255 bytes"),
    (tap(name="a b"), "port.name", "'a b'"),
    (tap(name="a\n"), "port.name", "whitespace"),
    (tap(name="a\u2003b"), "port.name", "whitespace"),
    (tap(name="a\x00"), "port.name", "printable"),
    (tap(name="\ud800"), "port.name", "printable"),
    (tap(name="a" * 256), "port.name", "255"),
    (tap(name="é" * 128), "port.name", "255"),
    (tap(name=7), "port.name", "7"),
    (tap(kind=ABSENT), "port.kind", "is missing"),
    (tap(kind="veth"), "port.kind", "'veth'"),
    (tap(kind=["tap"]), "port.kind", "tap, vhost, ethdev"),
    (tap(role="pod"), "port.role", "'pod'"),
    (tap(role=None), "port.role", "None"),
    (tap(network=None), "port.network", "is missing"),
    (tap(network="a b"), "port.network", "whitespace"),
    (tap(role="uplink", mac=None), "port.network", "must be null"),
    (tap(mac=None), "port.mac", "is missing"),
    (tap(role="host", mac=None), "port.mac", "is missing"),
    (tap(mac="02:00:00:00:00"), "port.mac", "02:00:00:00:00"),
    (tap(mac="02-00-00-00-00-01"), "port.mac", "MAC address"),
    (tap(mac="02:00:00:00:00:0g"), "port.mac", "MAC address"),
    (tap(mac=f"{MAC}\n"), "port.mac", "MAC address"),
    (tap(mac="01:00:5e:00:00:01"), "port.mac", "unicast"),
    (tap(mac="ff:ff:ff:ff:ff:ff"), "port.mac", "unicast"),
    (tap(mac="00:00:00:00:00:00"), "port.mac", "unicast"),
    (tap(mac=2), "port.mac", "2"),
    (tap(ips="10.0.0.1"), "port.ips", "list"),
    (tap(ips=["10.0.0.1/24"]), "port.ips[0]", "without prefix"),
    (tap(ips=["10.0.0.1", "10.0.0.256"]), "port.ips[1]", "10.0.0.256"),
    (tap(ips=["010.0.0.1"]), "port.ips[0]", "010.0.0.1"),
    (tap(ips=["fe80::1%eth0"]), "port.ips[0]", "%eth0"),
    (tap(ips=["224.0.0.1"]), "port.ips[0]", "unicast"),
    (tap(ips=["0.0.0.0"]), "port.ips[0]", "unicast"),
    (tap(ips=["::"]), "port.ips[0]", "unicast"),
    (tap(ips=["255.255.255.255"]), "port.ips[0]", "unicast"),
    (tap(ips=[167772161]), "port.ips[0]", "167772161"),
    (tap(ips=["fd00::1", "FD00::1"]), "port.ips[1]", "only once"),
    (tap(ips=[f"10.0.0.{i}" for i in range(65)]), "port.ips", "64"),
    (tap(spoof_check=1), "port.spoof_check", "true or false"),
    (tap(spoof_check="yes"), "port.spoof_check", "'yes'"),
    (tap(mtu=67), "port.mtu", "67"),
    (tap(mtu=65522), "port.mtu", "65522"),
    (tap(mtu=1500.0), "port.mtu", "1500.0"),
    (tap(mtu="1500"), "port.mtu", "'1500'"),
    (tap(mtu=True), "port.mtu", "True"),
    (tap(queues=0), "port.queues", "1 to 256"),
    (tap(queues=257), "port.queues", "257"),
    (tap(queues=65), "port.queues", "at most 64"),
    (tap(queue_size=32), "port.queue_size", "32"),
    (tap(queue_size=1000), "port.queue_size", "power of two"),
    (tap(queue_size=65536), "port.queue_size", "65536"),
    (tap(queue_size=-64), "port.queue_size", "-64"),
    (tap(labels=[]), "port.labels", "object"),
    (tap(labels={"a": 1}), "port.labels.a", "string"),
    (tap(labels={"": "x"}), "port.labels", "1 to 255"),
    (tap(labels={"a": "x" * 4097}), "port.labels.a", "4096"),
    (tap(labels={f"k{i}": "" for i in range(65)}), "port.labels", "64"),
    (tap(colour="red"), "port.colour", "unknown key 'colour'"),
    (tap(kind="vhost"), "port.vhost", "is missing"),
    (tap(vhost={"path": "/a"}), "port.vhost", "must be null"),
    (vhost(path=ABSENT), "port.vhost.path", "is missing"),
    (vhost(path="a.sock"), "port.vhost.path", "absolute"),
    (vhost(path="/run/../a"), "port.vhost.path", "'..'"),
    (vhost(path="/run//a"), "port.vhost.path", "//"),
    (vhost(path="/run/"), "port.vhost.path", "absolute"),
    (vhost(path="/" + "a" * 107), "port.vhost.path", "107"),
    (vhost(path="/a\x00b"), "port.vhost.path", "printable"),
    (vhost(mode="both"), "port.vhost.mode", "client, server"),
    (vhost(uid=-1), "port.vhost.uid", "-1"),
    (vhost(gid=2**32 - 1), "port.vhost.gid", "4294967295"),
    (vhost(owner="x"), "port.vhost.owner", "unknown key"),
    (tap(role="exception", network=None), "port.uplink", "is missing"),
    (tap(role="exception", uplink="uplink:a"), "port.network", "must be null"),
    (tap(role="exception", network=None, uplink="u", mac=None), "port.mac", "is missing"),
    (tap(uplink="uplink:a"), "port.uplink", "must be null"),
    (tap(kind="ethdev"), "port.ethdev", "is missing"),
    (ethdev(devargs=""), "port.ethdev.devargs", "1 to 1024"),
    (ethdev(devargs="a b"), "port.ethdev.devargs", "whitespace"),
    (ethdev(devargs="a" * 1025), "port.ethdev.devargs", "1024"),
    (ethdev(offloads={"gro": True}), "port.ethdev.offloads", "'gro'"),
    (ethdev(offloads={"tso": 1}), "port.ethdev.offloads.tso", "true or false"),
    (ethdev(speed=1), "port.ethdev.speed", "unknown key"),
    (tap(limits=None), "port.limits", "object"),
    (tap(limits={"speed": 1}), "port.limits.speed", "unknown key"),
    (tap(limits={"ingress_bits_s": -1}), "port.limits.ingress_bits_s", "-1"),
    (tap(limits={"egress_bits_s": 999}), "port.limits.egress_bits_s", "at least 1000"),
    (tap(limits={"egress_bits_s": 10**15 + 1}), "port.limits.egress_bits_s", str(10**15)),
    (tap(limits={"egress_bits_s": 1000}), "port.limits.egress_burst_bits", "above 0"),
    (tap(limits={"ingress_burst_bits": 9}), "port.limits.ingress_burst_bits", "without a rate"),
    (tap(role="host", limits=SLOW.to_json()), "port.limits", "role host"),
]


@pytest.mark.parametrize(("given", "field", "words"), BAD_PORTS)
def test_port_is_refused_naming_the_field(given: object, field: str, words: str) -> None:
    with pytest.raises(WireError) as refused:
        PortSpec.from_json(given)
    assert refused.value.code == Code.INVALID
    assert refused.value.field == field
    assert refused.value.message.startswith(f"{field}: ")
    assert words in refused.value.message
    assert refused.value.message.isascii()
    assert "\n" not in refused.value.message


GOOD_NETWORKS = [
    ({"name": "pods"}, NetworkSpec("pods", 1500, None, None)),
    (
        {"name": "p", "mtu": 9000, "uplink": "uplink:w", "vlan": 4094},
        NetworkSpec("p", 9000, "uplink:w", 4094),
    ),
    ({"name": "p", "uplink": None, "vlan": None}, NetworkSpec("p")),
]


@pytest.mark.parametrize(("given", "spec"), GOOD_NETWORKS)
def test_network_is_read(given: dict[str, Any], spec: NetworkSpec) -> None:
    assert NetworkSpec.from_json(given) == spec
    assert NetworkSpec.from_json(spec.to_json()) == spec


BAD_NETWORKS: list[tuple[object, str]] = [
    ("pods", "network"),
    ({}, "network.name"),
    ({"name": "a b"}, "network.name"),
    ({"name": "a", "mtu": 67}, "network.mtu"),
    ({"name": "a", "mtu": None}, "network.mtu"),
    ({"name": "a", "uplink": ""}, "network.uplink"),
    ({"name": "a", "uplink": "u", "vlan": 0}, "network.vlan"),
    ({"name": "a", "uplink": "u", "vlan": 4095}, "network.vlan"),
    ({"name": "a", "uplink": "u", "vlan": "7"}, "network.vlan"),
    ({"name": "a", "vlan": 7}, "network.vlan"),
    ({"name": "a", "x": 1}, "network.x"),
]


@pytest.mark.parametrize(("given", "field"), BAD_NETWORKS)
def test_network_is_refused_naming_the_field(given: object, field: str) -> None:
    with pytest.raises(WireError) as refused:
        NetworkSpec.from_json(given)
    assert refused.value.field == field


def test_long_values_are_cut_in_messages() -> None:
    with pytest.raises(WireError) as refused:
        NetworkSpec.from_json({"name": "x" * 100_000})
    assert len(refused.value.message) < 250


names = st.text(st.characters(min_codepoint=33, max_codepoint=0x24F), min_size=1, max_size=60)
good_names = names.filter(lambda name: name.isprintable() and " " not in name)
unicast_macs = st.binary(min_size=6, max_size=6).filter(lambda b: any(b) and not b[0] & 1)
macs = unicast_macs.map(lambda b: b.hex(":"))
ips = st.ip_addresses().filter(
    lambda a: not a.is_multicast and not a.is_unspecified and str(a) != "255.255.255.255"
)
unix_paths = st.lists(
    st.text("abc.-_é", min_size=1, max_size=9).filter(lambda part: part not in (".", "..")),
    min_size=1,
    max_size=5,
).map(lambda parts: "/" + "/".join(parts))
vhosts = st.builds(
    VhostSpec,
    path=unix_paths,
    mode=st.sampled_from(["client", "server"]),
    uid=st.integers(0, 2**32 - 2),
    gid=st.integers(0, 2**32 - 2),
)
ethdevs = st.builds(
    EthdevSpec,
    devargs=good_names,
    offloads=st.dictionaries(st.sampled_from(specs.OFFLOADS), st.booleans()),
)


directions = st.just((0, 0)) | st.tuples(
    st.integers(MIN_RATE_BITS_S, MAX_RATE_BITS_S), st.integers(1, MAX_BURST_BITS)
)
limits = st.builds(lambda into, out: Limits(*into, *out), directions, directions)


@st.composite
def port_specs(draw: st.DrawFn) -> PortSpec:
    kind: specs.Kind = draw(st.sampled_from(get_args(specs.Kind)))
    role: specs.Role = draw(st.sampled_from(get_args(specs.Role)))
    return PortSpec(
        name=draw(good_names),
        kind=kind,
        role=role,
        network=draw(good_names) if role in ("container", "host") else None,
        uplink=draw(good_names) if role == "exception" else None,
        mac=draw(st.none() | macs if role == "uplink" else macs),
        ips=tuple(draw(st.lists(ips.map(str), max_size=4, unique=True))),
        spoof_check=draw(st.booleans()),
        mtu=draw(st.integers(68, 65521)),
        queues=draw(st.integers(1, 64)),
        queue_size=draw(st.just(0) | st.integers(6, 15).map(lambda bits: 1 << bits)),
        labels=draw(st.dictionaries(good_names, st.text(max_size=30), max_size=4)),
        vhost=draw(vhosts) if kind == "vhost" else None,
        ethdev=draw(ethdevs) if kind == "ethdev" else None,
        limits=draw(limits) if role == "container" else Limits(),
    )


@given(port_specs())
def test_port_survives_the_wire(spec: PortSpec) -> None:
    (body,) = Decoder().feed(wire.encode({"port": spec.to_json()}))
    assert PortSpec.from_json(wire.decode(body)["port"]) == spec


@given(good_names, st.integers(68, 65521), st.none() | good_names, st.integers(1, 4094))
def test_network_survives_the_wire(name: str, mtu: int, uplink: str | None, vlan: int) -> None:
    spec = NetworkSpec(name, mtu, uplink, vlan if uplink else None)
    (body,) = Decoder().feed(wire.encode(spec.to_json()))
    assert NetworkSpec.from_json(wire.decode(body)) == spec


port_keys = st.sampled_from(sorted(PortSpec.__slots__)) | st.text(max_size=3)


@given(st.dictionaries(port_keys, json_values))
def test_any_object_is_read_or_refused(given_port: dict[str, Any]) -> None:
    for read in (PortSpec.from_json, NetworkSpec.from_json, VhostSpec.from_json):
        refusal = refusal_of(read, tap() | given_port)
        assert refusal is None or (refusal.code == Code.INVALID and refusal.field)
