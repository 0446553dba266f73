"""The typed client of the dataplane's control socket."""

from __future__ import annotations

import array
import os
import select
import socket
import threading
import time
from typing import TYPE_CHECKING

from dataplane.wire import (
    MAX_FDS,
    MAX_REPLY_BYTES,
    Code,
    Decoder,
    JsonObject,
    Limits,
    NetworkSpec,
    Op,
    PortSpec,
    Request,
    WireError,
    decode,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_CHUNK_BYTES = 1 << 16
_BACKLOG_RETRY_S = 0.005
_READS = frozenset({Op.VERSION, Op.NETWORKS, Op.PORTS, Op.FDB, Op.WORKERS})


class DataplaneError(Exception):
    """The dataplane refused a request: `code`, `message`, and the `field` at fault if any."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field


class DataplaneUnavailable(Exception):  # noqa: N818 -- a state to wait out, not a mistake
    """The dataplane cannot be talked to; the text names the socket and the reason.

    Whether a request that changes something was carried out is unknown then.
    """


class _BrokenError(Exception):
    """The connection ended; `sent` says whether the whole request had left."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class DataplaneClient:
    """One connection to the dataplane, made when needed; usable from many threads.

    Every operation raises DataplaneError when it is refused and DataplaneUnavailable when there
    is no answer within `timeout_s` seconds, what a `meanwhile` takes not counted. A request is
    sent again, once, only if it cannot have been carried out, or if it only reads.
    """

    def __init__(self, path: str, timeout_s: float = 5.0) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._last_id = 0
        self._received: list[int] | None = None

    def version(self) -> JsonObject:
        """Give version, dpdk, frontends_guarded, pid, instance, cores, memory, max_ports, idle.

        Also `pci`, the addresses of the NICs that it was given, and `iova_mode`, `pa` or `va`.
        """
        return self._call(Op.VERSION, {})

    def network_add(self, spec: NetworkSpec) -> None:
        """Add a network; one that exists with the same settings is fine."""
        self._call(Op.NETWORK_ADD, {"network": spec.to_json()})

    def network_del(self, name: str) -> None:
        """Delete a network that has no ports."""
        self._call(Op.NETWORK_DEL, {"name": name})

    def networks(self) -> JsonObject:
        """Give networks: a list of spec, ports (names) and fdb_entries (a number)."""
        return self._call(Op.NETWORKS, {})

    def port_add(
        self,
        spec: PortSpec,
        fds: Sequence[int] = (),
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """Add a port; one that exists with the same settings is fine, unless fds are given.

        A tap takes one descriptor per queue. The caller keeps its own and closes them. `meanwhile`
        is called while the dataplane works; it must not raise, and may be called again.
        """
        self._call(Op.PORT_ADD, {"port": spec.to_json()}, fds, meanwhile)

    def port_set(self, name: str, limits: Limits) -> None:
        """Set the rate limits of a container's port, in place of those that it has."""
        self._call(Op.PORT_SET, {"name": name, "limits": limits.to_json()})

    def port_del(self, name: str) -> JsonObject:
        """Delete a port and give its last counters."""
        return self._call(Op.PORT_DEL, {"name": name})

    def ports(self, name: str | None = None) -> JsonObject:
        """Give ports: a list of spec, state and counters; of one port if it is named."""
        return self._call(Op.PORTS, {} if name is None else {"name": name})

    def port_fds(self, name: str) -> list[int]:
        """Give the queues of a tap's port, which the caller closes; none of another kind's."""
        fds: list[int] = []
        try:
            self._call(Op.PORT_FDS, {"name": name}, received=fds)
        except BaseException:
            _close_all(fds)
            raise
        return fds

    def hold(self, ms: int) -> None:
        """Have no port receive anything for so many milliseconds from now; 0 ends that.

        What is sent meanwhile waits, as far as there is room for it.
        """
        self._call(Op.HOLD, {"ms": ms})

    def fdb(self, network: str) -> JsonObject:
        """Give entries: a list of mac, port, static and age_s (seconds)."""
        return self._call(Op.FDB, {"network": network})

    def workers(self) -> JsonObject:
        """Give workers (cycles and packets of each), tsc_hz, and mbufs by pool."""
        return self._call(Op.WORKERS, {})

    def drain(self) -> None:
        """Have it give up all ports and networks, and go on without any."""
        self._call(Op.DRAIN, {})

    def move(self, path: str) -> None:
        """Have it serve another path from now on, in place of what serves that.

        Connections stay; this client makes its next one to the old path.
        """
        self._call(Op.MOVE, {"socket": path})

    def stop(self) -> None:
        """Ask the dataplane to close everything and end. Does not wait for that."""
        self._call(Op.STOP, {})

    def close(self) -> None:
        """Close the connection. A later operation makes another."""
        with self._lock:
            self._disconnect()

    def _call(
        self,
        op: Op,
        args: JsonObject,
        fds: Sequence[int] = (),
        meanwhile: Callable[[], None] | None = None,
        received: list[int] | None = None,
    ) -> JsonObject:
        with self._lock:
            self._last_id += 1
            request = Request(self._last_id, op, args)
            frame = _frame(request)
            deadline_s = time.monotonic() + self._timeout_s
            self._received = received
            try:
                reply = self._exchange_twice(request, frame, fds, deadline_s, meanwhile)
            except (OSError, _BrokenError, WireError) as e:
                self._disconnect()
                raise DataplaneUnavailable(self._explain(e)) from e
            finally:
                self._received = None
        return self._result(reply)

    def _exchange_twice(
        self,
        request: Request,
        frame: bytes,
        fds: Sequence[int],
        deadline_s: float,
        meanwhile: Callable[[], None] | None,
    ) -> JsonObject:
        try:
            return self._exchange(request, frame, fds, deadline_s, meanwhile)
        except _BrokenError as e:
            self._disconnect()
            if e.sent and request.op not in _READS:
                raise
        return self._exchange(request, frame, fds, deadline_s, meanwhile)

    def _exchange(
        self,
        request: Request,
        frame: bytes,
        fds: Sequence[int],
        deadline_s: float,
        meanwhile: Callable[[], None] | None,
    ) -> JsonObject:
        sock = self._connected(deadline_s)
        try:
            self._send(sock, frame, fds, deadline_s)
        except (BrokenPipeError, ConnectionResetError) as e:
            raise _BrokenError(self._last_words(sock, deadline_s), sent=False) from e
        if meanwhile is not None:
            meanwhile()
            deadline_s = time.monotonic() + self._timeout_s  # its time is not the dataplane's
        reply = self._receive(sock, deadline_s)
        if reply.get("id") is None:
            raise _BrokenError(_reason(reply), sent=False)
        if reply["id"] != request.id:
            raise _BrokenError("it answered another request", sent=True)
        return reply

    def _connected(self, deadline_s: float) -> socket.socket:
        # Between requests nothing may come; what does is the end of the connection.
        if self._sock is not None and _readable(self._sock):
            self._disconnect()
        if self._sock is None:
            self._sock = _connect(self._path, deadline_s)
        return self._sock

    def _send(
        self, sock: socket.socket, frame: bytes, fds: Sequence[int], deadline_s: float
    ) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sock.settimeout(_left_s(deadline_s))
        sent = sock.sendmsg([frame], rights)
        if sent < len(frame):
            sock.settimeout(_left_s(deadline_s))
            sock.sendall(frame[sent:])

    def _receive(self, sock: socket.socket, deadline_s: float) -> JsonObject:
        decoder = Decoder(MAX_REPLY_BYTES)
        while True:
            sock.settimeout(_left_s(deadline_s))
            try:
                chunk = self._receive_chunk(sock, min(decoder.wanted, _CHUNK_BYTES))
            except ConnectionResetError as e:
                raise _BrokenError("the connection was reset before an answer", sent=True) from e
            if not chunk:
                raise _BrokenError("the connection ended before an answer", sent=True)
            for body in decoder.feed(chunk):
                return decode(body)

    def _receive_chunk(self, sock: socket.socket, most_bytes: int) -> bytes:
        if self._received is None:
            return sock.recv(most_bytes)
        passed = array.array("i")
        # Not by socket.recv_fds, which leaves the flags out.
        room = socket.CMSG_LEN(MAX_FDS * passed.itemsize)
        chunk, ancillary, _, _ = sock.recvmsg(most_bytes, room, socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                passed.frombytes(data)
        self._received += passed
        return chunk

    def _last_words(self, sock: socket.socket, deadline_s: float) -> str:
        """Give the reason that the dataplane sent before it closed the connection, if any."""
        try:
            return _reason(self._receive(sock, deadline_s))
        except (OSError, _BrokenError, WireError):
            return "the connection ended"

    def _result(self, reply: JsonObject) -> JsonObject:
        result = reply.get("result")
        if reply.get("ok") is True and isinstance(result, dict):
            return result
        error = reply.get("error")
        if not isinstance(error, dict):
            raise DataplaneUnavailable(self._explain("its answer has neither result nor error"))
        field = error.get("field")
        raise DataplaneError(
            str(error.get("code", Code.INTERNAL)),
            str(error.get("message", "no reason given")),
            None if field is None else str(field),
        )

    def _disconnect(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _explain(self, error: object) -> str:
        reason = str(error)
        if isinstance(error, TimeoutError):
            reason = f"no answer within {self._timeout_s:g} s"
        elif isinstance(error, FileNotFoundError | ConnectionRefusedError):
            reason = "nothing listens there; is the dataplane running?"
        elif isinstance(error, OSError):
            reason = error.strerror or reason
        return f"the dataplane at {self._path} is not available: {reason}"


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _frame(request: Request) -> bytes:
    try:
        return encode(request.to_json())
    except WireError as e:
        raise DataplaneError(e.code, e.message, e.field) from e


def _reason(reply: JsonObject) -> str:
    error = reply.get("error")
    return str(error.get("message")) if isinstance(error, dict) else "no reason given"


def _connect(path: str, deadline_s: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        while True:
            sock.settimeout(_left_s(deadline_s))
            try:
                sock.connect(path)
            except BlockingIOError:
                # With a timeout set, a full backlog is an error at once.
                time.sleep(_BACKLOG_RETRY_S)
            else:
                return sock
    except OSError:
        sock.close()
        raise


def _readable(sock: socket.socket) -> bool:
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(0))


def _left_s(deadline_s: float) -> float:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s
