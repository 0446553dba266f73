"""Each of the reference IPAM plugins, and none, by way of the shim."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.smoke.agent import HASTY, Answer, Node, containers, node, valid
from tests.smoke.dhcp import DhcpServer, dhcp_daemon, dhcp_server, released
from tests.smoke.netns import Netns, netns
from tests.smoke.ports import wait_until
from tests.smoke.traffic import ping

LEASE_S = 4
CONFIG = """
uplinks: [{name: wire0, device: "af_packet:wire0"}]
networks: [{name: pods, uplink: wire0}]
"""


@pytest.fixture(scope="module")
def outside() -> Iterator[Netns]:
    with netns() as space:
        yield space


@pytest.fixture(scope="module")
def shared(outside: Netns) -> Iterator[Node]:
    def wire(host: Netns) -> None:
        host.ip(
            f"link add wire0 type veth peer name eth0 netns {outside.name}",
            "link set wire0 up",
        )
        outside.ip("addr add 10.66.0.1/24 dev eth0", "link set eth0 up")
        outside.run("ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off")

    with node(more_config=CONFIG, prepare=wire, module=HASTY) as one:
        yield one


@pytest.fixture
def here(shared: Node) -> Iterator[Node]:
    """The node, on which the test must leave nothing."""
    yield shared
    assert shared.ports() == {"uplink:wire0"}
    assert shared.left_over() == {}


@pytest.fixture
def b() -> Iterator[Netns]:
    with containers(1) as (one,):
        yield one


@pytest.fixture
def server(shared: Node, outside: Netns) -> Iterator[DhcpServer]:
    with dhcp_server(outside, shared.directory, LEASE_S) as one:
        yield one


@pytest.fixture
def dhcp(shared: Node) -> Iterator[dict[str, Any]]:
    """The ipam section."""
    with dhcp_daemon(shared.host, shared.directory) as path:
        yield {"type": "dhcp", "daemonSocketPath": str(path)}


def addresses(space: Netns) -> set[str]:
    (link,) = json.loads(space.run("ip", "-j", "addr", "show", "eth0"))
    found = [each for each in link["addr_info"] if each["scope"] == "global"]
    return {f"{each['local']}/{each['prefixlen']}" for each in found}


def reported(answer: Answer) -> set[str]:
    return {ip["address"] for ip in answer.body["ips"]}


def test_host_local_with_two_families_three_ranges_and_routes(
    here: Node, a: Netns, b: Netns
) -> None:
    ipam = here.conf()["ipam"] | {
        "ranges": [
            [{"subnet": "10.70.0.0/24", "rangeStart": "10.70.0.9"}],
            [
                {"subnet": "10.71.0.0/24", "rangeStart": "10.71.0.9", "rangeEnd": "10.71.0.9"},
                {"subnet": "10.72.0.0/24", "gateway": "10.72.0.254"},
            ],
            [{"subnet": "fd70::/64"}],
        ],
        "routes": [{"dst": "10.99.0.0/16"}, {"dst": "fd99::/16", "gw": "fd70::77"}],
    }
    keys = {"ipam": ipam, "isGateway": True}
    first, second = here.add("a", a, **keys), here.add("b", b, **keys)
    assert reported(first) == {"10.70.0.9/24", "10.71.0.9/24", "fd70::2/64"} == addresses(a)
    assert reported(second) == {"10.70.0.10/24", "10.72.0.1/24", "fd70::3/64"} == addresses(b)
    assert "10.99.0.0/16 via 10.70.0.1 dev eth0" in a.run("ip", "route")
    assert "fd99::/16 via fd70::77 dev eth0" in a.run("ip", "-6", "route")
    for address in ("10.70.0.10", "fd70::3", "10.70.0.1", "10.71.0.1", "fd70::1"):
        assert ping(a, address) == 3
    for name, space in (("a", a), ("b", b)):
        prev = {"a": first, "b": second}[name].body
        assert here.call("CHECK", name, space, **keys, prevResult=prev).status == 0
        here.delete(name, space, **keys)


def test_static_with_routes_and_dns(here: Node, a: Netns) -> None:
    ipam = {
        "type": "static",
        "addresses": [
            {"address": "10.66.0.50/24", "gateway": "10.66.0.1"},
            {"address": "fd66::50/64"},
        ],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.98.0.0/16", "gw": "10.66.0.7"}],
        "dns": {"nameservers": ["10.66.0.1"], "domain": "lab", "search": ["lab", "example.org"]},
    }
    answer = here.add("a", a, ipam=ipam)
    assert answer.body["dns"] == ipam["dns"]
    assert reported(answer) == {"10.66.0.50/24", "fd66::50/64"} == addresses(a)
    routes = a.run("ip", "route")
    assert "default via 10.66.0.1 dev eth0" in routes
    assert "10.98.0.0/16 via 10.66.0.7 dev eth0" in routes
    assert ping(a, "10.66.0.1") == 3
    assert here.call("CHECK", "a", a, ipam=ipam, prevResult=answer.body).status == 0
    here.delete("a", a, ipam=ipam)


@pytest.mark.parametrize(
    ("keys", "address"),
    [
        ({"runtimeConfig": {"ips": ["10.66.0.61/24"]}}, "10.66.0.61/24"),
        ({"args": "IP=10.66.0.62/24"}, "10.66.0.62/24"),
    ],
)
def test_static_with_the_addresses_asked_for(
    here: Node, a: Netns, keys: dict[str, Any], address: str
) -> None:
    keys |= {"ipam": {"type": "static"}, "capabilities": {"ips": True}}
    assert reported(here.add("a", a, **keys)) == {address} == addresses(a)
    here.delete("a", a, **keys)


def test_without_ipam_there_is_a_wire_and_nothing_else(here: Node, a: Netns) -> None:
    keys: dict[str, Any] = {"ipam": None, "isGateway": True, "ipMasq": True}
    answer = here.add("a", a, **keys)
    assert set(answer.body) == {"cniVersion", "interfaces"}
    assert addresses(a) == set()
    a.ip("addr add 10.66.0.70/24 dev eth0")
    assert ping(a, "10.66.0.1") == 3
    assert here.call("CHECK", "a", a, prevResult=answer.body, **keys).status == 0
    here.delete("a", a, **keys)


def test_dhcp(
    here: Node, outside: Netns, a: Netns, server: DhcpServer, dhcp: dict[str, Any]
) -> None:
    answer = here.add("a", a, ipam=dhcp)
    assert reported(answer) == {f"{server.address}/24"} == addresses(a)
    assert "default via 10.66.0.1 dev eth0" in a.run("ip", "route")
    assert here.port("pod:a/eth0")["spec"]["ips"] == [server.address]
    assert ping(a, "10.66.0.1") == 3
    assert here.call("CHECK", "a", a, ipam=dhcp, prevResult=answer.body).status == 0
    acks = server.count("sending ACK")
    wait_until(lambda: server.count("sending ACK") > acks, "a renewal", 3 * LEASE_S)
    assert here.port("pod:a/eth0")["counters"]["drops"] == {}
    with outside.packet_socket() as wire:
        here.delete("a", a, ipam=dhcp)
        assert released(wire) == [server.address]


def test_dhcp_of_what_a_killed_agent_has_left_half_attached(
    here: Node, outside: Netns, a: Netns, server: DhcpServer, dhcp: dict[str, Any]
) -> None:
    here.add("a", a, ipam=dhcp)
    here.end(signal.SIGKILL)
    (record,) = here.directory.glob("state/attachments/*")
    begun = json.loads(record.read_text()) | {"result": {}}  # as a DEL begins
    record.write_text(json.dumps(begun))
    with outside.packet_socket() as wire:
        here.start()
        wait_until(lambda: here.left_over() == {}, "the rest of it is gone")
        assert released(wire) == [server.address]


def test_dhcp_without_a_server_leaves_nothing(here: Node, a: Netns, dhcp: dict[str, Any]) -> None:
    dhcp |= {"daemonSocketPath": "/run/cvs-there-is-no-daemon"}
    refused = here.call("ADD", "a", a, ipam=dhcp, isGateway=True)
    assert refused.status == 1
    assert refused.body["msg"].startswith("IPAM plugin dhcp: error dialing DHCP daemon")
    assert "eth0" not in a.run("ip", "-o", "link")


def test_dhcp_gives_its_lease_back_if_the_rest_fails(
    here: Node, outside: Netns, a: Netns, dhcp: dict[str, Any]
) -> None:
    unreachable = "option staticroutes 10.9.0.0/16 99.1.1.1\n"
    with dhcp_server(outside, here.directory, LEASE_S, unreachable) as server:
        with outside.packet_socket() as wire:
            refused = here.call("ADD", "a", a, ipam=dhcp)
            assert released(wire) == [server.address]
        assert refused.body["msg"].startswith("cannot add route 10.9.0.0/16 via 99.1.1.1 dev eth0")
    assert "eth0" not in a.run("ip", "-o", "link")


def test_dhcp_needs_a_kernel_interface(here: Node, a: Netns, dhcp: dict[str, Any]) -> None:
    refused = here.call("ADD", "a", a, ipam=dhcp, interface="vhost-user")
    assert (refused.status, refused.body["code"]) == (1, 7)
    assert refused.body["msg"].startswith("ipam.type: 'dhcp' asks through a kernel interface")


def test_gc_gives_back_leases_of_dhcp(
    here: Node, outside: Netns, a: Netns, server: DhcpServer, dhcp: dict[str, Any]
) -> None:
    here.add("a", a, ipam=dhcp)
    with outside.packet_socket() as wire:
        assert here.call("GC", ipam=dhcp, **valid()).status == 0
        assert released(wire) == [server.address]


def test_a_lease_does_not_keep_a_sandbox_that_is_gone(
    here: Node, server: DhcpServer, dhcp: dict[str, Any]
) -> None:
    with containers(1) as (space,):
        here.add("a", space, ipam=dhcp)
        inode = space.path.stat().st_ino
    assert inode in namespaces_in_use()  # the daemon's thread is in there
    wait_until(lambda: "pod:a/eth0" not in here.ports(), "its removal", 30)
    wait_until(lambda: inode not in namespaces_in_use(), "the daemon to let go", 10)


def namespaces_in_use() -> set[int]:
    found = set()
    for link in Path("/proc").glob("[0-9]*/task/[0-9]*/ns/net"):
        with suppress(OSError):
            found.add(link.stat().st_ino)
    return found
