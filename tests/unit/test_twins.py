"""Twins of uplinks on the real kernel: made, kept, followed, removed."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cni_virtio import links, netns, tap
from cni_virtio.config import ExceptionPath, Uplink
from cni_virtio.link_follow import LinkFollower
from cni_virtio.netns import NetnsError, entered
from cni_virtio.twins import Record, Twins
from dataplane.client import DataplaneUnavailable
from dataplane.wire import EthdevSpec, PortSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and taps need root")

MAC = "02:00:00:00:00:0a"
TWIN = PortSpec(
    "exception:w", kind="tap", role="exception", uplink="uplink:w", mac=MAC, mtu=1400, queues=2
)
ON_VHOST_NET = replace(TWIN, kind="ethdev", ethdev=EthdevSpec("net_virtio_user_1"))
UPLINK = Uplink("w", "af_xdp:v0", "af_xdp", "v0", exception=ExceptionPath("twin0", 2))


@pytest.fixture(autouse=True)
def space() -> Iterator[None]:
    """A namespace of its own for the thread of the test."""
    name = f"cvt-{uuid.uuid4().hex[:8]}"
    fd = netns.open_netns(netns.create_named(name))
    try:
        with entered(fd):
            yield
    finally:
        os.close(fd)
        assert netns.delete_named(name)


@pytest.fixture
def twins(tmp_path: Path) -> Twins:
    return Twins(tmp_path)


def test_a_twin_has_its_uplinks_mac_and_no_address_and_outlives_its_users(twins: Twins) -> None:
    fds = twins.open(TWIN, "twin0", "v0")
    assert len(fds) == 2
    view = links.inspect(None, "twin0")
    assert view is not None
    assert (view.mac, view.mtu, view.up, view.carrier) == (MAC, 1400, True, True)
    assert not [address for address in view.addresses if not address.startswith("fe80:")]
    links.add_address(None, "twin0", "10.1.2.3/24")
    tap.close_all(fds)
    again = twins.open(TWIN, "twin0", "v0")
    view = links.inspect(None, "twin0")
    assert view is not None
    assert "10.1.2.3/24" in view.addresses
    tap.close_all(again)


def test_behind_vhost_net_it_comes_with_its_namespace_and_nobody_on_its_queues(
    twins: Twins,
) -> None:
    (fd,) = twins.open(ON_VHOST_NET, "twin0", "v0")
    with ExitStack() as closing:
        closing.callback(os.close, fd)
        assert netns.is_netns(fd)
        assert netns.identity(fd) == netns.own_identity()
        tap.close_all(tap.attach_tap(None, "twin0", 2))  # else EBUSY


def test_an_interface_of_somebody_else_is_left_alone(twins: Twins) -> None:
    links.create_veth(None, "twin0", None, "v1")
    with pytest.raises(NetnsError, match="interface of that name"):
        twins.open(TWIN, "twin0", "v0")
    twins.prune([])
    assert links.exists(None, "twin0")
    assert twins.records() == []


def test_what_the_configuration_has_no_more_goes(twins: Twins) -> None:
    for ifname in ("twin0", "twin1"):
        tap.close_all(twins.open(TWIN, ifname, "v0"))
    twins.prune([UPLINK])
    assert links.exists(None, "twin0")
    assert not links.exists(None, "twin1")
    assert twins.records() == [Record("twin0", "w", "v0")]
    twins.prune([replace(UPLINK, exception=None)])
    twins.prune([])
    assert not links.exists(None, "twin0")
    assert twins.records() == []


@pytest.mark.parametrize("content", [b"", b'{"uplink": ', b"\xff" * 9, b"[]", b"{}"])
def test_a_damaged_record_still_says_what_is_to_go(
    content: bytes, twins: Twins, tmp_path: Path
) -> None:
    tap.close_all(twins.open(TWIN, "twin0", "v0"))
    (tmp_path / "twins" / "twin0").write_bytes(content)
    (tmp_path / "twins" / ".writing-twin0").touch()
    twins.prune([UPLINK])
    assert links.exists(None, "twin0")
    twins.prune([])
    assert not links.exists(None, "twin0")
    assert twins.records() == []


class Dataplane:
    """What the follower asks."""

    link_up = True
    there = True

    def read(self, name: str) -> dict[str, Any]:
        assert name == "uplink:w"
        if not self.there:
            raise DataplaneUnavailable("gone")
        return {"state": {"link_up": self.link_up}}


@pytest.mark.parametrize("by", ["driver", "interface"])
def test_the_carrier_follows_the_uplink_and_is_said_once(
    twins: Twins, by: str, caplog: pytest.LogCaptureFixture
) -> None:
    links.create_veth(None, "v0", None, "v1")
    for ifname in ("v0", "v1"):
        links.set_up(None, ifname)
    fds = twins.open(TWIN, "twin0", "v0")
    dataplane = Dataplane()
    follower = LinkFollower([UPLINK], dataplane.read)

    def switch(on: bool) -> None:
        if by == "driver":
            dataplane.link_up = on
        else:
            links.delete_link(None, "v1")

    follower.follow(UPLINK)
    assert links.has_carrier(None, "twin0")
    switch(False)
    for _ in range(3):
        follower.follow(UPLINK)
    assert links.has_carrier(None, "twin0") is False
    assert [record.getMessage() for record in caplog.records] == [
        "uplink w: link is down; twin0 follows"
    ]
    if by == "driver":
        switch(True)
        follower.follow(UPLINK)
        assert links.has_carrier(None, "twin0")
    tap.close_all(fds)


def test_without_a_dataplane_or_a_twin_there_is_nothing_to_follow(
    twins: Twins, caplog: pytest.LogCaptureFixture
) -> None:
    links.create_veth(None, "v0", None, "v1")
    dataplane = Dataplane()
    follower = LinkFollower([UPLINK], dataplane.read)
    follower.follow(UPLINK)
    tap.close_all(twins.open(TWIN, "twin0", "v0"))
    dataplane.there = False
    follower.follow(UPLINK)
    LinkFollower([UPLINK], lambda _: None).follow(UPLINK)
    assert not caplog.records


def test_only_a_tap_with_users_can_have_its_carrier_switched_on(twins: Twins) -> None:
    tap.close_all(twins.open(TWIN, "twin0", "v0"))
    assert links.has_carrier(None, "nonesuch") is None
    with pytest.raises(NetnsError) as caught:
        links.set_carrier(None, "twin0", True)
    assert caught.value.errno == errno.EPERM
