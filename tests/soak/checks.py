"""What is there, compared with the model."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path
from typing import Any

from cni_virtio.ctl.agent_client import AgentError, query
from tests.smoke.ports import wait_until
from tests.soak.model import APART, PODS, Container, Model

_SETTLES_S = 10


def matches(model: Model) -> None:
    """Compare all; raises AssertionError that says what differs."""
    ports = {each["spec"]["name"]: each for each in query(model.node.socket, "ports")["ports"]}
    assert ports.keys() == _expected_ports(model), sorted(ports)
    status = model.node.status()
    assert status["failures"] == {}, status["failures"]
    assert status["attachments"] == len(model.containers), status["attachments"]
    _check_records(model)
    _check_leases(model)
    for container in model.containers.values():
        _check_port(container, ports[container.port])
        if container.kind.is_kernel:
            _check_interface(container)
        else:
            _check_socket(container)
    _check_forwarding(model)


def comes_to_match(model: Model) -> None:
    """Compare all, as often as it takes for what has been started anew to be as before."""
    deadline_s = time.monotonic() + _SETTLES_S
    while True:
        try:
            matches(model)
        except (AssertionError, AgentError):
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.02)
        else:
            return


def _expected_ports(model: Model) -> set[str]:
    hosts = {f"host:{net.name}" for net in (PODS, APART) if model.has_gateway(net)}
    return hosts | {each.port for each in model.containers.values()}


def _check_records(model: Model) -> None:
    folder = model.node.directory / "state" / "attachments"
    expected = {f"{c.kind.net.name}@{c.name}@eth0.json" for c in model.containers.values()}
    assert {path.name for path in folder.iterdir()} == expected
    quarantine = model.node.directory / "state" / "quarantine"
    assert not list(quarantine.iterdir())


def _check_leases(model: Model) -> None:
    files = list(model.node.directory.glob("ipam/*/10.*"))
    found = {(path.parent.name, path.name): path.read_text().split()[0] for path in files}
    expected = {(each.kind.net.name, each.address): each.name for each in model.containers.values()}
    assert found == expected, found


def _check_port(container: Container, port: dict[str, Any]) -> None:
    spec, state = port["spec"], port["state"]
    assert (spec["mac"], spec["ips"]) == (container.mac, [container.address])
    assert spec["network"] == container.kind.net.name
    if container.kind.is_kernel:
        assert state["ready"], f"{container.port} is not ready"
        assert state["rx_queues"] == container.kind.keys.get("queues", 1)
    found = spec.get("limits", {})
    rates = {way: found.get(f"{way}_bits_s", 0) for way in ("ingress", "egress")}
    in_force = {way: rate for way, rate in rates.items() if rate}
    assert in_force == container.limits, container.port


def _check_interface(container: Container) -> None:
    (link,) = json.loads(container.space.run("ip", "-j", "addr", "show", "eth0"))
    assert link["address"] == container.mac
    assert {"UP", "LOWER_UP"} <= set(link["flags"]), link["flags"]
    addresses = [each["local"] for each in link["addr_info"] if each["family"] == "inet"]
    assert addresses == [container.address]


def _check_socket(container: Container) -> None:
    folder = container.socket.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    if container.kind.role == "client":
        assert container.socket.is_socket()


def _check_forwarding(model: Model) -> None:
    """The fixed entries are those of the containers and hosts, and no others."""
    for net in (PODS, APART):
        here = list(model.of(net))
        if not here:
            continue
        entries = query(model.node.socket, "fdb", {"network": net.name})["entries"]
        found = {each["mac"]: each["port"] for each in entries}
        expected = {each.mac: each.port for each in here}
        hosts = {mac: port for mac, port in found.items() if port == f"host:{net.name}"}
        assert found == expected | hosts, found
        assert len(hosts) == model.has_gateway(net)


def is_empty(model: Model) -> None:
    """See that nothing is left once all are detached; the kernel may take a moment."""
    assert not model.containers
    node = model.node
    wait_until(lambda: not node.ports() and not node.left_over(), "nothing is left", _SETTLES_S)
    spaces = [path.name for path in Path("/run/netns").glob(f"{node.host.name}-*")]
    assert spaces == []
