"""The reference plugins in a chain with ours, before and after it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.smoke.agent import HASTY, Node, node
from tests.smoke.chain import Chain
from tests.smoke.netns import Netns, netns
from tests.smoke.ports import wait_until
from tests.smoke.traffic import ping

HTTP = 8080
OTHER_MAC = "02:00:00:00:bb:01"


@pytest.fixture(scope="module")
def shared() -> Iterator[Node]:
    with node(module=HASTY) as one:
        yield one


@pytest.fixture(scope="module")
def outside(shared: Node) -> Iterator[Netns]:
    with netns() as space:
        shared.host.ip(
            f"link add wire0 type veth peer name eth0 netns {space.name}",
            "addr add 192.0.2.1/24 dev wire0",
            "link set wire0 up",
        )
        space.ip(
            "addr add 192.0.2.2/24 dev eth0", "link set eth0 up", "route add default via 192.0.2.1"
        )
        yield space


def link(space: Netns) -> dict[str, Any]:
    (found,) = json.loads(space.run("ip", "-j", "-d", "addr", "show", "eth0"))
    return dict(found)


def answer_once(space: Netns) -> threading.Thread:
    """Say hello to the first who connects."""
    listener = space.inside(lambda: socket.create_server(("0.0.0.0", HTTP)))

    def serve() -> None:
        with listener:
            listener.settimeout(10)
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"hello")

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def read_from(space: Netns, address: str, port: int) -> bytes:
    with space.inside(lambda: socket.create_connection((address, port), timeout=5)) as sock:
        return sock.recv(100)


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0"])
def test_four_plugins_after_ours(here: Node, outside: Netns, a: Netns, version: str) -> None:
    mapping = {"hostPort": 80, "containerPort": HTTP, "protocol": "tcp"}
    after: list[dict[str, Any]] = [
        {
            "type": "tuning",
            "mtu": 1400,
            "promisc": True,
            "sysctl": {"net.ipv4.conf.eth0.log_martians": "1"},
        },
        {"type": "portmap", "runtimeConfig": {"portMappings": [mapping]}, "snat": True},
        {"type": "firewall", "backend": "iptables"},
        {"type": "sbr"},
    ]
    chain = Chain(here, [{"isDefaultGateway": True, "ipMasq": True}, *after], version)
    answer = chain.add("c1", a)
    assert answer.status == 0, answer.body
    # portmap 1.1.1 looks for rules of IPv4 in ip6tables as well, after any plugin.
    assert chain.check("c1", a).keys() <= {"portmap"}
    found = link(a)
    assert (found["mtu"], found["promiscuity"]) == (1400, 1)
    assert "default" not in a.run("ip", "route")  # sbr moved it
    assert "default via 10.88.0.1" in a.run("ip", "route", "show", "table", "100")
    address = answer.body["ips"][0]["address"].split("/")[0]
    a.run("ping", "-c", "1", "-W", "2", "-I", address, "10.88.0.1")  # sbr goes by the source
    assert ping(here.host, address) == 3
    server = answer_once(a)
    assert read_from(outside, "192.0.2.1", 80) == b"hello"
    server.join()
    chain.delete("c1", a)
    assert address not in here.host.run("iptables-save")
    assert "cni_virtio" not in here.host.run("nft", "list", "ruleset")


def test_check_after_sbr_and_tuning_still_sees_what_is_missing(here: Node, a: Netns) -> None:
    chain = Chain(
        here, [{"isDefaultGateway": True}, {"type": "tuning", "mtu": 1400}, {"type": "sbr"}]
    )
    assert chain.add("c1", a).status == 0
    a.ip("route del default table 100")
    assert chain.check("c1", a)["cni-virtio"].endswith("has lost the route to 0.0.0.0/0")
    a.ip("link set eth0 mtu 9000")
    assert "has MTU 9000, more than the 1500" in chain.check("c1", a)["cni-virtio"]
    chain.delete("c1", a)


def test_a_mac_of_tuning_is_named_as_the_cause(here: Node, a: Netns) -> None:
    chain = Chain(here, [{"isGateway": True}, {"type": "tuning", "mac": OTHER_MAC}])
    answer = chain.add("c1", a)
    assert answer.body["interfaces"][0]["mac"] == OTHER_MAC == link(a)["address"]
    a.run("ping", "-c", "1", "-W", "1", "10.88.0.1", check=False)
    assert here.port("pod:c1/eth0")["counters"]["drops"]["spoof_mac"] > 0
    said = chain.check("c1", a)["cni-virtio"]
    assert f"had its MAC changed to {OTHER_MAC} after ADD" in said
    assert "capability mac" in said
    # Few runtimes ever call CHECK.
    wait_until(lambda: said in here.status()["messages"], "a message of the agent", 15)
    assert said in (here.directory / "agent.log").read_text()
    chain.delete("c1", a)
    wait_until(lambda: said not in here.status()["messages"], "its end", 15)


def test_a_rate_for_the_bandwidth_plugin_fails_and_leaves_nothing(here: Node, a: Netns) -> None:
    limits = {"ingressRate": 1000000, "ingressBurst": 100000}
    chain = Chain(here, [{}, {"type": "bandwidth"} | limits])
    refused = chain.add("c1", a)
    assert "not a veth interface" in refused.body["msg"]
    chain.delete("c1", a)


def test_after_other_plugins_their_result_comes_first(here: Node, a: Netns) -> None:
    earlier: dict[str, Any] = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "wg0", "mac": "02:00:00:00:cc:01", "sandbox": str(a.path)}],
        "ips": [{"address": "172.16.0.2/24", "interface": 0}],
        "routes": [{"dst": "172.16.0.0/12"}],
        "dns": {"nameservers": ["172.16.0.1"], "domain": "vpn"},
    }
    dns = {"nameservers": ["10.88.0.1", "172.16.0.1"], "search": ["lab"]}
    keys: dict[str, Any] = {"cniVersion": "1.0.0", "isDefaultGateway": True, "dns": dns}
    body = here.add("c1", a, prevResult=earlier, **keys).body
    assert [each["name"] for each in body["interfaces"]] == ["wg0", "eth0", "cv-pods"]
    assert [ip["interface"] for ip in body["ips"]] == [0, 1, 1]
    assert body["ips"][0] == earlier["ips"][0]
    assert [route["dst"] for route in body["routes"]] == ["172.16.0.0/12", "0.0.0.0/0", "::/0"]
    assert body["dns"] == {
        "nameservers": ["172.16.0.1", "10.88.0.1"],
        "domain": "vpn",
        "search": ["lab"],
    }
    # The other plugin's address and route are not ours to find.
    assert here.call("CHECK", "c1", a, prevResult=body, **keys).status == 0
    a.ip(f"addr del {body['ips'][1]['address']} dev eth0")
    assert here.call("CHECK", "c1", a, prevResult=body, **keys).status == 1
    here.delete("c1", a, prevResult=body, **keys)


def test_del_makes_do_without_a_readable_prev_result(here: Node, a: Netns) -> None:
    here.add("c1", a)
    here.delete("c1", a, prevResult={"cniVersion": "9.9.9", "ips": "none"})
