"""Results in the shape of every version of the spec, of our making and of others'."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_virtio.chain import merged
from cni_virtio.results import (
    DNS,
    SUPPORTED_VERSIONS,
    Interface,
    IPConfig,
    Result,
    ResultError,
    Route,
)
from tests.unit import inputs

KEYS = {
    "interfaces": {"name", "mac", "sandbox"},
    "ips": {"address", "gateway", "interface"},
    "routes": {"dst", "gw"},
}
SINCE_1_1 = {
    "interfaces": {"mtu", "socketPath", "pciID"},
    "ips": set[str](),
    "routes": {"mtu", "advmss", "priority", "table", "scope"},
}

versions = st.sampled_from(SUPPORTED_VERSIONS)
u32 = st.sampled_from([0, 1, 2**32 - 1]) | st.integers(0, 2**32 - 1)
texts = st.text(max_size=8)
interfaces = st.builds(
    Interface, texts, mac=texts, mtu=u32, sandbox=texts, socket_path=texts, pci_id=texts
)
routes = st.builds(
    Route,
    dst=inputs.subnets.map(ip_network),
    gw=st.none() | inputs.addresses.map(ip_address),
    mtu=u32,
    advmss=u32,
    priority=u32,
    table=st.none() | u32,
    scope=st.none() | st.sampled_from([0, 255]) | st.integers(0, 255),
)
lists = st.lists(texts, max_size=2).map(tuple)
dns = st.builds(DNS, lists, texts, lists, lists)


@st.composite
def results(draw: st.DrawFn) -> Result:
    made = tuple(draw(st.lists(interfaces, max_size=3)))
    index = st.none() | st.integers(0, len(made) - 1) if made else st.none()
    ips = st.builds(
        IPConfig,
        address=inputs.cidrs.map(ip_interface),
        gateway=st.none() | inputs.addresses.map(ip_address),
        interface=index,
    )
    return Result(
        made,
        tuple(draw(st.lists(ips, max_size=3))),
        tuple(draw(st.lists(routes, max_size=3))),
        draw(dns),
    )


def sent(result: Result, version: str) -> Any:
    """A result's JSON, as it is read at the other end."""
    return json.loads(json.dumps(result.to_json(version)))


def as_of(result: Result, version: str) -> Result:
    """What of a result a version of the spec has room for."""
    if version == "1.1.0":
        return result
    return replace(
        result,
        interfaces=tuple(
            replace(each, mtu=0, socket_path="", pci_id="") for each in result.interfaces
        ),
        routes=tuple(Route(route.dst, route.gw) for route in result.routes),
    )


@given(results(), versions)
def test_a_result_survives_each_version(result: Result, version: str) -> None:
    assert Result.from_json(sent(result, version)) == as_of(result, version)


@given(results(), versions, versions)
def test_a_result_of_one_version_is_written_in_another(
    result: Result, first: str, second: str
) -> None:
    passed_on = Result.from_json(sent(Result.from_json(sent(result, first)), second))
    assert passed_on == as_of(as_of(result, first), second)


@given(results(), versions)
def test_a_result_has_the_keys_of_its_version_only(result: Result, version: str) -> None:
    data = sent(result, version)
    assert data["cniVersion"] == version
    assert set(data) <= {"cniVersion", "interfaces", "ips", "routes", "dns"}
    for part, keys in KEYS.items():
        allowed = keys | (SINCE_1_1[part] if version == "1.1.0" else set())
        for item in data.get(part, []):
            if part == "ips" and version.startswith("0."):
                assert item.pop("version") == ("6" if ":" in item["address"] else "4")
            assert set(item) <= allowed
            assert None not in item.values()


def of_others(data: Any, draw: Callable[[st.SearchStrategy[Any]], Any]) -> Any:
    """The same result as other plugins may write it: keys of their own, nulls, empty lists."""
    if isinstance(data, list):
        return [of_others(item, draw) for item in data]
    if not isinstance(data, dict):
        return data
    more = draw(st.dictionaries(st.sampled_from(["x", "Version", "é", "a.b/c"]), inputs.any_json))
    nulls = draw(st.sets(st.sampled_from(["gateway", "gw", "dns", "mtu", "table", "mac", "ips"])))
    written = {key: of_others(value, draw) for key, value in data.items()}
    return {**more, **{key: None for key in nulls if key not in data}, **written}


@given(results(), versions, st.data())
def test_what_others_add_changes_nothing(result: Result, version: str, data: st.DataObject) -> None:
    written = of_others(sent(result, version), data.draw)
    assert Result.from_json(written) == as_of(result, version)


@given(inputs.spoilt(st.builds(sent, results(), versions)))
def test_any_object_is_read_or_refused(data: Any) -> None:
    try:
        result = Result.from_json(data, "prevResult")
    except ResultError as error:
        said = str(error)
        assert said.startswith("prevResult")
        assert said.isprintable()
        assert len(said) < 500
        return
    for version in SUPPORTED_VERSIONS:
        assert Result.from_json(sent(result, version)) == as_of(result, version)
    for route in result.routes:
        assert all(0 <= number < 2**32 for number in (route.mtu, route.advmss, route.priority))


NUMBERS = [
    *((("routes", key), 2**32 - 1) for key in ("mtu", "advmss", "priority", "table")),
    (("routes", "scope"), 255),
    (("interfaces", "mtu"), 2**32 - 1),
]


@pytest.mark.parametrize(("place", "most"), NUMBERS, ids=[f"{a}.{b}" for (a, b), _ in NUMBERS])
@given(st.integers() | st.sampled_from([-1, 0, 255, 256, 2**32 - 1, 2**32, 10**400]))
def test_a_number_is_one_that_the_kernel_has_room_for(
    place: tuple[str, str], most: int, number: int
) -> None:
    part, key = place
    data = {part: [{"dst": "::/0", "name": "a", key: number}]}
    if 0 <= number <= most:
        assert sent(Result.from_json(data), "1.1.0")[part][0].get(key, 0) == number
    else:
        with pytest.raises(ResultError, match=rf"^result\.{part}\[0\]\.{key}: "):
            Result.from_json(data)


@given(results(), st.integers(-2, 5))
def test_an_index_names_an_interface_or_none(result: Result, index: int) -> None:
    data = sent(result, "1.1.0")
    for ip in data.get("ips", []):
        ip["interface"] = index
    known = index if 0 <= index < len(result.interfaces) else None
    assert {ip.interface for ip in Result.from_json(data).ips} <= {known}


@pytest.mark.parametrize("text", inputs.ODD_TEXTS, ids=repr)
@pytest.mark.parametrize("place", [("ips", "address"), ("ips", "gateway"), ("routes", "gw")])
def test_an_odd_address_is_refused_or_read(place: tuple[str, str], text: str) -> None:
    part, key = place
    data = {part: [{"address": "::1/64", "dst": "::/0", key: text}]}
    if text == "" and key != "address":  # as Go writes what is not given
        assert len(sent(Result.from_json(data), "1.1.0")[part]) == 1
    else:
        with pytest.raises(ResultError, match=rf"^result\.{part}\[0\]\.{key}: ") as caught:
            Result.from_json(data)
        assert str(caught.value).isprintable()


@given(results(), results(), versions)
def test_a_chain_keeps_what_came_before(previous: Result, own: Result, version: str) -> None:
    """And an address still belongs to the interface that it belonged to."""
    both = Result.from_json(sent(merged(previous, own), version))
    before, ours = as_of(previous, version), as_of(own, version)
    assert both.interfaces == before.interfaces + ours.interfaces
    assert both.ips[: len(before.ips)] == before.ips
    assert set(both.routes) == set(before.routes) | set(ours.routes)
    for ip, shifted in zip(ours.ips, both.ips[len(before.ips) :], strict=True):
        assert shifted.address == ip.address
        if ip.interface is None:
            assert shifted.interface is None
        else:
            assert shifted.interface is not None
            assert both.interfaces[shifted.interface] == ours.interfaces[ip.interface]
