"""Commands outside the VM for the tests in it: a virtio-serial port with a process at each end.

A request is one line of JSON, `{"id", "op", ...}`; so is its answer, `{"id", "result" | "error"}`.
Requests are served at the same time, and each answer comes when it is there.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from tests.vm.monitor import MONITOR, set_link

if TYPE_CHECKING:
    from collections.abc import Iterator

PORT_NAME = "cni-virtio.outside"
DEVICE = Path("/dev/virtio-ports", PORT_NAME)

_GRACE_S = 15
"""How much longer than a command itself its answer may take."""


class OutsideError(Exception):
    """A request failed outside, or the other end is gone."""


@dataclass
class Process:
    """A command that runs outside."""

    outside: Outside
    handle: int

    @property
    def stdout(self) -> Iterator[str]:
        """Its output, line by line."""
        return iter(self.line, "")

    def line(self, timeout_s: float = 10) -> str:
        """Give the next line of its output, "" at the end."""
        text: str = self.outside.ask("line", timeout_s, handle=self.handle)
        return text

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.outside.ask("signal", handle=self.handle, number=int(number))

    def finish(self, timeout_s: float = 10) -> str:
        """Wait for its end and give the rest of its output."""
        text: str = self.outside.ask("finish", timeout_s, handle=self.handle, timeout_s=timeout_s)
        return text


class Outside:
    """The end in the VM."""

    def __init__(self, device: Path = DEVICE) -> None:
        self._file = device.open("r+b", buffering=0)
        self._ids = itertools.count()
        self._waiting: dict[int, SimpleQueue[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._read, name="outside", daemon=True).start()

    def run(self, *words: str, check: bool = True, timeout_s: float = 30) -> str:
        """Run a command outside and give its standard output."""
        done = self.ask("run", timeout_s, words=words, timeout_s=timeout_s)
        output: str = done["stdout"]
        assert not check or done["status"] == 0, f"{words}: {output}{done['stderr']}"
        return output

    @contextmanager
    def running(self, *words: str) -> Iterator[Process]:
        """Run a command outside, in the background, until the end of the block."""
        process = Process(self, self.ask("start", words=words))
        try:
            yield process
        finally:
            self.ask("end", handle=process.handle)

    def set_link(self, netdev: str, *, up: bool) -> None:
        """Plug or unplug the cable of a NIC of the VM."""
        self.ask("link", netdev=netdev, up=up)

    def ask(self, op: str, patience_s: float = 0, **args: Any) -> Any:
        """Have one request answered."""
        number, answers = next(self._ids), SimpleQueue[dict[str, Any]]()
        self._waiting[number] = answers
        data = json.dumps({"id": number, "op": op, **args}).encode() + b"\n"
        with self._lock:
            while data:
                data = data[self._file.write(data) or 0 :]
        try:
            answer = answers.get(timeout=patience_s + _GRACE_S)
        except Empty:
            raise OutsideError(f"{op} {args}: no answer from outside the VM") from None
        finally:
            del self._waiting[number]
        if "error" in answer:
            raise OutsideError(f"{op} {args}: {answer['error']}")
        return answer["result"]

    def _read(self) -> None:
        with io.BufferedReader(self._file) as lines:
            for line in lines:
                answer = json.loads(line)
                if waiting := self._waiting.get(answer["id"]):
                    waiting.put(answer)


@dataclass
class Server:
    """The end outside: runs commands where it runs itself."""

    connection: socket.socket
    monitor: Path
    processes: dict[int, subprocess.Popen[str]] = field(default_factory=dict)
    handles: Iterator[int] = field(default_factory=itertools.count)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self) -> None:
        """Answer until the other end is closed, then end what runs."""
        with self.connection.makefile("rb") as lines:
            for line in lines:
                threading.Thread(target=self._answer, args=[json.loads(line)], daemon=True).start()
        for process in self.processes.values():
            process.kill()

    def _answer(self, request: dict[str, Any]) -> None:
        number, op = request.pop("id"), request.pop("op")
        try:
            answer = {"id": number, "result": getattr(self, f"op_{op}")(**request)}
        except Exception as e:
            answer = {"id": number, "error": f"{type(e).__name__}: {e}"}
        with self.lock, suppress(OSError):
            self.connection.sendall(json.dumps(answer).encode() + b"\n")

    def op_run(self, words: list[str], timeout_s: float) -> dict[str, Any]:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return {"status": done.returncode, "stdout": done.stdout, "stderr": done.stderr}

    def op_start(self, words: list[str]) -> int:
        handle = next(self.handles)
        self.processes[handle] = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return handle

    def op_line(self, handle: int) -> str:
        stdout = self.processes[handle].stdout
        assert stdout
        return stdout.readline()

    def op_signal(self, handle: int, number: int) -> None:
        self.processes[handle].send_signal(number)

    def op_finish(self, handle: int, timeout_s: float) -> str:
        return self.processes[handle].communicate(timeout=timeout_s)[0]

    def op_link(self, netdev: str, *, up: bool) -> None:
        set_link(self.monitor, netdev, up=up)

    def op_end(self, handle: int) -> None:
        process = self.processes.pop(handle)
        process.kill()
        process.wait()


def main() -> None:
    """Serve the one connection to the socket of the first argument; the second is its folder."""
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        connection, _ = listener.accept()
    os.set_inheritable(connection.fileno(), False)
    with connection:
        Server(connection, Path(sys.argv[2], MONITOR)).serve()


if __name__ == "__main__":
    main()
