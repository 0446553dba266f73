"""Runs a plugin: input in, output out, all of it bounded, and an end by a deadline."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cni_virtio import descriptors
from cni_virtio.spec import CniError, Code

MAX_STDOUT_BYTES = 1 << 20
KEPT_STDERR_BYTES = 4 << 10
_READ_BYTES = 64 << 10
_PLUGIN_UMASK = 0o022  # as a runtime would run it: its folders are for others to read
_REAP_S = 1.0


@dataclass(frozen=True)
class Outcome:
    """How a plugin ended: negative `exit_status` is a signal, `stderr` the last 4 KiB of it."""

    exit_status: int
    stdout: bytes
    stderr: bytes


def run(plugin: Path, env: Mapping[str, str], stdin: bytes, deadline_s: float) -> Outcome:
    """Run `plugin` to its end; see Run."""
    return Run(plugin, env, stdin, deadline_s).outcome()


class Run:
    """A plugin that runs, in a process group of its own, without a shell and without a thread.

    Whoever starts one has to take its outcome. Raises CniError 5 if it cannot be executed.
    """

    def __init__(
        self, plugin: Path, env: Mapping[str, str], stdin: bytes, deadline_s: float
    ) -> None:
        self._plugin = plugin
        self._deadline_s = deadline_s
        self._end_s = time.monotonic() + deadline_s
        try:
            self._process = subprocess.Popen(
                [plugin],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=dict(env),
                cwd="/",
                process_group=0,
                umask=_PLUGIN_UMASK,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            hint = descriptors.remedy(getattr(error, "errno", None) or 0)
            code = Code.TRY_AGAIN_LATER if hint else Code.IO_FAILURE
            raise CniError(code, f"{plugin}: cannot be executed: {reason}{hint}") from None
        try:
            self._exchange = _Exchange(self._process, stdin)
        except OSError as error:
            _end(self._process)
            for pipe in _pipes(self._process):
                pipe.close()
            msg = f"{plugin}: cannot be waited for, killed: {error.strerror}"
            raise CniError(Code.IO_FAILURE, msg) from None

    def outcome(self) -> Outcome:
        """Wait for its end and return how that was.

        Raises CniError: 11 if it has not ended after the deadline, 6 if it writes over 1 MiB to
        stdout; in both cases its group is killed.
        """
        exchange = self._exchange
        with self._killed_if_it_fails():
            exchange.until_exit(self._end_s)
            status = self._process.wait()
        exchange.close()
        return Outcome(status, bytes(exchange.stdout), bytes(exchange.stderr))

    def answer(self) -> dict[str, Any] | None:
        """Wait until it has written a whole JSON object; None if it ends before that.

        To write it and to end are two things: its outcome is yet to come. Raises as `outcome` does.
        """
        with self._killed_if_it_fails():
            return self._exchange.until_object(self._end_s)

    @property
    def ended(self) -> bool:
        """Tell whether its outcome has been taken, or it was killed."""
        return self._exchange.closed

    def abandon(self) -> None:
        """Wait for its end, whatever that is, unless its outcome has been taken."""
        if not self.ended:
            with contextlib.suppress(CniError):
                self.outcome()

    @contextlib.contextmanager
    def _killed_if_it_fails(self) -> Iterator[None]:
        exchange, plugin = self._exchange, self._plugin
        try:
            yield
        except TimeoutError:
            exchange.close()
            msg = f"{plugin}: still running after {self._deadline_s:g} s, killed"
            raise CniError(Code.TRY_AGAIN_LATER, msg, exchange.stderr_text) from None
        except OverflowError:
            exchange.close()
            msg = f"{plugin}: wrote more than {MAX_STDOUT_BYTES} bytes to stdout, killed"
            raise CniError(Code.DECODING_FAILURE, msg) from None
        except BaseException:
            exchange.close()
            raise


class _Exchange:
    """The pipes to a process, served by one poll loop together with the process' end."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes) -> None:
        self._process = process
        self._pipes = {pipe.fileno(): pipe for pipe in _pipes(process)}
        self._stdin, self._stdout, self._stderr = self._pipes
        self._unsent = memoryview(stdin)
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.closed = False
        self._pidfd = os.pidfd_open(process.pid)
        self._poll = select.poll()
        self._poll.register(self._pidfd, select.POLLIN)
        for fd in self._pipes:
            os.set_blocking(fd, False)
            self._poll.register(fd, select.POLLOUT if fd == self._stdin else select.POLLIN)
        self._write()  # what the pipe takes: the plugin works while its caller does something else

    @property
    def stderr_text(self) -> str:
        return self.stderr.decode("utf-8", "replace").strip()

    def until_exit(self, end_s: float) -> None:
        """Serve the pipes until the process ends; TimeoutError at `end_s`, OverflowError."""
        while not self._advance(end_s):
            pass
        # A child that outlives the plugin may hold the pipes: take what is there, no more.
        for fd in (self._stdout, self._stderr):
            while fd in self._pipes and self._read(fd):
                pass

    def until_object(self, end_s: float) -> dict[str, Any] | None:
        """Serve the pipes until stdout holds a JSON object; None if the process ends first."""
        while not self._advance(end_s):
            if self.stdout.rstrip().endswith(b"}"):
                with contextlib.suppress(ValueError, RecursionError):
                    found = json.loads(self.stdout)
                    return found if isinstance(found, dict) else None
        return None

    def close(self) -> None:
        """Kill the group if its leader still runs, reap it, and close everything."""
        self.closed = True
        _end(self._process)
        for fd in list(self._pipes):
            self._drop(fd)
        os.close(self._pidfd)

    def _advance(self, end_s: float) -> bool:
        """Serve what is ready, once something is; True if the process has ended."""
        left_ms = (end_s - time.monotonic()) * 1000
        ready = [fd for fd, _ in self._poll.poll(left_ms)] if left_ms > 0 else []
        if not ready:
            raise TimeoutError
        for fd in ready:
            self._serve(fd)
        return self._pidfd in ready

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


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the group if its leader still runs, and reap it."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_REAP_S)


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    assert process.stdin
    assert process.stdout
    assert process.stderr
    return process.stdin, process.stdout, process.stderr
