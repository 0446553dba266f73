"""Many containers of every kind on one node, with traffic to each of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.smoke.agent import Node
from tests.smoke.frontend import Echo, echo
from tests.smoke.netns import Netns, netns
from tests.smoke.ports import wait_until
from tests.smoke.silence import Flow, one_way, returned
from tests.smoke.testpmd import running_testpmd

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KERNEL: Final[dict[str, Any]] = {"isGateway": True}
_AT_ONCE: Final = 8
_FIRST_OWN_PORT: Final = 6100


@dataclass(frozen=True)
class Member:
    """One container: its addresses, and its socket if it is a user-space application's."""

    node: Node
    name: str
    space: Netns
    keys: dict[str, Any]
    mac: str
    ip4: str
    path: Path

    @property
    def port(self) -> str:
        return f"pod:{self.name}/eth0"

    def wait_ready(self) -> None:
        wait_until(lambda: self.node.port(self.port)["state"]["ready"], f"{self.name} has a peer")


@dataclass(frozen=True)
class Fleet:
    """The containers of a node, and a flow to each."""

    kernel: Sequence[Member]
    clients: Sequence[Member]
    """Applications that connect to their socket."""
    servers: Sequence[Member]
    """Applications that make their socket."""
    flows: Sequence[Flow]
    echoes: Sequence[Echo]

    @property
    def to_kernel(self) -> Sequence[Flow]:
        """The flows to kernel containers."""
        return self.flows[: len(self.kernel)]

    @property
    def to_user_space(self) -> Sequence[Flow]:
        """The flows to applications and back."""
        return self.flows[len(self.kernel) :]

    @property
    def port_names(self) -> set[str]:
        return {each.port for each in (*self.kernel, *self.clients, *self.servers)}


@contextmanager
def fleet(node: Node, kernel: int, clients: int, servers: int) -> Iterator[Fleet]:
    """Attach containers, start their applications, and prepare a flow to each."""
    with ExitStack() as stack:
        spaces = stack.enter_context(_spaces(kernel + clients + servers))
        kinds = [KERNEL] * kernel + [_user("client")] * clients + [_user("server")] * servers
        members = stack.enter_context(_attached(node, spaces, kinds))
        kernels, applications = members[:kernel], members[kernel:]
        echoes = [stack.enter_context(echo(each.path)) for each in applications[:clients]]
        for each in applications[clients:]:
            # It polls, and must not keep others of this core from their work.
            stack.enter_context(running_testpmd(each, "5tswap", device=",server=1", idle=True))
        for each in applications:
            each.wait_ready()
        flows = [*_around(stack, kernels), *_to(stack, kernels, applications)]
        yield Fleet(kernels, applications[:clients], applications[clients:], flows, echoes)


def _user(mode: str) -> dict[str, Any]:
    return {"interface": "vhost-user", "vhostUser": {"mode": mode}}


@contextmanager
def _spaces(count: int) -> Iterator[list[Netns]]:
    with ThreadPoolExecutor(_AT_ONCE) as pool, ExitStack() as stack:
        managers = [netns() for _ in range(count)]
        spaces = list(pool.map(lambda each: each.__enter__(), managers))
        stack.callback(
            lambda: list(pool.map(lambda each: each.__exit__(None, None, None), managers))
        )
        yield spaces


@contextmanager
def _attached(
    node: Node, spaces: Sequence[Netns], kinds: Sequence[dict[str, Any]]
) -> Iterator[list[Member]]:
    def attach(number: int) -> Member:
        name, space, keys = f"m{number}", spaces[number], kinds[number]
        body = node.add(name, space, **keys).body
        (interface,) = (each for each in body["interfaces"] if each.get("sandbox"))
        path = Path(interface.get("socketPath", ""))
        ip4 = body["ips"][0]["address"].split("/")[0]
        return Member(node, name, space, keys, interface["mac"], ip4, path)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        members = list(pool.map(attach, range(len(spaces))))
        try:
            yield members
        finally:
            list(pool.map(lambda each: node.delete(each.name, each.space, **each.keys), members))


def _around(stack: ExitStack, members: Sequence[Member]) -> Iterator[Flow]:
    """One to the next, so that each sends and receives."""
    for source, sink in zip(members, [*members[1:], members[0]], strict=True):
        yield one_way(stack, sink.name, source.space, sink.space, sink.ip4)


def _to(
    stack: ExitStack, members: Sequence[Member], applications: Sequence[Member]
) -> Iterator[Flow]:
    """To each application, from a container of its own, and back again."""
    for number, sink in enumerate(applications):
        source = members[number % len(members)]
        source.space.ip(f"neigh replace {sink.ip4} lladdr {sink.mac} dev eth0")
        own_port = _FIRST_OWN_PORT + number
        yield returned(stack, sink.name, source.space, sink.ip4, own_port)
