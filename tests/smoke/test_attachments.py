"""ADD, CHECK, DEL, GC and STATUS by way of the shim, and what they leave."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.smoke.agent import PLUGINS, Node, containers, node
from tests.smoke.netns import Netns
from tests.smoke.traffic import ping

MANY = 50


@pytest.fixture(scope="module")
def shared() -> Iterator[Node]:
    with node() as one:
        yield one


@pytest.fixture
def here(shared: Node) -> Iterator[Node]:
    """The node, on which the test must leave nothing."""
    yield shared
    assert shared.ports() == set()
    assert shared.networks() == {"narrow"}
    assert shared.left_over() == {}


@pytest.fixture
def b() -> Iterator[Netns]:
    with containers(1) as (one,):
        yield one


def link(space: Netns) -> dict[str, Any]:
    (found,) = json.loads(space.run("ip", "-j", "-d", "addr", "show", "eth0"))
    return dict(found)


def links(space: Netns) -> list[str]:
    return [each["ifname"] for each in json.loads(space.run("ip", "-j", "link"))]


def test_a_container_gets_what_the_result_says(here: Node, a: Netns) -> None:
    answer = here.add("c1", a, isDefaultGateway=True, queues=2)
    container, host = answer.body["interfaces"]
    found = link(a)
    assert found["address"] == container["mac"]
    assert found["mtu"] == container["mtu"] == 1500
    assert found["linkinfo"]["info_data"]["multi_queue"]
    assert container["sandbox"] == str(a.path)
    assert host["name"] == "cv-pods"
    have = {f"{each['local']}/{each['prefixlen']}" for each in found["addr_info"]}
    assert {ip["address"] for ip in answer.body["ips"]} <= have
    assert {ip["interface"] for ip in answer.body["ips"]} == {0}
    assert "default via 10.88.0.1 dev eth0" in a.run("ip", "route")
    assert "default via fd88::1 dev eth0" in a.run("ip", "-6", "route")
    assert here.ports() == {"pod:c1/eth0", "host:pods"}
    here.delete("c1", a, isDefaultGateway=True)
    assert links(a) == ["lo"]


def test_containers_and_host_reach_one_another(here: Node, a: Netns, b: Netns) -> None:
    first, second = here.add("a", a, isGateway=True), here.add("b", b, isGateway=True)
    for address in (second.address, "10.88.0.1", "fd88::1", "fd88::3"):
        assert ping(a, address) == 3
    assert ping(here.host, first.address) == 3
    here.delete("a", a, isGateway=True)
    assert ping(b, "10.88.0.1") == 3
    here.delete("b", b, isGateway=True)


def test_a_second_add_fails_and_harms_nothing(here: Node, a: Netns, b: Netns) -> None:
    here.add("a", a)
    second = here.add("b", b)
    again = here.call("ADD", "a", a)
    assert (again.status, again.body["code"]) == (1, 4)
    assert "attached already" in again.body["msg"]
    assert ping(a, second.address) == 3
    here.delete("a", a)
    here.delete("b", b)


def test_an_attachment_whose_namespace_is_gone_makes_room(here: Node, b: Netns) -> None:
    with containers(1) as (a,):
        here.add("c1", a)
    here.add("c1", b, ifname="eth0", ipam=None)
    here.delete("c1", b)


def test_del_of_what_is_gone_or_never_was(here: Node, a: Netns) -> None:
    here.delete("never", a)
    here.delete("never")
    with containers(1) as (b,):
        here.add("b", b, isGateway=True)
    here.delete("b", isGateway=True)
    here.add("a", a)
    for _ in range(2):
        here.delete("a", a)


def test_del_leaves_the_interfaces_of_others_alone(here: Node, a: Netns) -> None:
    a.ip("link add eth0 type veth peer name peer0")
    here.delete("c1", a)
    assert "eth0" in links(a)
    refused = here.call("ADD", "c1", a)
    assert (refused.status, refused.body["code"]) == (1, 4)
    assert refused.body["msg"].startswith("CNI_IFNAME: 'eth0' exists already")
    assert "eth0" in links(a)


def test_the_mac_asked_for(here: Node, a: Netns) -> None:
    mac = "02:00:00:00:aa:01"
    here.add("c1", a, runtimeConfig={"mac": mac})
    assert link(a)["address"] == mac
    here.delete("c1", a)


def test_a_declared_network_gives_its_mtu_and_limits_it(here: Node, a: Netns) -> None:
    here.add("c1", a, network="narrow")
    assert link(a)["mtu"] == 1400
    here.delete("c1", a, network="narrow")
    refused = here.call("ADD", "c1", a, network="narrow", mtu=1500)
    assert refused.body["code"] == 7
    assert refused.body["msg"] == "mtu: 1500 is more than the 1400 of network narrow"


@pytest.mark.parametrize("mode", ["client", "server"])
def test_a_vhost_user_socket_has_a_folder_of_its_own(here: Node, a: Netns, mode: str) -> None:
    keys = {"interface": "vhost-user", "vhostUser": {"mode": mode, "uid": 1234, "gid": 1235}}
    args = "IgnoreUnknown=1;K8S_POD_UID=0123-abc;K8S_POD_NAME=web;K8S_POD_NAMESPACE=prod"
    answer = here.add("c1", a, args=args, **keys)
    path = Path(answer.body["interfaces"][0]["socketPath"])
    assert path == here.directory / "vhost" / "0123-abc" / "eth0.sock"
    folder = path.parent.stat()
    assert (stat.S_IMODE(folder.st_mode), folder.st_uid, folder.st_gid) == (0o700, 1234, 1235)
    assert path.exists() == (mode == "client")
    assert links(a) == ["lo"]
    here.delete("c1", a, args=args, **keys)


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ("IgnoreUnknown=1;K8S_POD_UID=../../etc", 4, "K8S_POD_UID='../../etc' cannot be"),
        ("IgnoreUnknown=1;K8S_POD_UID=" + "u" * 90, 7, "choose a shorter agent.socket_dir"),
    ],
)
def test_a_socket_that_cannot_be(here: Node, a: Netns, args: str, code: int, said: str) -> None:
    refused = here.call("ADD", "c1", a, interface="vhost-user", args=args)
    assert refused.body["code"] == code
    assert said in refused.body["msg"]


PLUGIN_SCRIPTS = {
    "garbage": "cat > /dev/null; echo '{not json'",
    "error": """cat > /dev/null; echo '{"code": 77, "msg": "no more"}'; exit 1""",
    "silent": "cat > /dev/null",
    "late": """cat > /dev/null; echo '{"ips": [{"address": "10.88.0.9/16"}]}'; exit 3""",
}


@pytest.mark.parametrize(
    ("plugin", "code", "said"),
    [
        ("absent", 7, "'absent' is no executable in CNI_PATH"),
        ("garbage", 6, "no JSON object"),
        ("error", 77, "no more"),
        ("silent", 6, "no JSON object"),
        ("late", 102, "ended with exit status 3"),
    ],
)
def test_a_failing_ipam_leaves_nothing(
    here: Node, a: Netns, tmp_path: Path, plugin: str, code: int, said: str
) -> None:
    for name, script in PLUGIN_SCRIPTS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{PLUGINS}:{tmp_path}"
    refused = here.call("ADD", "c1", a, ipam={"type": plugin}, isGateway=True, path=path)
    assert (refused.status, refused.body["code"]) == (1, code)
    assert said in refused.body["msg"]
    assert links(a) == ["lo"]


def test_a_route_that_cannot_be_undoes_everything(here: Node, a: Netns) -> None:
    ipam = here.conf()["ipam"] | {"routes": [{"dst": "10.9.0.0/16", "gw": "99.1.1.1"}]}
    refused = here.call("ADD", "c1", a, ipam=ipam, isGateway=True)
    assert refused.body["code"] == 101
    assert refused.body["msg"].startswith("cannot add route 10.9.0.0/16 via 99.1.1.1 dev eth0")
    assert links(a) == ["lo"]


def test_the_hosts_namespace_and_what_is_none_are_refused(here: Node) -> None:
    assert here.call("ADD", "c1", here.host).body["code"] == 8
    assert here.call("ADD", "c1", Netns("cvs-no-such")).body["code"] == 3
    assert here.call("ADD", "c1").body["code"] == 4


def test_check_sees_what_is_missing(here: Node, a: Netns) -> None:
    result = here.add("c1", a, isDefaultGateway=True).body

    def check(**keys: Any) -> str:
        answer = here.call("CHECK", "c1", a, isDefaultGateway=True, **keys)
        return str(answer.body.get("msg", ""))

    assert check(prevResult=result) == ""
    assert check() == "prevResult: is missing, CHECK needs it"
    a.ip("addr add 10.7.7.7/24 dev eth0")  # what others add is fine
    assert check(prevResult=result) == ""
    a.ip("route del default")
    assert check(prevResult=result).endswith("has lost the route to 0.0.0.0/0")
    a.ip(f"addr del {result['ips'][0]['address']} dev eth0")
    assert check(prevResult=result).endswith(f"has lost address {result['ips'][0]['address']}")
    a.ip("link set eth0 down")
    assert check(prevResult=result).endswith("is down")
    a.ip("link del eth0")
    assert check(prevResult=result).endswith("is gone")
    here.delete("c1", a, isDefaultGateway=True)
    assert check(prevResult=result).endswith("is not attached to network pods")


def test_gc_removes_what_is_not_valid_and_only_that(here: Node, a: Netns, b: Netns) -> None:
    here.add("a", a)
    here.add("b", b)
    here.add("b", b, ifname="eth1", name="others", network="others", ipam=None)
    assert here.call("GC").body["code"] == 7  # without a list nothing is garbage
    valid: dict[str, Any] = {"cni.dev/valid-attachments": [{"containerID": "b", "ifname": "eth0"}]}
    answer = here.call("GC", **valid)
    assert (answer.status, answer.body) == (0, {})
    assert here.ports() == {"pod:b/eth0", "pod:b/eth1"}
    assert links(a) == ["lo"]
    assert len(here.left_over()["leases"]) == 2
    nothing: dict[str, Any] = {"cni.dev/attachments": []}
    assert here.call("GC", **nothing).status == 0
    assert here.ports() == {"pod:b/eth1"}
    here.delete("b", b, ifname="eth1", name="others", network="others", ipam=None)


def test_fifty_at_once(here: Node) -> None:
    with containers(MANY) as spaces, ThreadPoolExecutor(MANY) as pool:
        by_name = {space.name: space for space in spaces}
        keys = {"isGateway": True}
        answers = list(pool.map(lambda n: here.add(n, by_name[n], **keys), by_name))
        assert len({answer.address for answer in answers}) == MANY
        assert here.ports() == {f"pod:{name}/eth0" for name in by_name} | {"host:pods"}
        assert here.status()["attachments"] == MANY
        list(pool.map(lambda n: here.delete(n, by_name[n], **keys), by_name))
        assert all(links(space) == ["lo"] for space in spaces)
