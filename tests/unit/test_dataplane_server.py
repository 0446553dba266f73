"""The control socket under abuse: garbage, half messages, crowds, clients that vanish."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane import server, unix_socket, wire
from dataplane.client import DataplaneClient, DataplaneUnavailable
from dataplane.operations import Answer
from dataplane.stop import Stop
from tests.unit import dataplane_process
from tests.unit.dataplane_process import (
    NOBODY,
    Dataplane,
    needs_engine,
    needs_root,
    read_reply,
    request,
    running,
    vhost_port,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

socket_dir = dataplane_process.socket_dir
dataplane = dataplane_process.dataplane
control = dataplane_process.control

GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "json without a length": b'{"id":1,"op":"version"}',
    "zero length": b"\x00" * 8,
    "oversize": struct.pack(">I", (1 << 20) + 1),
    "not json": b"\x00\x00\x00\x04nope",
    "not an object": b"\x00\x00\x00\x02[]",
    "not utf-8": b"\x00\x00\x00\x02\xff\xfe",
    "nested deeply": struct.pack(">I", 1 << 20) + b"[" * (1 << 20),
    "no id": wire.encode({"op": "version"}),
    "id of a wrong type": wire.encode({"id": "1", "op": "version"}),
    "unknown key": wire.encode({"id": 1, "op": "version", "extra": 1}),
}


@needs_engine
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_gets_an_error_and_the_end(dataplane: Dataplane, garbage: bytes) -> None:
    with dataplane.connect() as sock:
        sock.sendall(garbage)
        reply = read_reply(sock)
        assert reply is not None
        assert (reply["id"], reply["ok"], reply["error"]["code"]) == (None, False, "invalid")
        assert reply["error"]["message"]
        assert read_reply(sock) is None
    dataplane.assert_alive()


@needs_engine
def test_a_request_nested_to_any_depth_leaves_it_alive(dataplane: Dataplane) -> None:
    for depth in range(900, 1000):
        body = b'{"id":1,"op":"a","args":' + b"[" * depth + b"]" * depth + b"}"
        with dataplane.connect() as sock:
            sock.sendall(struct.pack(">I", len(body)) + body)
            reply = read_reply(sock)
            assert reply is not None, f"no answer at depth {depth}"
            assert reply["error"]["code"] == "invalid"
    dataplane.assert_alive()


@needs_engine
@given(st.binary(max_size=64), st.booleans())
def test_any_bytes_leave_it_alive(dataplane: Dataplane, data: bytes, framed: bool) -> None:
    with dataplane.connect() as sock:
        sock.sendall(struct.pack(">I", len(data)) + data if framed else data)
        sock.shutdown(socket.SHUT_WR)
        while read_reply(sock) is not None:
            pass
    assert dataplane.process.poll() is None


@needs_engine
def test_message_sent_byte_by_byte(dataplane: Dataplane) -> None:
    with dataplane.connect() as sock:
        for byte in request("version", 5):
            sock.send(bytes([byte]))
        reply = read_reply(sock)
    assert reply is not None
    assert reply["id"] == 5


@needs_engine
def test_half_messages_disturb_nobody(dataplane: Dataplane) -> None:
    before = dataplane.open_fds()
    frame = request("version")
    with ExitStack() as stack:
        for length in range(1, len(frame)):
            stack.enter_context(dataplane.connect()).sendall(frame[:length])
        dataplane.assert_alive()
    assert dataplane.open_fds() == before


@needs_engine
def test_crowds_of_large_halves_cost_their_size_and_give_it_back(dataplane: Dataplane) -> None:
    def resident_bytes() -> int:
        pages = Path(f"/proc/{dataplane.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    half = struct.pack(">I", wire.MAX_REQUEST_BYTES) + b" " * (wire.MAX_REQUEST_BYTES - 1)
    fds, before = dataplane.open_fds(), resident_bytes()
    for _ in range(3):
        with ExitStack() as stack:
            for _ in range(50):
                stack.enter_context(dataplane.connect()).sendall(half)
            dataplane.assert_alive()
            assert resident_bytes() - before < 50 * 2 * wire.MAX_REQUEST_BYTES
        assert dataplane.open_fds() == fds
    assert resident_bytes() - before < 20 << 20


@needs_engine
def test_client_that_disappears_after_its_request(
    dataplane: Dataplane, control: DataplaneClient, socket_dir: Path
) -> None:
    for number in range(1, 30):
        port = vhost_port(socket_dir, f"pod:c{number}/eth0", number).to_json()
        with dataplane.connect() as sock:
            sock.sendall(request("port_add", port=port) + request("ports") * 5)
    dataplane.assert_alive()
    assert len(control.ports()["ports"]) == 29


@needs_engine
def test_requests_sent_at_once_are_answered_in_order(dataplane: Dataplane) -> None:
    with dataplane.connect() as sock:
        sender = threading.Thread(
            target=lambda: sock.sendall(b"".join(request("version", i) for i in range(2000)))
        )
        sender.start()
        for i in range(2000):
            reply = read_reply(sock)
            assert reply is not None
            assert reply["id"] == i
        sender.join()


@needs_engine
def test_10_000_rapid_connections(dataplane: Dataplane) -> None:
    before = dataplane.open_fds()
    frame = request("version")
    with dataplane.client_that_closes() as control:
        for i in range(10_000):
            with dataplane.connect() as sock, suppress(BrokenPipeError):
                if i % 3:
                    sock.sendall(frame[: i % 40])
            if i % 1000 == 0:
                control.version()
    dataplane.assert_alive()
    assert dataplane.open_fds() == before


@needs_engine
def test_more_connections_than_it_takes(dataplane: Dataplane) -> None:
    before = dataplane.open_fds()
    with ExitStack() as stack:
        first = stack.enter_context(dataplane.connect())
        for _ in range(63):
            stack.enter_context(dataplane.connect())
        with dataplane.connect() as surplus:
            reply = read_reply(surplus)
            assert reply is not None
            assert (reply["id"], reply["error"]["code"]) == (None, "no_resource")
            assert read_reply(surplus) is None
        with pytest.raises(DataplaneUnavailable, match="64 connections are open already"):
            dataplane.client().version()
        first.sendall(request("version", 3))
        reply = read_reply(first)
        assert reply is not None
        assert reply["ok"] is True
    assert dataplane.open_fds() == before


@needs_engine
def test_stalled_clients_are_dropped(dataplane: Dataplane) -> None:
    """One never finishes its message and one never reads: after ten seconds both are gone."""
    before = dataplane.open_fds()
    with dataplane.connect() as half, dataplane.connect() as deaf, dataplane.connect() as idle:
        half.sendall(request("version")[:10])
        deaf.settimeout(1)
        with suppress(TimeoutError):
            while True:
                deaf.sendall(request("version") * 100)
        dataplane.assert_alive()
        started = time.monotonic()
        assert read_reply(half) is None
        assert 5 < time.monotonic() - started < 12
        deaf.settimeout(5)
        with pytest.raises(ConnectionError):
            deaf.sendall(request("version") * 10_000)
        idle.sendall(request("version"))
        assert read_reply(idle) is not None
    assert dataplane.open_fds() == before


@needs_engine
def test_many_clients_at_once(
    dataplane: Dataplane, control: DataplaneClient, socket_dir: Path
) -> None:
    failures: list[Exception] = []

    def work(number: int) -> None:
        spec = vhost_port(socket_dir, f"pod:w{number}/eth0", number)
        try:
            with dataplane.client_that_closes() as own:
                for _ in range(10):
                    own.port_add(spec)
                    assert own.ports(spec.name)["ports"][0]["spec"] == spec.to_json()
                    control.version()
                    own.port_del(spec.name)
        except Exception as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=[number]) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert control.ports() == {"ports": []}


def test_what_nobody_foresaw_costs_one_client_its_connection(
    socket_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Answers:
        def handle(self, request: wire.Request, fds: list[int]) -> Answer:
            return Answer({})

    def fail(body: bytes) -> wire.JsonObject:
        if b"bad" in body:
            raise MemoryError("of this size")
        return wire.decode(body)

    monkeypatch.setattr(server, "decode", fail)
    path, stop = str(socket_dir / "s.sock"), Stop()
    serving = server.Server(unix_socket.listen(path), cast("Any", Answers()), [], stop)
    thread = threading.Thread(target=serving.run)
    thread.start()
    clients = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    for client, op in zip(clients, ("bad", "good"), strict=True):
        client.settimeout(5)
        client.connect(path)
        client.sendall(request(op))
    bad, good = read_reply(clients[0]), read_reply(clients[1])
    assert bad is not None
    assert bad["error"]["message"] == "MemoryError: of this size"
    assert read_reply(clients[0]) is None
    assert good == {"id": 1, "ok": True, "result": {}}
    stop.request()
    clients[1].close()
    thread.join(5)
    assert not thread.is_alive()
    serving.close()
    clients[0].close()


@contextmanager
def as_nobody() -> Iterator[None]:
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@needs_engine
@needs_root
def test_other_users_are_refused(socket_dir: Path) -> None:
    with running(socket_dir) as dataplane:
        socket_dir.chmod(0o755)
        with as_nobody(), pytest.raises(PermissionError):
            dataplane.connect()
        Path(dataplane.path).chmod(0o666)
        with as_nobody():
            sock = dataplane.connect()
        with sock:
            reply = read_reply(sock)
            assert reply is not None
            assert reply["error"]["message"] == "uid 65534 may not use this socket"
            assert read_reply(sock) is None
        dataplane.assert_alive()
