"""Namespaces, taps and links, on the real kernel."""

from __future__ import annotations

import errno
import os
import resource
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cni_virtio import links, netns, tap
from cni_virtio.links import LinkConfig, Route
from cni_virtio.netns import NetnsError, ThreadLostError, entered

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and taps need root")

MAC = "02:00:00:00:00:0a"


@pytest.fixture
def space() -> Iterator[int]:
    """The fd of a namespace of the test's own."""
    name = f"cvt-{uuid.uuid4().hex[:8]}"
    path = netns.create_named(name)
    fd = netns.open_netns(path)
    try:
        yield fd
    finally:
        os.close(fd)
        assert netns.delete_named(name)


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- as cheap as it gets


def names(space: int) -> set[str]:
    with entered(space):
        return {name for _, name in socket.if_nameindex()}


def test_entered_goes_there_and_back(space: int) -> None:
    home = netns.own_identity()
    before = open_fds()
    with entered(space):
        assert netns.own_identity() == netns.identity(space) != home
    assert netns.own_identity() == home
    with pytest.raises(ZeroDivisionError), entered(space):
        raise ZeroDivisionError
    assert netns.own_identity() == home
    assert open_fds() == before


def test_entered_none_stays_at_home() -> None:
    home = netns.own_identity()
    with entered(None):
        assert netns.own_identity() == home


def test_what_is_no_namespace_is_not_entered(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert not netns.is_netns(fd)
        with pytest.raises(NetnsError, match="cannot enter the network namespace"), entered(fd):
            pytest.fail("went in")
    finally:
        os.close(fd)
    with pytest.raises(NetnsError, match="/nowhere: No such file"):
        netns.open_netns("/nowhere")


def test_a_thread_that_cannot_return_is_stopped_even_by_those_that_go_on(
    space: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = netns._setns
    outcome: list[str] = []

    def no_way_back(fd: int, what: str) -> None:
        if what == "cannot return":
            raise NetnsError(errno.EPERM, "cannot return: no")
        real(fd, what)

    monkeypatch.setattr(netns, "_setns", no_way_back)

    def serve() -> None:
        try:
            try:
                with entered(space):
                    pass
            except Exception:
                outcome.append("goes on in a foreign namespace")
        except ThreadLostError:
            outcome.append("ends")

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    assert outcome == ["ends"]


def test_a_named_namespace_has_lo_up_and_can_be_made_once(space: int) -> None:
    view = links.inspect(space, "lo")
    assert view is not None
    assert view.up
    name = f"cvt-{uuid.uuid4().hex[:8]}"
    netns.create_named(name)
    try:
        with pytest.raises(FileExistsError):
            netns.create_named(name)
    finally:
        assert netns.delete_named(name)
        assert not netns.delete_named(name)


@pytest.mark.parametrize("queues", [1, 4])
def test_a_tap_is_made_in_place_and_outlives_its_users(space: int, queues: int) -> None:
    before = open_fds()
    fds = tap.create_tap(space, "eth0", queues)
    assert len(fds) == queues
    assert not any(os.get_inheritable(fd) for fd in fds)
    tap.close_all(fds)
    assert fds == []
    view = links.inspect(space, "eth0")
    assert view is not None
    assert view.kind == "tun"
    fds = tap.attach_tap(space, "eth0", queues)
    assert len(fds) == queues
    tap.close_all(fds)
    assert links.delete_link(space, "eth0", "tun")
    assert open_fds() == before


def test_a_tap_is_not_made_over_another_interface(space: int) -> None:
    before = open_fds()
    with pytest.raises(NetnsError, match="interface lo exists already") as caught:
        tap.create_tap(space, "lo", 1)
    assert caught.value.errno == errno.EEXIST
    assert names(space) == {"lo"}
    assert open_fds() == before


def test_attaching_never_makes_a_tap(space: int) -> None:
    with pytest.raises(NetnsError, match="interface eth0 is gone") as caught:
        tap.attach_tap(space, "eth0", 1)
    assert caught.value.errno == errno.ENODEV
    assert names(space) == {"lo"}


def test_attaching_says_what_is_in_the_way(space: int) -> None:
    fds = tap.create_tap(space, "eth0", 1)
    with pytest.raises(NetnsError, match="another process holds its queues"):
        tap.attach_tap(space, "eth0", 1)
    tap.close_all(fds)
    with pytest.raises(NetnsError, match="another number of queues"):
        tap.attach_tap(space, "eth0", 2)


def test_configure_sets_everything(space: int) -> None:
    fds = tap.create_tap(space, "eth0", 1)
    routes = [
        Route("0.0.0.0/0", "10.1.0.1"),
        Route("::/0", "fd00::1"),
        Route("10.9.0.0/16", "10.1.0.7", mtu=1300, priority=5),
        Route("10.8.0.0/16", "10.1.0.7", table=300),
    ]
    addresses = ["10.1.0.2/24", "fd00::2/64"]
    links.configure(space, "eth0", LinkConfig(MAC, 1400, addresses, routes))
    view = links.inspect(space, "eth0")
    with entered(space):
        accept_ra = Path("/proc/sys/net/ipv6/conf/eth0/accept_ra").read_text().strip()
    tap.close_all(fds)
    assert view is not None
    assert (view.mac, view.mtu, view.up) == (MAC, 1400, True)
    assert set(addresses) <= set(view.addresses)
    seen = {(route.dst, route.gw, route.table) for route in view.routes}
    assert {
        ("0.0.0.0/0", "10.1.0.1", 254),
        ("::/0", "fd00::1", 254),
        ("10.9.0.0/16", "10.1.0.7", 254),
        ("10.8.0.0/16", "10.1.0.7", 300),
    } <= seen
    assert accept_ra == "0"


def test_a_route_named_twice_is_fine(space: int) -> None:
    fds = tap.create_tap(space, "eth0", 1)
    routes = [Route("0.0.0.0/0", "10.1.0.1"), Route("::/0", "fd00::1")] * 2
    links.configure(space, "eth0", LinkConfig(MAC, 1500, ["10.1.0.2/24", "fd00::2/64"], routes))
    tap.close_all(fds)


def test_errors_name_the_item_in_the_kernels_words(space: int) -> None:
    config = LinkConfig(addresses=["10.1.0.2/24"], routes=[Route("10.2.0.0/24", "10.77.0.1")])
    wanted = r"cannot add route 10.2.0.0/24 via 10.77.0.1 dev lo: Nexthop has invalid gateway"
    with pytest.raises(NetnsError, match=wanted):
        links.configure(space, "lo", config)
    with pytest.raises(NetnsError, match="there is no interface eth7"):
        links.configure(space, "eth7", LinkConfig())


def test_an_address_is_added_once(space: int) -> None:
    assert links.add_address(space, "lo", "10.1.0.2/24")
    assert not links.add_address(space, "lo", "10.1.0.2/24")


def test_only_links_of_the_driver_asked_for_are_deleted(space: int) -> None:
    links.create_veth(space, "eth0", space, "peer0")
    with pytest.raises(NetnsError, match=r"interface eth0 is not ours \(driver veth\)"):
        links.delete_link(space, "eth0", "tun")
    assert links.exists(space, "eth0")
    assert links.delete_link(space, "eth0")
    assert not links.delete_link(space, "eth0", "tun")
    assert links.inspect(space, "eth0") is None


@contextmanager
def one_more_fd() -> Iterator[None]:
    """Leave this process one descriptor: enough to enter a namespace, too little to look about."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.open(os.devnull, os.O_RDONLY)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("look", [links.exists, links.delete_link, links.inspect])
def test_what_cannot_be_looked_for_is_not_absent(
    space: int, look: Callable[[int, str], object]
) -> None:
    with one_more_fd(), pytest.raises(NetnsError, match="cannot look for interface lo") as caught:
        look(space, "lo")
    assert caught.value.errno == errno.EMFILE
    assert links.exists(space, "lo")
    for absent in ("nope", "lo" + 14 * "o"):
        assert not look(space, absent)


def test_veths_cross_namespaces_and_offloads_are_switched(space: int) -> None:
    name = f"cvt-{uuid.uuid4().hex[:8]}"
    other = netns.open_netns(netns.create_named(name))
    try:
        links.create_veth(space, "a0", other, "b0")
        assert "a0" in names(space)
        assert "b0" in names(other)
        links.set_offloads(space, "a0", {"tso": False, "gso": False, "tx": False})
        with pytest.raises(NetnsError, match="cannot switch offload tx of lo0"):
            links.set_offloads(space, "lo0", {"tx": False})
    finally:
        os.close(other)
        netns.delete_named(name)


def test_an_interface_that_comes_up_announces_its_addresses(space: int) -> None:
    links.create_veth(space, "a0", space, "b0")
    links.set_up(space, "b0")
    with entered(space):
        sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        sniffer.bind(("b0", 3))
        sniffer.settimeout(5)
    mac = bytes.fromhex(MAC.replace(":", ""))
    v4, v6 = socket.inet_aton("10.1.0.2"), socket.inet_pton(socket.AF_INET6, "fd00::2")
    missing = {"gratuitous ARP", "neighbour advertisement"}
    with sniffer:
        links.configure(space, "a0", LinkConfig(MAC, 1500, ["10.1.0.2/24", "fd00::2/64"]))
        while missing:
            frame = sniffer.recv(2048)
            if frame[6:14] == mac + b"\x08\x06" and frame[28:32] == frame[38:42] == v4:
                missing.discard("gratuitous ARP")
            if frame[6:14] == mac + b"\x86\xdd" and frame[54] == 136 and frame[62:78] == v6:
                missing.discard("neighbour advertisement")
