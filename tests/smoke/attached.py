"""Ports as the agent shows them, and containers that it has attached."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.smoke.agent import Node
from tests.smoke.netns import Netns, netns

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class AgentPort:
    node: Node
    port_name: str

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.node.port(self.port_name)["state"]
        return state

    def counters(self) -> dict[str, Any]:
        counters: dict[str, Any] = self.node.port(self.port_name)["counters"]
        return counters


@dataclass(frozen=True)
class Attached(AgentPort):
    space: Netns
    mac: str
    ip4: str
    ip6: str


@contextmanager
def attached(node: Node, container: str, **keys: Any) -> Iterator[Attached]:
    """Attach a container of its own, and detach it at the end."""
    with netns() as space:
        answer = node.add(container, space, **keys)
        try:
            ip4, ip6 = (each["address"].split("/")[0] for each in answer.body["ips"])
            mac = next(each["mac"] for each in answer.body["interfaces"] if each.get("sandbox"))
            yield Attached(node, f"pod:{container}/eth0", space, mac, ip4, ip6)
        finally:
            node.delete(container, space, **keys)
