"""Descriptors sent over the control socket: kept if wanted, closed otherwise, never lost."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from dataplane.client import DataplaneClient, DataplaneError
from tests.unit import dataplane_process
from tests.unit.dataplane_process import (
    TAP,
    Dataplane,
    needs_engine,
    needs_root,
    open_tap,
    read_reply,
    request,
    send_with_fds,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

socket_dir = dataplane_process.socket_dir
dataplane = dataplane_process.dataplane
control = dataplane_process.control


@needs_engine
@needs_root
def test_tap_takes_its_descriptors_and_gives_them_back(
    dataplane: Dataplane, control: DataplaneClient
) -> None:
    before = dataplane.open_fds()
    fd = open_tap()
    control.port_add(TAP, [fd])
    os.close(fd)
    assert dataplane.open_fds() >= before + 1
    with pytest.raises(DataplaneError, match="has its descriptors"):
        control.port_add(TAP, [0])
    control.port_add(TAP)
    control.port_del(TAP.name)
    assert dataplane.open_fds() == before


@pytest.fixture
def pipe() -> Iterator[tuple[int, list[int]]]:
    """A pipe's read end, and its write end, whose copies keep the read end from ending."""
    read_fd, write_fd = os.pipe2(os.O_NONBLOCK)
    write_fds = [write_fd]
    yield read_fd, write_fds
    os.close(read_fd)
    for fd in write_fds:
        os.close(fd)


def assert_closed_by_peer(pipe: tuple[int, list[int]]) -> None:
    read_fd, write_fds = pipe
    os.close(write_fds.pop())
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with suppress(BlockingIOError):
            assert os.read(read_fd, 1) == b""
            return
        time.sleep(0.01)
    pytest.fail("the dataplane still holds a descriptor that it was sent")


Pipe = tuple[int, list[int]]


@needs_engine
@pytest.mark.parametrize(
    "frame",
    [
        request("version"),
        request("fly"),
        request("port_add", port=TAP.to_json()),
        request("port_add", port=TAP.to_json() | {"mtu": 0}),
        request("port_add", port=TAP.to_json() | {"queues": 3}),
        b"\x00\x00\x00\x02no",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x00",
    ],
    ids=["version", "unknown", "surplus", "invalid", "not-taps", "garbage", "oversize", "empty"],
)
def test_descriptors_that_nobody_wants_are_closed(
    dataplane: Dataplane, control: DataplaneClient, pipe: Pipe, frame: bytes
) -> None:
    before = dataplane.open_fds()
    with dataplane.connect() as sock:
        send_with_fds(sock, frame, pipe[1] * 3)
        assert read_reply(sock) is not None
        assert_closed_by_peer(pipe)
    assert dataplane.open_fds() == before


@needs_engine
@pytest.mark.parametrize("length", [1, 4, 20])
def test_descriptors_of_a_client_that_leaves_are_closed(
    dataplane: Dataplane, pipe: Pipe, length: int
) -> None:
    before = dataplane.open_fds()
    with dataplane.connect() as sock:
        send_with_fds(sock, request("port_add", port=TAP.to_json())[:length], pipe[1] * 64)
    assert_closed_by_peer(pipe)
    assert dataplane.open_fds() == before


@needs_engine
def test_too_many_descriptors(dataplane: Dataplane, pipe: Pipe) -> None:
    before = dataplane.open_fds()
    with dataplane.connect() as sock:
        send_with_fds(sock, request("version"), pipe[1] * 65)
        reply = read_reply(sock)
        assert reply is not None
        assert reply["error"]["code"] == "no_resource"
        assert read_reply(sock) is None
    with dataplane.connect() as sock:
        frame = request("version")
        for i in range(3):
            send_with_fds(sock, frame[i : i + 1], pipe[1] * 30)
        reply = read_reply(sock)
        assert reply is not None
        assert reply["error"]["code"] == "no_resource"
    assert_closed_by_peer(pipe)
    assert dataplane.open_fds() == before


@needs_engine
@needs_root
def test_descriptors_go_with_the_frame_they_came_with(
    dataplane: Dataplane, control: DataplaneClient
) -> None:
    """Three requests at once, of which the middle one brings a tap's descriptor."""
    fd = open_tap()
    with dataplane.connect() as sock:
        sock.sendall(request("version", 1))
        send_with_fds(sock, request("port_add", 2, port=TAP.to_json()), [fd])
        sock.sendall(request("version", 3))
        replies = [read_reply(sock) for _ in range(3)]
    os.close(fd)
    assert [reply and (reply["id"], reply["ok"]) for reply in replies] == [
        (1, True),
        (2, True),
        (3, True),
    ]
