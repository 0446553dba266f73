"""ipMasq: containers reach a network that has no way back to their subnet, and leave no rules."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.smoke.agent import Node, containers, node, valid
from tests.smoke.frames import IPV4, receive_all
from tests.smoke.netns import Netns, netns
from tests.smoke.traffic import ping

OUTSIDE4, OUTSIDE6, OWN_SUBNET = "192.0.2.2", "2001:db8::2", "10.88.200.1"
MASQ: dict[str, Any] = {"isDefaultGateway": True, "ipMasq": True}


@pytest.fixture(scope="module")
def here() -> Iterator[Node]:
    with node() as one:
        yield one


@pytest.fixture(scope="module")
def outside(here: Node) -> Iterator[Netns]:
    """A machine beyond the host that knows the host, and nothing of what is behind it."""
    with netns() as space:
        here.host.ip(
            f"link add wire0 type veth peer name eth0 netns {space.name}",
            "addr add 192.0.2.1/24 dev wire0",
            "addr add 2001:db8::1/64 dev wire0 nodad",
            "link set wire0 up",
            f"route add {OWN_SUBNET}/32 via {OUTSIDE4}",
        )
        space.ip(
            f"addr add {OUTSIDE4}/24 dev eth0",
            f"addr add {OUTSIDE6}/64 dev eth0 nodad",
            f"addr add {OWN_SUBNET}/32 dev lo",
            "link set eth0 up",
        )
        yield space


def ruleset(here: Node) -> list[dict[str, Any]]:
    found = json.loads(here.host.run("nft", "-j", "list", "ruleset"))["nftables"]
    return [item for item in found if "metainfo" not in item]


def masqueraded(here: Node) -> list[str]:
    sets = [item["set"] for item in ruleset(here) if "set" in item]
    chosen = [each for each in sets if each["name"].startswith("sources")]
    return sorted(item["elem"]["val"] for each in chosen for item in each.get("elem", []))


def replies(space: Netns, address: str) -> int:
    done = space.run("ping", "-c", "1", "-W", "0.5", address, check=False)
    return done.count(" bytes from ")


def test_the_way_out_and_back(here: Node, outside: Netns, a: Netns) -> None:
    here.add("c1", a, isDefaultGateway=True)
    assert (replies(a, OUTSIDE4), replies(a, OUTSIDE6)) == (0, 0)
    assert ruleset(here) == []
    here.delete("c1", a, isDefaultGateway=True)
    here.add("c1", a, **MASQ)
    assert (ping(a, OUTSIDE4), ping(a, OUTSIDE6)) == (3, 3)
    here.delete("c1", a, **MASQ)
    assert ruleset(here) == []


def test_its_own_subnet_sees_its_own_address(here: Node, outside: Netns, a: Netns) -> None:
    address = here.add("c1", a, **MASQ).address
    a.ip(f"route add {OWN_SUBNET}/32 via 10.88.0.1")
    with outside.packet_socket() as wire:
        a.run("ping", "-c", "1", "-W", "0.5", OWN_SUBNET, check=False)
        a.run("ping", "-c", "1", "-W", "0.5", OUTSIDE4, check=False)
        packets = [frame.data for frame in receive_all(wire) if frame.type == IPV4]
    ways = {(text(packet[26:30]), text(packet[30:34])) for packet in packets}
    assert ways == {(address, OWN_SUBNET), ("192.0.2.1", OUTSIDE4)}
    here.delete("c1", a, **MASQ)


def text(address: bytes) -> str:
    return ".".join(map(str, address))


def test_each_goes_with_its_own(here: Node, outside: Netns, a: Netns) -> None:
    with containers(2) as (b, c):
        found = [
            here.add(name, space, **MASQ) for name, space in zip("abc", (a, b, c), strict=True)
        ]
        want = sorted(ip["address"].split("/")[0] for each in found for ip in each.body["ips"])
        assert masqueraded(here) == want
        here.delete("b", b, **MASQ)
        assert len(masqueraded(here)) == 4
        assert ping(a, OUTSIDE4) == 3
        assert here.call("GC", **MASQ, **valid("c")).status == 0
        assert len(masqueraded(here)) == 2
        here.delete("c", c, **MASQ)
    assert ruleset(here) == []


@pytest.mark.parametrize(
    ("number", "found"),
    [(signal.SIGTERM, 2), (signal.SIGKILL, 4)],
    ids=["with its dataplane", "alone"],
)
def test_a_new_agent_takes_up_what_it_finds(
    here: Node, outside: Netns, a: Netns, number: signal.Signals, found: int
) -> None:
    with containers(1) as (b,):
        here.add("a", a, **MASQ)
        here.add("b", b, **MASQ)
        here.end(number)
        here.host.run("nft", "flush", "ruleset")
        (here.directory / "state/attachments/pods@b@eth0.json").unlink()
        here.start()
        assert len(masqueraded(here)) == found  # b, too, if its port was still there
        assert ping(a, OUTSIDE4) == 3
        here.delete("a", a, **MASQ)
        here.delete("b", b, **MASQ)
    assert ruleset(here) == []


def test_check_sees_that_somebody_flushed_it(here: Node, a: Netns) -> None:
    result = here.add("a", a, **MASQ).body
    assert here.call("CHECK", "a", a, **MASQ, prevResult=result).status == 0
    here.host.run("nft", "flush", "ruleset")
    refused = here.call("CHECK", "a", a, **MASQ, prevResult=result)
    assert refused.body["msg"].startswith("ipMasq: ")
    assert here.call("GC", **MASQ, **valid("a")).status == 0
    assert here.call("CHECK", "a", a, **MASQ, prevResult=result).status == 0
    here.host.run("nft", "flush", "ruleset")
    with containers(1) as (b,):
        here.add("b", b, **MASQ)  # brings all of it back, too
        assert here.call("CHECK", "a", a, **MASQ, prevResult=result).status == 0
        here.delete("b", b, **MASQ)
    here.delete("a", a, **MASQ)
    assert ruleset(here) == []


def test_an_unknown_backend_is_refused(here: Node, a: Netns) -> None:
    refused = here.call("ADD", "a", a, **MASQ, ipMasqBackend="iptables")
    assert refused.body["code"] == 7
    assert refused.body["msg"].startswith('ipMasqBackend: "iptables" is not')
