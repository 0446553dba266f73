"""Executes CNI plugins as a runtime does, all of them in the same way, and takes the time."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cni_virtio import netns

PLUGINS: Final = "/usr/lib/cni"
_IFNAME: Final = "eth0"


class CallError(Exception):
    """A plugin failed; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """An executable and the configuration that it gets on stdin."""

    path: Path
    netconf: Mapping[str, Any]

    def call_ms(self, command: str, container: str) -> float:
        """Carry out a call for a container; return the time from fork to its end."""
        return self.calls_ms(command, [container])

    def calls_ms(self, command: str, containers: list[str]) -> float:
        """Start a call for each container at once; return the time until the last has ended."""
        prepared = [_Call.prepare(self, command, container) for container in containers]
        began_s = time.perf_counter()
        for call in prepared:
            call.start()
        for call in prepared:
            call.wait()
        took_ms = 1e3 * (time.perf_counter() - began_s)
        for call in prepared:
            call.finish()
        return took_ms


@dataclass(slots=True)
class _Call:
    """One process, with files in memory for its input and output: no pipe has to be served."""

    path: Path
    what: str
    environment: dict[str, str]
    input_fd: int
    output_fd: int
    pid: int = 0
    status: int = 0

    @classmethod
    def prepare(cls, plugin: Plugin, command: str, container: str) -> _Call:
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": f"/run/netns/{container}",
            "CNI_IFNAME": _IFNAME,
            "CNI_PATH": PLUGINS,
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        input_fd = os.memfd_create("stdin")
        os.write(input_fd, json.dumps(plugin.netconf).encode())
        os.lseek(input_fd, 0, os.SEEK_SET)
        what = f"{command} of {plugin.path.name}"
        return cls(plugin.path, what, environment, input_fd, os.memfd_create("stdout"))

    def start(self) -> None:
        """Start the process, in the namespace that the calling thread is in."""
        actions = [
            (os.POSIX_SPAWN_DUP2, self.input_fd, 0),
            (os.POSIX_SPAWN_DUP2, self.output_fd, 1),
        ]
        self.pid = os.posix_spawn(
            self.path, [str(self.path)], self.environment, file_actions=actions
        )

    def wait(self) -> None:
        """Wait for its end."""
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def finish(self) -> None:
        """Close its files. Raises CallError if the call failed."""
        said = os.pread(self.output_fd, 1 << 16, 0).decode("utf-8", "replace")
        os.close(self.input_fd)
        os.close(self.output_fd)
        if self.status != 0:
            raise CallError(f"{self.what} ended with {self.status}: {said}")


@contextmanager
def namespaces(label: str, count: int) -> Iterator[list[str]]:
    """Give the names of so many new network namespaces, which end with the block."""
    names = [f"cvb-{os.getpid()}-{label}{number}" for number in range(count)]
    made: list[str] = []
    try:
        for name in names:
            netns.create_named(name)
            made.append(name)
        yield names
    finally:
        for name in made:
            netns.delete_named(name)
