"""One dataplane process: started or found, watched until it ends, stopped."""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from cni_virtio.config import AgentConfig
from dataplane.client import DataplaneClient, DataplaneError, DataplaneUnavailable
from dataplane.unix_socket import peer_credentials
from dataplane.wire import JsonObject

log = logging.getLogger(__name__)

_START_PATIENCE_S: Final = 120.0  # clearing many gigabytes of hugepages takes time
_STOP_PATIENCE_S: Final = 10.0
_LOG_LINES_KEPT: Final = 20


class StartError(Exception):
    """The dataplane did not start; the text is its own last word on why."""


@dataclass(frozen=True)
class Callbacks:
    """What is done when a dataplane is there (adopted or fresh), and when it is gone.

    `tally` tells how many ports it has of those wanted, and how many those are. `hand_over` has it
    give up its ports, calls what makes another serve its socket, and gives that one the ports; it
    raises what that call does, with all as before.
    """

    online: Callable[[DataplaneProcess], None]
    offline: Callable[[str], None]
    tally: Callable[[], tuple[int, int]]
    hand_over: Callable[[Callable[[], None]], None]

    def give_all(self, process: DataplaneProcess) -> None:
        """Call `online`. A fault in there must not leave the process to itself."""
        try:
            self.online(process)
        except Exception:
            log.exception("the dataplane could not be given all that it should have")


class DataplaneProcess:
    """A dataplane that serves its socket. `info` is its answer to `version`."""

    def __init__(
        self, watch: socket.socket, info: JsonObject, child: subprocess.Popen[bytes] | None
    ) -> None:
        self._watch = watch
        self._child = child
        self.info = info
        self.adopted = child is None
        # The namespace of pids may differ from ours: the kernel translates, the answer does not.
        self.pid = peer_credentials(watch)[0]

    def wait_end(self, wake_fd: int) -> bool:
        """Wait until the process closes its socket (True) or `wake_fd` is readable (False)."""
        poller = select.poll()
        poller.register(self._watch, select.POLLIN)
        poller.register(wake_fd, select.POLLIN)
        ready = dict(poller.poll())
        return self._watch.fileno() in ready

    def reap(self) -> str:
        """Close what was held of a process that ended (or hangs half-dead); say how it ended."""
        self._watch.close()
        if self._child is None:
            return f"it ended (pid {self.pid}, which this agent had not started)"
        try:
            status = self._child.wait(_STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            status = self._child.wait()
        if status < 0:
            return f"it was killed by {signal.Signals(-status).name}"
        return f"it ended with status {status}"

    def stop(self) -> None:
        """End the process in order; kill it if it does not."""
        for number, patience_s in ((signal.SIGTERM, _STOP_PATIENCE_S), (signal.SIGKILL, 2.0)):
            if self._ends_within(0):
                break  # its pid may be another's by now
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, number)
            if self._ends_within(patience_s):
                break
        self.reap()

    def _ends_within(self, patience_s: float) -> bool:
        poller = select.poll()
        poller.register(self._watch, select.POLLIN)
        return bool(poller.poll(patience_s * 1000))

    def serves(self, path: Path) -> bool:
        """Tell whether it is this process that listens at a path."""
        try:
            with _connect(path) as connection:
                return peer_credentials(connection)[0] == self.pid
        except OSError:
            return False

    def leave(self) -> None:
        """Let go of the process, which goes on."""
        self._watch.close()


def find(path: Path) -> DataplaneProcess | None:
    """Return the dataplane that serves a socket already, or None."""
    try:
        return DataplaneProcess(_connect(path), _about(path), None)
    except (DataplaneUnavailable, DataplaneError, OSError):
        return None


class Starter:
    """Starts dataplane processes and keeps the last lines that the latest one has said."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        self._said: collections.deque[str] = collections.deque(maxlen=_LOG_LINES_KEPT)

    def start(
        self,
        *,
        huge: bool,
        socket_path: Path | None = None,
        memory_bytes: int | None = None,
        iova_mode: str | None = None,
    ) -> DataplaneProcess:
        """Start one and wait until it serves, as the command says.

        Raises StartError.
        """
        self._said.clear()
        try:
            ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
        except OSError as error:
            raise StartError(f"cannot be told when it is ready: {error.strerror}") from error
        try:
            child = subprocess.Popen(
                command(self._config, huge, ready_write, socket_path, memory_bytes, iova_mode),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(ready_write,),
                start_new_session=True,  # Ctrl-C is for the agent to pass on, in order
            )
        except OSError as error:
            os.close(ready_read)
            raise StartError(f"{sys.executable}: {error.strerror}") from error
        finally:
            os.close(ready_write)
        assert child.stderr is not None
        threading.Thread(
            target=self._relay, args=(child.stderr,), name="dataplane-log", daemon=True
        ).start()
        return self._await_ready(child, ready_read, socket_path or self._config.dataplane.socket)

    def last_words(self) -> str:
        """Return the last line that looks like a reason, or the last one."""
        lines = [line for line in self._said if line.strip()]
        errors = [line for line in lines if "rror" in line or "ERR" in line]
        return (errors or lines or [""])[-1].strip()

    def _await_ready(
        self, child: subprocess.Popen[bytes], ready_fd: int, path: Path
    ) -> DataplaneProcess:
        with open(ready_fd, "rb", buffering=0) as ready:
            line = _read_line(ready, _START_PATIENCE_S)
        if line == "ready":
            try:
                return DataplaneProcess(_connect(path), _about(path), child)
            except (DataplaneUnavailable, DataplaneError, OSError) as error:
                line = f"error: it was ready, and then: {error}"
        child.kill()
        status = child.wait()
        reason = line.removeprefix("error: ") or self.last_words()
        raise StartError(reason or f"it ended with status {status} and said nothing")

    def _relay(self, stderr: IO[bytes]) -> None:
        """Pass on what the dataplane says: it writes whole lines with a time of its own."""
        with stderr:
            for raw in stderr:
                line = raw.decode(errors="replace")
                self._said.append(line.rstrip("\n"))
                with contextlib.suppress(OSError, ValueError):
                    sys.stderr.write(line)
                    sys.stderr.flush()


def command(
    config: AgentConfig,
    huge: bool,
    ready_fd: int | None = None,
    socket_path: Path | None = None,
    memory_bytes: int | None = None,
    iova_mode: str | None = None,
) -> Sequence[str]:
    """Return the command line of the dataplane; `ready_fd` is told when it serves.

    Socket and memory are as configured unless given. At another socket no later agent would find
    it: it ends if this one is gone by then. With `iova_mode` it leaves the NICs to the process that
    has them, and has that mode (`pa`, `va`), until their ports are added.
    """
    section = config.dataplane
    memory_mb = -(-(memory_bytes or section.memory_bytes) >> 20)
    pci = [uplink.target for uplink in config.uplinks if uplink.kind == "pci"]
    return [
        sys.executable,
        "-P",  # nothing is imported from whatever directory the agent was started in
        "-m",
        "dataplane",
        f"--socket={socket_path or section.socket}",
        f"--main-core={section.main_core}",
        f"--cores={','.join(map(str, section.cores))}",
        f"--memory={memory_mb}Mi",
        f"--idle={section.idle}",
        f"--log-level={config.agent.log_level}",
        *(() if ready_fd is None else (f"--ready-fd={ready_fd}",)),
        *(() if socket_path is None else ("--only-if-awaited",)),
        *(f"--pci={address}" for address in pci),
        *((f"--iova-mode={iova_mode}",) if pci and iova_mode else ()),
        *(() if huge else ("--no-huge",)),
        *(() if section.seccomp else ("--no-seccomp",)),
    ]


def _about(path: Path) -> JsonObject:
    client = DataplaneClient(str(path))
    try:
        return client.version()
    finally:
        client.close()


def _connect(path: Path) -> socket.socket:
    watch = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        watch.settimeout(5.0)
        watch.connect(str(path))
    except OSError:
        watch.close()
        raise
    return watch


def _read_line(pipe: IO[bytes], patience_s: float) -> str:
    """Read one line; "" if the other end closed or was silent for too long."""
    deadline_s = time.monotonic() + patience_s
    data = b""
    while not data.endswith(b"\n"):
        left_s = deadline_s - time.monotonic()
        if left_s <= 0 or not select.select([pipe], [], [], left_s)[0]:
            return f"error: it was not ready after {patience_s:g} s"
        chunk = pipe.read(4096)
        if not chunk:
            break
        data += chunk
    return data.decode(errors="replace").strip()
