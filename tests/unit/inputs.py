"""Inputs for the property-based tests: valid ones of each kind, and what breaks them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

from hypothesis import strategies as st

from cni_virtio.results import SUPPORTED_VERSIONS

Path = tuple[str | int, ...]

ODD_TEXTS = (
    *("", " ", "\0", "a\nb", "\x7f", "\u2028", "\u202e", "\x1b[2J", "\ud800", "à", "..", "/", "%d"),
    *("x" * 300, "01:00:5e:00:00:01", "10.0.0.1/33", "fe80::1%eth0", "0x10", "٣", "nan", "-1"),
)
any_text = st.text(st.characters(), max_size=12) | st.sampled_from(ODD_TEXTS)
any_number = st.integers() | st.floats() | st.sampled_from([-1, 2**31, 2**32, 2**64, 10**400])
any_json = st.recursive(
    st.none() | st.booleans() | any_number | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)

names = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,20}", fullmatch=True)
paths = st.from_regex(r"(/[a-z0-9\-]{1,8}){1,4}", fullmatch=True)
macs = st.from_regex(r"0[26ae](:[0-9a-fA-F]{2}){5}", fullmatch=True)
rates = st.just(0) | st.integers(1000, 10**15)
addresses = st.ip_addresses().map(str)
cidrs = st.one_of(
    st.builds(lambda ip, bits: f"{ip}/{bits}", st.ip_addresses(v=4), st.integers(0, 32)),
    st.builds(lambda ip, bits: f"{ip}/{bits}", st.ip_addresses(v=6), st.integers(0, 128)),
)
subnets = cidrs.map(lambda text: str(ip_network(text, strict=False)))
powers = st.integers(6, 15).map(lambda bits: 1 << bits)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=10)

bandwidths = st.fixed_dictionaries({}, optional={"ingressRate": rates, "egressRate": rates})
runtime_configs = st.fixed_dictionaries(
    {},
    optional={
        "mac": macs,
        "ips": st.lists(addresses | cidrs, max_size=3),
        "bandwidth": bandwidths,
        "dns": st.fixed_dictionaries({}, optional={"servers": st.lists(addresses, max_size=2)}),
        "deviceID": texts,
        "CNIDeviceInfoFile": paths,
        "portMappings": st.lists(st.just({"hostPort": 80}), max_size=1),
    },
)
netconfs = st.fixed_dictionaries(
    {"cniVersion": st.sampled_from(SUPPORTED_VERSIONS), "name": names, "type": names},
    optional={
        "agentSocket": paths,
        "network": names,
        "interface": st.sampled_from(["kernel", "vhost-user"]),
        "queues": st.integers(1, 128),
        "queueSize": powers,
        "mtu": st.integers(68, 65521),
        "isGateway": st.booleans(),
        "isDefaultGateway": st.booleans(),
        "ipMasq": st.booleans(),
        "spoofCheck": st.booleans(),
        "bandwidth": bandwidths,
        "vhostUser": st.fixed_dictionaries(
            {},
            optional={
                "mode": st.sampled_from(["client", "server"]),
                "uid": st.integers(0, 2**32 - 2),
                "mountPath": paths,
            },
        ),
        "ipam": st.just({}) | st.fixed_dictionaries({"type": names}, optional={"x": st.none()}),
        "dns": st.fixed_dictionaries({}, optional={"search": st.lists(texts, max_size=2)}),
        "runtimeConfig": runtime_configs,
        "args": st.fixed_dictionaries({}, optional={"labels": st.none()}),
        "capabilities": st.just({"ips": True}),
        "disableCheck": st.booleans(),
        "cni.dev/x": any_text.map(lambda text: text.encode("utf-8", "replace").decode()),
    },
)


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every place in a JSON value but the whole."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for step, item in items:
        yield (*path, step)
        if isinstance(item, dict | list):
            yield from places(item, (*path, step))


def replaced(value: Any, path: Path, new: Any) -> Any:
    """A copy with another value at `path`."""
    changed = copy.deepcopy(value)
    at = changed
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = new
    return changed


@st.composite
def spoilt(draw: st.DrawFn, valid: st.SearchStrategy[Any]) -> Any:
    """A valid JSON object in which up to three places are something else, or gone, or new."""
    value = draw(valid)
    for _ in range(draw(st.integers(1, 3))):
        known = list(places(value))
        if not known:
            break
        value = replaced(value, draw(st.sampled_from(known)), draw(any_json))
        if draw(st.booleans()):
            value = {**value, draw(any_text): draw(any_json)}
    return value
