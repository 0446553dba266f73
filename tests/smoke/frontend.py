"""A vhost-user application that answers every frame, and connects again when it is cut off."""

from __future__ import annotations

import mmap
import os
import select
import socket
import struct
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

from tests.bench.frontend import ADDRESS, AVAIL_AT, USED_AT, shake_hands

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SIZE: Final = 256
_HEADER: Final = bytes(12)  # virtio_net_hdr of VIRTIO_F_VERSION_1, no offload used
_BUFFER_BYTES: Final = 2048
_BUFFERS_AT: Final = 16 << 10
_RING_BYTES: Final = _BUFFERS_AT + _SIZE * _BUFFER_BYTES
_DEVICE_WRITES: Final = 2
_RETRY_S: Final = 0.005


class _Ring:
    """One split ring with a buffer for each of its descriptors."""

    def __init__(self, memory: mmap.mmap, number: int, events: tuple[int, int]) -> None:
        self.called_fd, self._kick_fd = events
        self._memory = memory
        self._start = number * _RING_BYTES
        self._offered = self._taken = 0

    def offer(self, buffer: int, size: int, flags: int = 0) -> None:
        """Hand a buffer to the device."""
        at = self._start + _BUFFERS_AT + buffer * _BUFFER_BYTES
        where = self._start + 16 * buffer
        struct.pack_into("<QIHH", self._memory, where, ADDRESS + at, size, flags, 0)
        slot = self._start + AVAIL_AT + 4 + 2 * (self._offered % _SIZE)
        struct.pack_into("<H", self._memory, slot, buffer)
        self._offered += 1
        struct.pack_into("<H", self._memory, self._start + AVAIL_AT + 2, self._offered & 0xFFFF)
        os.eventfd_write(self._kick_fd, 1)

    def taken(self) -> Iterator[tuple[int, int]]:
        """Give each buffer that the device is through with, and what it has written there."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.called_fd)
        while self._taken & 0xFFFF != self._used():
            slot = self._start + USED_AT + 4 + 8 * (self._taken % _SIZE)
            self._taken += 1
            yield struct.unpack_from("<II", self._memory, slot)

    def read(self, buffer: int, size: int) -> bytes:
        at = self._start + _BUFFERS_AT + buffer * _BUFFER_BYTES
        return self._memory[at : at + size]

    def write(self, buffer: int, data: bytes) -> None:
        at = self._start + _BUFFERS_AT + buffer * _BUFFER_BYTES
        self._memory[at : at + len(data)] = data

    def _used(self) -> int:
        (index,) = struct.unpack_from("<H", self._memory, self._start + USED_AT + 2)
        return int(index)


class Echo:
    """The application; `connections` counts how often it has connected."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="frontend")
        self.connections = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            with ExitStack() as stack, suppress(ConnectionError, FileNotFoundError):
                self._serve(stack)
            time.sleep(_RETRY_S)

    def _serve(self, stack: ExitStack) -> None:
        """Be the application of one connection until that ends."""
        sock = stack.enter_context(socket.socket(socket.AF_UNIX))
        sock.connect(str(self._path))
        fd = os.memfd_create("rings")
        stack.callback(os.close, fd)
        os.ftruncate(fd, 2 * _RING_BYTES)
        memory = stack.enter_context(mmap.mmap(fd, 2 * _RING_BYTES))
        receive, send = (
            _Ring(memory, number, events)
            for number, events in enumerate(shake_hands(stack, sock, fd, _SIZE, _RING_BYTES))
        )
        self.connections += 1
        for buffer in range(_SIZE):
            receive.offer(buffer, _BUFFER_BYTES, _DEVICE_WRITES)
        poller = select.poll()
        poller.register(sock, select.POLLIN)
        poller.register(receive.called_fd, select.POLLIN)
        free = list(range(_SIZE))
        while not self._stopping.is_set():
            ready = dict(poller.poll(20))
            if sock.fileno() in ready and not sock.recv(1):
                return
            free += [buffer for buffer, _ in send.taken()]
            for buffer, size in receive.taken():
                frame = answer(receive.read(buffer, size)[len(_HEADER) :])
                if frame is not None and free:
                    send.write(free[-1], _HEADER + frame)
                    send.offer(free.pop(), len(_HEADER) + len(frame))
                receive.offer(buffer, _BUFFER_BYTES, _DEVICE_WRITES)


def answer(frame: bytes) -> bytes | None:
    """Send a datagram of IPv4 back where it came from; the checksums stay right by themselves."""
    if frame[12:15] != b"\x08\x00\x45" or frame[23] != socket.IPPROTO_UDP:
        return None
    macs, addresses, ports = frame[:12], frame[26:34], frame[34:38]
    return b"".join(
        (
            *(macs[6:], macs[:6], frame[12:26], addresses[4:], addresses[:4]),
            *(ports[2:], ports[:2], frame[38:]),
        )
    )


@contextmanager
def echo(path: Path) -> Iterator[Echo]:
    """Run the application during the block."""
    application = Echo(path)
    application.start()
    try:
        yield application
    finally:
        application.stop()
