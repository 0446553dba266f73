"""Runs a plugin: input in, output out, all of it bounded, and an end by a deadline."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cni_virtio.spec import CniError, Code

MAX_STDOUT_BYTES = 1 << 20
KEPT_STDERR_BYTES = 4 << 10
_READ_BYTES = 64 << 10
_REAP_S = 1.0


@dataclass(frozen=True)
class Outcome:
    """How a plugin ended: negative `exit_status` is a signal, `stderr` the last 4 KiB of it."""

    exit_status: int
    stdout: bytes
    stderr: bytes


def run(plugin: Path, env: Mapping[str, str], stdin: bytes, deadline_s: float) -> Outcome:
    """Run `plugin` in a process group of its own, without a shell and without a thread.

    Raises CniError: 5 if it cannot be executed, 11 if it has not ended after `deadline_s`
    seconds, 6 if it writes over 1 MiB to stdout; in both of the latter its group is killed.
    """
    end_s = time.monotonic() + deadline_s
    try:
        process = subprocess.Popen(
            [plugin],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=dict(env),
            cwd="/",
            process_group=0,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CniError(Code.IO_FAILURE, f"{plugin}: cannot be executed: {reason}") from None
    exchange = _Exchange(process, stdin)
    try:
        exchange.until_exit(end_s)
        return Outcome(process.wait(), bytes(exchange.stdout), bytes(exchange.stderr))
    except TimeoutError:
        msg = f"{plugin}: still running after {deadline_s:g} s, killed"
        raise CniError(Code.TRY_AGAIN_LATER, msg, exchange.stderr_text) from None
    except OverflowError:
        msg = f"{plugin}: wrote more than {MAX_STDOUT_BYTES} bytes to stdout, killed"
        raise CniError(Code.DECODING_FAILURE, msg) from None
    finally:
        exchange.close()


class _Exchange:
    """The pipes to a process, served by one poll loop together with the process' end."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes) -> None:
        self._process = process
        self._pipes = {pipe.fileno(): pipe for pipe in _pipes(process)}
        self._stdin, self._stdout, self._stderr = self._pipes
        self._unsent = memoryview(stdin)
        self.stdout = bytearray()
        self.stderr = bytearray()
        self._pidfd = os.pidfd_open(process.pid)
        self._poll = select.poll()
        self._poll.register(self._pidfd, select.POLLIN)
        for fd in self._pipes:
            os.set_blocking(fd, False)
            self._poll.register(fd, select.POLLOUT if fd == self._stdin else select.POLLIN)

    @property
    def stderr_text(self) -> str:
        return self.stderr.decode("utf-8", "replace").strip()

    def until_exit(self, end_s: float) -> None:
        """Serve the pipes until the process ends; TimeoutError at `end_s`, OverflowError."""
        exited = False
        while not exited:
            left_ms = (end_s - time.monotonic()) * 1000
            ready = [fd for fd, _ in self._poll.poll(left_ms)] if left_ms > 0 else []
            if not ready:
                raise TimeoutError
            exited = self._pidfd in ready
            for fd in ready:
                self._serve(fd)
        # A child that outlives the plugin may hold the pipes: take what is there, no more.
        for fd in (self._stdout, self._stderr):
            while fd in self._pipes and self._read(fd):
                pass

    def close(self) -> None:
        """Kill the group if its leader still runs, reap it, and close everything."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_REAP_S)
        for fd in list(self._pipes):
            self._drop(fd)
        os.close(self._pidfd)

    def _serve(self, fd: int) -> None:
        if fd == self._stdin:
            self._write()
        elif fd in self._pipes:
            self._read(fd)

    def _write(self) -> None:
        try:
            self._unsent = self._unsent[os.write(self._stdin, self._unsent) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it may well answer without reading its input
            self._unsent = self._unsent[:0]
        if not self._unsent:
            self._drop(self._stdin)

    def _read(self, fd: int) -> bool:
        """Take what `fd` has; True if there may be more."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._drop(fd)
        elif fd == self._stdout:
            self.stdout += data
            if len(self.stdout) > MAX_STDOUT_BYTES:
                raise OverflowError
        else:
            self.stderr += data
            del self.stderr[:-KEPT_STDERR_BYTES]
        return bool(data)

    def _drop(self, fd: int) -> None:
        self._poll.unregister(fd)
        self._pipes.pop(fd).close()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    assert process.stdin
    assert process.stdout
    assert process.stderr
    return process.stdin, process.stdout, process.stderr
