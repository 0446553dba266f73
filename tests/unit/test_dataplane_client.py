"""The client's dealings with a dataplane that answers late, wrongly, twice or not at all."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from dataplane import wire
from dataplane.client import DataplaneClient, DataplaneError, DataplaneUnavailable
from dataplane.wire import Code, Decoder, NetworkSpec, PortSpec, WireError
from tests.unit import dataplane_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Script = Callable[[socket.socket], None]

socket_dir = dataplane_process.socket_dir

POD = NetworkSpec("pods")


@contextmanager
def scripted(socket_dir: Path, *scripts: Script) -> Iterator[DataplaneClient]:
    """Give a client of a server that runs one script per connection, in order."""

    def serve() -> None:
        for script in scripts:
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(10)
                script(sock)

    path = str(socket_dir / "d.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(10)
        thread = threading.Thread(target=serve)
        thread.start()
        client = DataplaneClient(path, timeout_s=1)
        try:
            yield client
        finally:
            client.close()
            thread.join()


def read(sock: socket.socket) -> dict[str, Any]:
    decoder = Decoder()
    while True:
        chunk = sock.recv(decoder.wanted)
        assert chunk, "the client closed the connection"
        for body in decoder.feed(chunk):
            return wire.decode(body)


def answer(sock: socket.socket) -> None:
    sock.sendall(wire.encode(wire.ok_reply(read(sock)["id"], {"from": "script"})))


def hang_up(sock: socket.socket) -> None:
    read(sock)


def test_error_reply(socket_dir: Path) -> None:
    def refuse(sock: socket.socket) -> None:
        error = WireError(Code.EXISTS, "network pods exists", "network")
        sock.sendall(wire.encode(wire.error_reply(read(sock)["id"], error)))

    with scripted(socket_dir, refuse) as client, pytest.raises(DataplaneError) as refused:
        client.network_add(POD)
    assert (refused.value.code, refused.value.field) == ("exists", "network")
    assert str(refused.value) == "network pods exists"


def test_request_carries_the_spec(socket_dir: Path) -> None:
    seen: list[dict[str, Any]] = []

    def note(sock: socket.socket) -> None:
        seen.append(read(sock))
        sock.sendall(wire.encode(wire.ok_reply(seen[-1]["id"], {})))

    with scripted(socket_dir, note) as client:
        client.network_add(POD)
    assert seen == [{"id": 1, "op": "network_add", "args": {"network": POD.to_json()}}]


@pytest.mark.parametrize("made", [False, True])
def test_nothing_listens(socket_dir: Path, made: bool) -> None:
    path = str(socket_dir / "d.sock")
    if made:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
    with pytest.raises(DataplaneUnavailable, match="is the dataplane running") as unavailable:
        DataplaneClient(path).version()
    assert path in str(unavailable.value)


def test_no_answer_in_time(socket_dir: Path) -> None:
    def keep_silent(sock: socket.socket) -> None:
        read(sock)
        time.sleep(1.5)

    started = time.monotonic()
    with scripted(socket_dir, keep_silent, answer) as client:
        with pytest.raises(DataplaneUnavailable, match="no answer within 1 s"):
            client.version()
        assert time.monotonic() - started < 1.4
        client._timeout_s = 5
        assert client.version() == {"from": "script"}


def test_what_is_done_meanwhile_takes_no_time_of_the_answers(socket_dir: Path) -> None:
    def answer_late(sock: socket.socket) -> None:
        request = read(sock)
        time.sleep(1.5)
        sock.sendall(wire.encode(wire.ok_reply(request["id"], {})))

    with scripted(socket_dir, answer_late) as client:
        client.port_add(PortSpec("p", "tap", "container"), meanwhile=lambda: time.sleep(1.1))


def test_connection_found_broken_is_made_anew(socket_dir: Path) -> None:
    with scripted(socket_dir, answer, answer) as client:
        client.network_add(POD)
        time.sleep(0.1)
        client.network_add(POD)


def test_request_that_may_have_been_done_is_not_sent_again(socket_dir: Path) -> None:
    with scripted(socket_dir, hang_up, answer) as client:
        with pytest.raises(DataplaneUnavailable, match="ended before an answer"):
            client.network_add(POD)
        assert client.version() == {"from": "script"}


def test_read_is_sent_again_once(socket_dir: Path) -> None:
    with scripted(socket_dir, hang_up, answer) as client:
        assert client.version() == {"from": "script"}
    with ExitStack() as stack:
        (socket_dir / "d.sock").unlink()
        client = stack.enter_context(scripted(socket_dir, hang_up, hang_up))
        with pytest.raises(DataplaneUnavailable, match="ended before an answer"):
            client.version()


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"\xff\xff\xff\xff", "4294967295 bytes"),
        (b"\x00\x00\x00\x02no", "not JSON"),
        (wire.encode({"id": 77, "ok": True, "result": {}}), "answered another request"),
        (wire.encode({"id": 1, "ok": True}), "neither result nor error"),
        (wire.encode({"id": 1, "ok": "yes", "result": {}}), "neither result nor error"),
    ],
)
def test_answer_that_is_none(socket_dir: Path, raw: bytes, words: str) -> None:
    def mislead(sock: socket.socket) -> None:
        read(sock)
        sock.sendall(raw)

    with (
        scripted(socket_dir, mislead) as client,
        pytest.raises(DataplaneUnavailable, match=words),
    ):
        client.network_add(POD)


def test_reason_for_being_turned_away_is_given(socket_dir: Path) -> None:
    def turn_away(sock: socket.socket) -> None:
        error = WireError(Code.NO_RESOURCE, "64 connections are open already")
        sock.sendall(wire.encode(wire.error_reply(None, error)))

    with (
        scripted(socket_dir, turn_away, turn_away) as client,
        pytest.raises(DataplaneUnavailable, match="64 connections are open already"),
    ):
        client.version()


def test_too_long_a_request_is_not_sent(socket_dir: Path) -> None:
    client = DataplaneClient(str(socket_dir / "none.sock"))
    with pytest.raises(DataplaneError, match="over the limit"):
        client.network_add(NetworkSpec("x" * (1 << 20)))


def test_many_threads_share_one_connection(socket_dir: Path) -> None:
    def echo(sock: socket.socket) -> None:
        for _ in range(200):
            request = read(sock)
            result = {"name": request["args"]["name"]}
            sock.sendall(wire.encode(wire.ok_reply(request["id"], result)))

    failures: list[object] = []

    def work(name: str) -> None:
        for _ in range(25):
            if (got := client.ports(name)) != {"name": name}:
                failures.append(got)

    with scripted(socket_dir, echo) as client:
        threads = [threading.Thread(target=work, args=[f"p{i}"]) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
