"""Frontends that connect, and then dawdle, vanish or come in numbers: nobody else notices."""

from __future__ import annotations

import os
import socket
import struct
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest

from tests.hostile.frontend import (
    VHOST_USER_F_PROTOCOL_FEATURES,
    VIRTIO_F_VERSION_1,
    Frontend,
    Message,
)
from tests.smoke.ports import wait_until
from tests.smoke.topology import dataplane_in_host, lab_on

if TYPE_CHECKING:
    from tests.hostile.stage import Stage
    from tests.smoke.topology import Lab


def test_slow_loris(victim: Stage) -> None:
    """A message that comes byte by byte is taken; the socket of another does not wait for it."""
    other = victim.other
    features = struct.pack("<Q", VIRTIO_F_VERSION_1 | VHOST_USER_F_PROTOCOL_FEATURES)
    with victim.stranger() as slow:
        slow.send_bytes(struct.pack("<III", Message.SET_FEATURES, 1, len(features)))
        for i in range(len(features)):
            time.sleep(0.05)
            slow.send_bytes(features[i : i + 1])
            with Frontend(other.path) as quick:
                quick.begin()
                other.wait_ready()
            wait_until(lambda: not other.state()["ready"], "it is noticed that it has left")
        assert slow.settle()
        slow.begin()
        victim.port.wait_ready()


def test_one_connection_a_socket(victim: Stage) -> None:
    """Those that say nothing take one descriptor in all."""
    with victim.stranger() as first, ExitStack() as stack:
        assert first.settle()
        for _ in range(100):
            stack.enter_context(victim.passer_by()).wait_closed()
        assert first.settle()


def test_connect_and_vanish(victim: Stage) -> None:
    header = struct.pack("<III", Message.SET_MEM_TABLE, 1, 40)
    with ExitStack() as stack:
        memfd = os.memfd_create("vanishing")
        stack.callback(os.close, memfd)
        for i in range(1000):
            with suppress(ConnectionError), victim.passer_by() as frontend:
                if i % 3 == 1:
                    frontend.send_bytes(header[: i % 13 or 1], [memfd])
                elif i % 3 == 2:
                    frontend.send_bytes(header + bytes(i % 40), [memfd] * 8)


def test_vanish_from_full_service(victim: Stage) -> None:
    for _ in range(100):
        with suppress(ConnectionError), victim.passer_by() as frontend:
            frontend.begin()


def test_a_server_that_closes_at_once(victim: Stage, module_lab: Lab) -> None:
    """The dataplane connects to it again, but does not do nothing else."""
    accepted = 0
    port = module_lab.application(module_lab.network(), 5, mode="server")
    until_s = time.monotonic() + 2.5
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(port.path))
        server.listen(128)
        server.settimeout(2.5)
        while time.monotonic() < until_s:
            with suppress(TimeoutError):
                server.accept()[0].close()
                accepted += 1
        port.delete()
    assert 1 <= accepted <= 60
    port.path.unlink()


def test_replies_that_nobody_reads(victim: Stage) -> None:
    """The thread of all sockets does not wait for that, but closes the connection."""
    with victim.frontend() as frontend, pytest.raises(ConnectionError):
        ask_without_end(frontend)


def ask_without_end(frontend: Frontend) -> None:
    while True:
        frontend.send(Message.GET_FEATURES)


def test_the_log_has_room_for_others(capfd: pytest.CaptureFixture[str]) -> None:
    """A frontend that is refused again and again does not fill the disk with that."""
    with dataplane_in_host() as (dataplane, host), lab_on(dataplane, host) as lab:
        port = lab.application(lab.network(), 3)
        for _ in range(3000):
            with suppress(ConnectionError), Frontend(port.path) as frontend:
                frontend.send(0)
                frontend.wait_closed()
    lines = capfd.readouterr().err.splitlines()
    assert 1000 < len(lines) < 3000
