"""Interfaces that are deleted without the wait for their memory."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cni_virtio import departure, links, netns, tap
from cni_virtio.netns import NetnsError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces: not root")


@pytest.fixture
def space() -> Iterator[int]:
    name = f"cvu-{os.getpid()}-departure"
    fd = netns.open_netns(netns.create_named(name))
    try:
        yield fd
    finally:
        os.close(fd)
        netns.delete_named(name)


def test_it_is_gone_and_its_name_is_free(space: int) -> None:
    for _ in range(5):
        tap.close_all(tap.create_tap(space, "eth0", 1))
        departure.delete_link(space, "eth0", "tun")
        assert not links.exists(space, "eth0")


def test_one_that_is_gone_already_is_fine(space: int) -> None:
    departure.delete_link(space, "eth0", "tun")


def test_it_does_not_need_the_callers_descriptor_any_more(space: int) -> None:
    own = os.dup(space)
    tap.close_all(tap.create_tap(own, "eth0", 1))
    departure.delete_link(own, "eth0", "tun")
    os.close(own)
    assert not links.exists(space, "eth0")


def test_what_is_not_ours_stays_and_is_named(space: int) -> None:
    links.create_veth(space, "eth0", space, "peer0")
    with pytest.raises(NetnsError, match=r"eth0 is not ours \(driver veth\)") as caught:
        departure.delete_link(space, "eth0", "tun")
    assert caught.value.errno == errno.EPERM
    assert links.exists(space, "eth0")


@pytest.mark.parametrize("there_is_one", [True, False])
def test_one_that_comes_by_the_name_stays(
    space: int, monkeypatch: pytest.MonkeyPatch, there_is_one: bool
) -> None:
    """The deletion of one that is gone, or going, is slow; another comes meanwhile."""
    begins, ended = threading.Event(), threading.Event()
    delete_link = links.delete_link

    def delete_later(*arguments: Any) -> bool:
        begins.wait(10)
        try:
            return delete_link(*arguments)
        finally:
            ended.set()

    monkeypatch.setattr(links, "delete_link", delete_later)
    departing = threading.Thread(target=departure.delete_link, args=(space, "eth0", "tun"))
    if there_is_one:
        tap.close_all(tap.create_tap(space, "eth0", 1))
    departing.start()
    time.sleep(0.05)
    delete_link(space, "eth0")
    tap.close_all(tap.create_tap(space, "eth0", 1))
    departing.join()
    begins.set()
    ended.wait(1)
    assert links.exists(space, "eth0")
