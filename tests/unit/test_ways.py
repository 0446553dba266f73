"""What a host would lose with an interface, in a namespace that plays the host."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni_virtio import links, netns
from cni_virtio.ctl.ways import addresses_of, needed_for, with_uppers
from cni_virtio.links import LinkConfig, Route
from cni_virtio.netns import entered

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

SESSION = "10.7.0.9 40000 10.7.0.1 22"


@pytest.fixture(autouse=True)
def space() -> Iterator[None]:
    """A host with two interfaces, and the way out by one of them."""
    name = f"cvt-{uuid.uuid4().hex[:8]}"
    fd = netns.open_netns(netns.create_named(name))
    try:
        with entered(fd):
            links.create_veth(None, "v0", None, "v1")
            for ifname, address in (("v0", "10.7.0.1/24"), ("v1", "10.8.0.1/24")):
                links.configure(None, ifname, LinkConfig(addresses=[address]))
            yield
    finally:
        os.close(fd)
        assert netns.delete_named(name)


def test_an_interface_that_nobody_needs(tmp_path: Path) -> None:
    assert needed_for(["v0", "v1", "nonesuch"], "", tmp_path) == ""
    assert addresses_of(["v1", "nonesuch"])[0] == "10.8.0.1/24"


@pytest.mark.parametrize(("dst", "gw"), [("0.0.0.0/0", "10.7.0.254"), ("::/0", None)])
def test_the_default_route(tmp_path: Path, dst: str, gw: str | None) -> None:
    links.add_route(None, "v0", Route(dst, gw))
    assert needed_for(["v0"], "", tmp_path) == "interface v0 carries the default route"
    assert needed_for(["v1"], "", tmp_path) == ""


def test_the_default_route_of_what_is_built_on_it(tmp_path: Path) -> None:
    links.add_route(None, "v0", Route("0.0.0.0/0", "10.7.0.254"))
    (tmp_path / "v1" / "upper_v0").mkdir(parents=True)
    assert needed_for(["v1"], "", tmp_path) == "interface v0 carries the default route"


def test_the_way_to_the_callers_own_session(tmp_path: Path) -> None:
    reason = "interface v0 is the way to 10.7.0.9, where this session comes from"
    assert needed_for(["v0"], SESSION, tmp_path) == reason
    assert needed_for(["v1"], SESSION, tmp_path) == ""
    assert needed_for(["v0"], "nonsense", tmp_path) == ""
    assert needed_for(["v0"], "192.0.2.1 1 192.0.2.2 22", tmp_path) == ""  # no way there


def test_what_is_built_on_an_interface_counts_as_well(tmp_path: Path) -> None:
    for lower, upper in (("ens3", "bond0"), ("ens3", "ens3.5"), ("bond0", "br0")):
        (tmp_path / lower / f"upper_{upper}").mkdir(parents=True)
    assert with_uppers(["ens3", "ens4"], tmp_path) == ["ens3", "ens4", "bond0", "ens3.5", "br0"]
