"""Network namespaces on a machine, as a runtime makes them for its pods."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.runtimes.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Pod:
    machine: Machine
    name: str

    @property
    def path(self) -> str:
        return f"/run/netns/{self.name}"

    def run(self, *words: str) -> str:
        """Run a command inside, which must succeed, and give its standard output."""
        return self.machine.run("ip", "netns", "exec", self.name, *words)

    def link(self, ifname: str = "eth0") -> dict[str, Any]:
        (found,) = json.loads(self.run("ip", "-j", "-d", "link", "show", ifname))
        return dict(found)

    def links(self) -> list[str]:
        return [each["ifname"] for each in json.loads(self.run("ip", "-j", "link"))]


@contextmanager
def pod(machine: Machine, name: str) -> Iterator[Pod]:
    """Make a namespace, and remove it at the end."""
    machine.run("ip", "netns", "add", name)
    try:
        yield Pod(machine, name)
    finally:
        machine.run("ip", "netns", "del", name)
