"""What the control socket can do: networks, ports, vhost-user sockets and descriptors."""

from __future__ import annotations

import os
import socket
import stat
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dataplane.client import DataplaneClient, DataplaneError
from dataplane.limits import Limits
from dataplane.operations import Operations
from dataplane.wire import EthdevSpec, NetworkSpec, PortSpec, Request, VhostSpec
from tests.fuzz_input.fake_engine import FakeEngine
from tests.unit import dataplane_process
from tests.unit.dataplane_process import (
    CORES,
    TAP,
    Dataplane,
    needs_engine,
    needs_root,
    read_reply,
    request,
    vhost_port,
)

socket_dir = dataplane_process.socket_dir
dataplane = dataplane_process.dataplane
control = dataplane_process.control


@needs_engine
def test_version(dataplane: Dataplane, control: DataplaneClient) -> None:
    version = control.version()
    assert version["pid"] == dataplane.process.pid
    assert version["version"] == "0.1.0"
    assert "DPDK" in version["dpdk"]
    assert version["frontends_guarded"] is (os.environ.get("DPDK") != "system")
    assert version["cores"] == [CORES[-1]]
    assert version["idle"] == "adaptive"
    assert version["pci"] == []
    assert version["memory"]["huge"] is False
    assert len(version["instance"]) == 36
    assert dataplane.client().version()["instance"] == version["instance"]


def test_version_tells_the_nics_that_it_was_given() -> None:
    options: Any = SimpleNamespace(cores=(1,), idle="poll", pci=("0000:3b:00.0", "0000:3c:00.1"))
    engine, unneeded = cast("Any", FakeEngine(Path())), cast("Any", None)
    operations = Operations(engine, options, unneeded, unneeded, unneeded)
    version = operations.handle(Request(1, "version"), []).result
    assert version["pci"] == ["0000:3b:00.0", "0000:3c:00.1"]
    assert version["iova_mode"] == "va"


@needs_engine
def test_socket_is_private(dataplane: Dataplane) -> None:
    found = Path(dataplane.path).stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_uid == os.geteuid()


@needs_engine
def test_workers(control: DataplaneClient) -> None:
    workers = control.workers()
    assert workers["tsc_hz"] > 0
    assert [worker["core"] for worker in workers["workers"]] == [CORES[-1]]
    assert all({"size", "in_use"} <= set(pool) for pool in workers["mbufs"].values())


@needs_engine
def test_network_life(control: DataplaneClient) -> None:
    spec = NetworkSpec("more", mtu=9000)
    control.network_add(spec)
    control.network_add(spec)
    with pytest.raises(DataplaneError, match="network more exists with other settings") as refused:
        control.network_add(replace(spec, mtu=1500))
    assert refused.value.code == "exists"
    (found,) = (n for n in control.networks()["networks"] if n["spec"]["name"] == "more")
    assert NetworkSpec.from_json(found["spec"]) == spec
    assert found["ports"] == []
    control.network_del("more")
    with pytest.raises(DataplaneError, match="no network more") as absent:
        control.network_del("more")
    assert (absent.value.code, absent.value.field) == ("not_found", "name")


@needs_engine
def test_network_with_ports_stays(control: DataplaneClient, socket_dir: Path) -> None:
    control.port_add(vhost_port(socket_dir))
    with pytest.raises(DataplaneError, match="1 ports, among them pod:c1/eth0") as refused:
        control.network_del("pods")
    assert refused.value.code == "invalid"


@needs_engine
def test_network_on_an_unknown_uplink(control: DataplaneClient, socket_dir: Path) -> None:
    control.port_add(vhost_port(socket_dir))
    for uplink, code in (("uplink:none", "not_found"), ("pod:c1/eth0", "invalid")):
        with pytest.raises(DataplaneError, match=uplink) as refused:
            control.network_add(NetworkSpec("more", uplink=uplink))
        assert (refused.value.code, refused.value.field) == (code, "network.uplink")
    assert [n["spec"]["name"] for n in control.networks()["networks"]] == ["pods"]


@needs_engine
def test_network_on_an_uplink(control: DataplaneClient) -> None:
    uplink = PortSpec("uplink:n", "ethdev", "uplink", ethdev=EthdevSpec("net_null0"))
    control.port_add(uplink)
    control.network_add(NetworkSpec("more", uplink="uplink:n", vlan=7))
    with pytest.raises(DataplaneError) as refused:
        control.network_add(NetworkSpec("other", uplink="uplink:n", vlan=7))
    assert refused.value.code in ("exists", "invalid")
    with pytest.raises(DataplaneError) as refused:
        control.port_del("uplink:n")
    assert refused.value.code == "invalid"
    control.network_del("more")
    control.port_del("uplink:n")


@needs_engine
def test_port_life(control: DataplaneClient, socket_dir: Path) -> None:
    spec = replace(vhost_port(socket_dir), labels={"pod": "ns/web 0"}, ips=("10.0.0.1", "fd00::1"))
    control.port_add(spec)
    control.port_add(spec)
    (port,) = control.ports("pod:c1/eth0")["ports"]
    assert PortSpec.from_json(port["spec"]) == spec
    assert port["state"]["ready"] is False
    assert port["counters"]["rx_packets"] == 0
    assert control.networks()["networks"][0]["ports"] == ["pod:c1/eth0"]
    entries = control.fdb("pods")["entries"]
    assert [(e["mac"], e["port"], e["static"]) for e in entries] == [(spec.mac, spec.name, True)]
    assert control.port_del("pod:c1/eth0")["counters"]["tx_packets"] == 0
    assert control.ports() == {"ports": []}
    assert control.fdb("pods") == {"entries": []}
    with pytest.raises(DataplaneError, match="no port pod:c1/eth0") as absent:
        control.port_del("pod:c1/eth0")
    assert absent.value.code == "not_found"


@needs_engine
def test_limits_are_set_on_a_running_port(control: DataplaneClient, socket_dir: Path) -> None:
    spec = replace(vhost_port(socket_dir), limits=Limits(10**8, 10**6))
    control.port_add(spec)
    for limits in (Limits(0, 0, 10**9, 10**7), Limits(), Limits(1000, 8)):
        control.port_set(spec.name, limits)
        (port,) = control.ports(spec.name)["ports"]
        assert PortSpec.from_json(port["spec"]) == replace(spec, limits=limits)
        assert port["counters"]["ingress_held_packets"] == port["counters"]["egress_pauses"] == 0
    with pytest.raises(DataplaneError, match="no port pod:c2/eth0") as absent:
        control.port_set("pod:c2/eth0", Limits())
    assert (absent.value.code, absent.value.field) == ("not_found", "name")


@needs_engine
def test_only_containers_ports_have_limits(control: DataplaneClient) -> None:
    control.port_add(PortSpec("uplink:n", "ethdev", "uplink", ethdev=EthdevSpec("net_null0")))
    with pytest.raises(DataplaneError, match="has the role uplink") as refused:
        control.port_set("uplink:n", Limits(1000, 8))
    assert (refused.value.code, refused.value.field) == ("invalid", "limits")
    control.port_del("uplink:n")


@needs_engine
def test_port_exists_with_other_settings(control: DataplaneClient, socket_dir: Path) -> None:
    spec = vhost_port(socket_dir)
    control.port_add(spec)
    for other in (replace(spec, mtu=1400), replace(TAP, name=spec.name)):
        with pytest.raises(DataplaneError, match="exists with other settings") as refused:
            control.port_add(other)
        assert refused.value.code == "exists"


@needs_engine
def test_two_ports_on_one_vhost_path(control: DataplaneClient, socket_dir: Path) -> None:
    first = vhost_port(socket_dir)
    control.port_add(first)
    second = replace(vhost_port(socket_dir, "pod:c2/eth0", 2), vhost=first.vhost)
    with pytest.raises(DataplaneError, match="pod:c1/eth0 already uses") as refused:
        control.port_add(second)
    assert (refused.value.code, refused.value.field) == ("exists", "port.vhost.path")


@needs_engine
@pytest.mark.parametrize(
    ("op", "args", "code", "field"),
    [
        ("fly", {}, "unsupported", "op"),
        ("version", {"verbose": True}, "invalid", "verbose"),
        ("network_add", {}, "invalid", "network"),
        ("network_add", {"network": {"name": "a b"}}, "invalid", "network.name"),
        ("network_del", {"name": 7}, "invalid", "name"),
        ("fdb", {"network": "none"}, "not_found", "network"),
        ("ports", {"name": "none"}, "not_found", "name"),
        ("port_del", {}, "invalid", "name"),
        ("port_add", {"port": []}, "invalid", "port"),
        ("port_add", {"port": TAP.to_json() | {"mtu": 1}}, "invalid", "port.mtu"),
        ("port_add", {"port": TAP.to_json() | {"x": 1}}, "invalid", "port.x"),
        ("port_add", {"port": TAP.to_json() | {"network": "n"}}, "not_found", "port.network"),
        ("port_add", {"port": TAP.to_json()}, "invalid", "port.queues"),
    ],
)
def test_refusals(
    dataplane: Dataplane,
    control: DataplaneClient,
    op: str,
    args: dict[str, Any],
    code: str,
    field: str,
) -> None:
    with dataplane.connect() as sock:
        sock.sendall(request(op, 9, **args))
        reply = read_reply(sock)
        assert reply is not None
        assert (reply["id"], reply["ok"]) == (9, False)
        assert (reply["error"]["code"], reply["error"]["field"]) == (code, field), reply
        sock.sendall(request("version", 10))
        reply = read_reply(sock)
        assert reply is not None
        assert reply["ok"] is True


@needs_engine
def test_engine_refuses_an_unknown_device(control: DataplaneClient) -> None:
    device = EthdevSpec("net_no_such_driver0")
    with pytest.raises(DataplaneError, match="net_no_such_driver0"):
        control.port_add(PortSpec("uplink:x", "ethdev", "uplink", ethdev=device))
    assert control.ports() == {"ports": []}


@needs_engine
@needs_root
def test_vhost_socket_belongs_to_the_application(
    control: DataplaneClient, socket_dir: Path
) -> None:
    path = socket_dir / "v1.sock"
    control.port_add(
        replace(vhost_port(socket_dir), vhost=VhostSpec(str(path), "client", 1234, 99))
    )
    found = path.lstat()
    assert stat.S_ISSOCK(found.st_mode)
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 99, 0o600)
    control.port_del("pod:c1/eth0")
    assert not path.exists()


@needs_engine
def test_stale_vhost_socket_is_replaced(control: DataplaneClient, socket_dir: Path) -> None:
    spec = vhost_port(socket_dir)
    assert spec.vhost
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(spec.vhost.path)
    control.port_add(spec)
    with socket.socket(socket.AF_UNIX) as application:
        application.connect(spec.vhost.path)


@needs_engine
def test_served_vhost_socket_is_left_alone(control: DataplaneClient, socket_dir: Path) -> None:
    spec = vhost_port(socket_dir)
    assert spec.vhost
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(spec.vhost.path)
        other.listen()
        with pytest.raises(DataplaneError, match=f"pid {os.getpid()}.* already listens") as refused:
            control.port_add(spec)
        assert refused.value.code == "exists"
        assert Path(spec.vhost.path).is_socket()


@needs_engine
@pytest.mark.parametrize("what", ["file", "directory", "link"])
def test_what_is_no_socket_is_left_alone(
    control: DataplaneClient, socket_dir: Path, what: str
) -> None:
    spec = vhost_port(socket_dir)
    assert spec.vhost
    path = Path(spec.vhost.path)
    if what == "file":
        path.write_text("precious")
    elif what == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/null")
    before = path.lstat()
    with pytest.raises(DataplaneError, match="not a socket"):
        control.port_add(spec)
    assert path.lstat() == before
    assert control.ports() == {"ports": []}


@needs_engine
def test_vhost_directory_that_is_missing(control: DataplaneClient, socket_dir: Path) -> None:
    with pytest.raises(DataplaneError, match=str(socket_dir / "gone")) as refused:
        control.port_add(vhost_port(socket_dir / "gone"))
    assert refused.value.code == "not_found"


@needs_engine
def test_vhost_server_mode_makes_no_socket(control: DataplaneClient, socket_dir: Path) -> None:
    path = socket_dir / "app.sock"
    control.port_add(replace(vhost_port(socket_dir), vhost=VhostSpec(str(path), "server")))
    assert not path.exists()
    assert control.ports()["ports"][0]["state"]["ready"] is False
