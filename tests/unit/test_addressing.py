"""Gateways and routes, as the reference bridge plugin gives them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cni_virtio import netconf
from cni_virtio.addressing import Addressing, addressing, result_of
from cni_virtio.spec import CniError, Interface, Result
from cni_virtio.state import Attachment


def given(lease: dict[str, Any], **keys: Any) -> Addressing:
    conf = {"cniVersion": "1.1.0", "name": "pods", "type": "cni-virtio", **keys}
    return addressing(netconf.parse(json.dumps(conf).encode()), Result.from_json(lease))


def routes(found: Addressing) -> list[tuple[str, str | None]]:
    return [(route.dst, route.gw) for route in found.routes]


V4 = {"address": "10.1.2.3/16"}
V6 = {"address": "fd00::7/64"}


def test_without_a_gateway_nothing_is_added() -> None:
    found = given({"ips": [V4]})
    assert found.ips[0].gateway is None
    assert (found.gateways, found.routes) == ((), [])


def test_the_gateway_is_the_first_address_where_ipam_names_none() -> None:
    found = given({"ips": [V4, V6]}, isGateway=True)
    assert found.gateways == ("10.1.0.1/16", "fd00::1/64")
    assert [str(ip.gateway) for ip in found.ips] == ["10.1.0.1", "fd00::1"]
    assert found.routes == []


def test_the_gateway_of_ipam_is_taken() -> None:
    found = given({"ips": [{"address": "10.1.2.3/16", "gateway": "10.1.9.9"}]}, isGateway=True)
    assert found.gateways == ("10.1.9.9/16",)


@pytest.mark.parametrize("address", ["10.1.2.3/32", "10.1.2.2/31", "fd00::7/128"])
def test_a_subnet_without_room_has_no_gateway(address: str) -> None:
    found = given({"ips": [{"address": address}]}, isDefaultGateway=True)
    assert (found.gateways, found.routes) == ((), [])


def test_a_default_route_for_each_family() -> None:
    found = given({"ips": [V4, V6]}, isDefaultGateway=True)
    assert routes(found) == [("0.0.0.0/0", "10.1.0.1"), ("::/0", "fd00::1")]


def test_a_default_route_of_ipam_stays_the_only_one() -> None:
    lease = {"ips": [V4, V6], "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.9"}]}
    assert routes(given(lease, isDefaultGateway=True)) == [
        ("0.0.0.0/0", "10.1.0.9"),
        ("::/0", "fd00::1"),
    ]


def test_a_route_without_gw_goes_by_the_gateway_of_its_family() -> None:
    lease = {
        "ips": [V6 | {"gateway": "fd00::1"}, V4 | {"gateway": "10.1.0.1"}],
        "routes": [{"dst": "10.9.0.0/16"}, {"dst": "fd09::/64"}, {"dst": "10.8.0.0/16", "mtu": 9}],
    }
    found = given(lease)
    assert routes(found) == [
        ("10.9.0.0/16", "10.1.0.1"),
        ("fd09::/64", "fd00::1"),
        ("10.8.0.0/16", "10.1.0.1"),
    ]
    assert found.routes[2].mtu == 9
    assert found.reported_routes[0].gw is None


def test_addresses_belong_to_the_containers_interface() -> None:
    found = given({"ips": [V4, V6]}, isGateway=True, dns={"domain": "cluster.local"})
    attachment = Attachment(
        "pods", "pods", "c1", "eth0", netns="/run/netns/x", mac="02:00:00:00:00:01"
    )
    conf = netconf.parse(b'{"cniVersion": "1.1.0", "name": "pods", "type": "cni-virtio"}')
    result = result_of(attachment, conf, found, Interface("cv-pods"))
    assert [interface.name for interface in result.interfaces] == ["eth0", "cv-pods"]
    assert [interface.sandbox for interface in result.interfaces] == ["/run/netns/x", ""]
    assert {ip.interface for ip in result.ips} == {0}
    assert result.dns.domain == "cluster.local"


def test_ipam_that_gives_nothing_is_an_error() -> None:
    with pytest.raises(CniError, match=r"ipam\.type: 'host-local' gave no address") as caught:
        given({}, ipam={"type": "host-local"})
    assert caught.value.code == 102


def test_an_unspecified_router_means_that_it_is_on_the_link() -> None:
    lease = {
        "ips": [V4 | {"gateway": "10.1.0.1"}],
        "routes": [{"dst": "10.9.0.0/16", "gw": "0.0.0.0", "scope": 253}],
    }
    assert routes(given(lease)) == [("10.9.0.0/16", None)]


def test_the_netconf_dns_replaces_that_of_ipam() -> None:
    lease = {"ips": [V4], "dns": {"nameservers": ["10.1.0.9"]}}
    assert given(lease).dns.nameservers == ("10.1.0.9",)
    assert given(lease, dns={"domain": "lan"}).dns.to_json() == {"domain": "lan"}
