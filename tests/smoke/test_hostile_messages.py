"""Frontends that send what they should not, or not as they should: nobody else notices."""

from __future__ import annotations

import os
import socket
import struct
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest

from tests.hostile.frontend import (
    NEED_REPLY,
    RX,
    TX,
    Message,
)
from tests.smoke.ports import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.hostile.stage import Stage

REQUESTS = [*range(45), 0xFFFFFFFF]
NOT_NEGOTIATED = [
    (Message.SET_LOG_BASE, struct.pack("<QQ", 4096, 0), 1),
    (Message.SET_LOG_FD, b"", 1),
    (Message.SEND_RARP, bytes(8), 0),
    (Message.SET_BACKEND_REQ_FD, b"", 1),
    (Message.IOTLB_MSG, struct.pack("<QQQBB6x", 0, 1 << 40, 0, 3, 2), 0),
    (Message.GET_CONFIG, bytes(272), 0),
    (Message.SET_CONFIG, bytes(272), 0),
    (Message.POSTCOPY_ADVISE, b"", 0),
    (Message.POSTCOPY_LISTEN, b"", 0),
    (Message.POSTCOPY_END, b"", 0),
    (Message.GET_INFLIGHT_FD, struct.pack("<QQHH4x", 0, 0, 256, 32768), 0),
    (Message.SET_INFLIGHT_FD, struct.pack("<QQHH4x", 4096, 0, 2, 65535), 1),
    (Message.SET_STATUS, bytes(8), 0),
    (Message.GET_STATUS, b"", 0),
]
TOO_SHORT = [
    (Message.SET_FEATURES, 8),
    (Message.SET_MEM_TABLE, 40),
    (Message.SET_VRING_NUM, 8),
    (Message.SET_VRING_ADDR, 40),
    (Message.SET_VRING_BASE, 8),
    (Message.GET_VRING_BASE, 8),
    (Message.SET_VRING_ENABLE, 8),
    (Message.SET_VRING_KICK, 8),
    (Message.SET_VRING_CALL, 8),
    (Message.SET_PROTOCOL_FEATURES, 8),
]


def send_alone(stage: Stage, request: int, payload: bytes, fds: Sequence[int], flags: int) -> None:
    with suppress(ConnectionError), stage.stranger() as frontend:
        frontend.send(request, payload, fds, flags)


@pytest.mark.parametrize("flags", [0, NEED_REPLY], ids=["", "reply"])
@pytest.mark.parametrize("n_fds", [0, 1, 8, 20])
def test_every_request(victim: Stage, tmp_path: Path, n_fds: int, flags: int) -> None:
    with (tmp_path / "file").open("wb") as file:
        for request in REQUESTS:
            for size in (0, 1, 8, 40):
                send_alone(victim, request, b"\1" * size, [file.fileno()] * n_fds, flags)


@pytest.mark.parametrize(("request_", "payload", "n_fds"), NOT_NEGOTIATED)
def test_not_negotiated(victim: Stage, request_: Message, payload: bytes, n_fds: int) -> None:
    with victim.frontend() as frontend:
        frontend.send(request_, payload, [frontend.memfd] * n_fds, NEED_REPLY)
        frontend.wait_closed()


@pytest.mark.parametrize(("request_", "size"), TOO_SHORT)
def test_too_short(victim: Stage, request_: Message, size: int) -> None:
    with victim.frontend() as frontend:
        frontend.send(request_, b"\1" + bytes(size - 2), (), NEED_REPLY)
        frontend.wait_closed()


def test_longer_than_any(victim: Stage) -> None:
    with victim.frontend() as frontend:
        frontend.send_bytes(struct.pack("<III", Message.SET_FEATURES, 1, 1 << 30), [frontend.memfd])
        frontend.wait_closed()


@pytest.mark.parametrize("vring", [2, 255, 1 << 31])
def test_vrings_that_the_port_has_not(victim: Stage, vring: int) -> None:
    with victim.frontend() as frontend:
        frontend.send(Message.SET_VRING_NUM, struct.pack("<II", vring, 256), [frontend.memfd])
        frontend.wait_closed()


def test_nothing_goes_on_after_an_error(victim: Stage) -> None:
    with victim.frontend() as frontend:
        frontend.send(Message.NET_SET_MTU, bytes(8), (), NEED_REPLY)
        frontend.wait_closed()


def test_toggling(victim: Stage) -> None:
    """What counts is the last word; the workers are not told of each."""
    with victim.frontend() as frontend:
        before = victim.tables()
        for i in range(10_000):
            frontend.enable(i % 4 // 2, on=i % 2 == 1)
        frontend.enable(RX, on=False)
        frontend.enable(TX, on=True)
        assert frontend.settle()
        wait_until(lambda: victim.port.state()["rx_queues"] == 1, "it may send")
        assert victim.port.state()["tx_queues"] == 0
        assert victim.tables() - before < 5000
        frontend.enable(RX)
        wait_until(lambda: victim.port.state()["ready"], "it is served")
        victim.send_to_all()


def test_owner_reset(victim: Stage) -> None:
    """What a ring's size made necessary is freed."""
    with victim.frontend() as frontend:
        for _ in range(500):
            frontend.send(Message.RESET_OWNER)
            frontend.introduce()
            for vring in (RX, TX):
                frontend.set_size(vring, 32768)
        assert frontend.settle()


@pytest.mark.parametrize("kind", ["pipe", "full pipe", "full eventfd", "socket", "null"])
def test_calls(victim: Stage, kind: str) -> None:
    """What the backend signals to can neither stop it nor be anything else."""
    with victim.frontend() as frontend, ExitStack() as stack:
        fd = fd_of(stack, kind)
        for vring in (RX, TX):
            frontend.set_call(vring, fd)
        frontend.offer(RX, [(0x10000, 2048)] * 256)
        frontend.offer_frame(bytes(60), 256)
        assert frontend.settle()
        victim.port.wait_ready()
        victim.send_to_all()
        wait_until(lambda: frontend.used(RX) > 0, "frames have come")


def fd_of(stack: ExitStack, kind: str) -> int:
    fd = new_fd(stack, kind)
    stack.callback(os.close, fd)
    return fd


def new_fd(stack: ExitStack, kind: str) -> int:
    if kind == "null":
        return os.open("/dev/null", os.O_WRONLY)
    if kind == "full eventfd":
        fd = os.eventfd(0, 0)
        os.eventfd_write(fd, (1 << 64) - 2)
        return fd
    if kind == "socket":
        pair = socket.socketpair()
        stack.callback(pair[0].close)
        return pair[1].detach()
    reader, writer = os.pipe()
    stack.callback(os.close, reader)
    if kind == "full pipe":
        os.set_blocking(writer, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(65536))
        os.set_blocking(writer, True)
    return writer


@pytest.mark.parametrize("kind", ["pipe", "socket", "null"])
def test_kicks(victim: Stage, kind: str) -> None:
    with victim.frontend() as frontend, ExitStack() as stack:
        fd = fd_of(stack, kind)
        for vring in (RX, TX):
            frontend.set_kick(vring, fd)
        assert frontend.settle()
        victim.port.wait_ready()
        time.sleep(0.05)  # a worker that finds nothing arms what it is to be woken by
        before = victim.port.counters()["rx_packets"]
        frontend.offer_frame(bytes(60), 10)
        wait_until(lambda: frontend.used(TX) == 10, "frames are taken without a kick")
        assert victim.port.counters()["rx_packets"] == before + 10
