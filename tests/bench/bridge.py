"""The kernel's bridge, with a veth pair for each container."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Final

from tests.bench.cores import BOTH, FORWARDER_CORE, LOAD_CORE
from tests.bench.pair import End, Pair, introduce, ip4
from tests.smoke.netns import netns

Cores = tuple[int, ...]


@contextmanager
def bridge(client: Cores = (LOAD_CORE,), server: Cores = (LOAD_CORE,)) -> Iterator[Pair]:
    """Give two containers on a bridge, their load on these cores."""
    with ExitStack() as stack:
        host, one, other = (stack.enter_context(netns()) for _ in range(3))
        # The bridge's best: frames do not pass the host's IP filters.
        host.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
        host.ip("link add br0 type bridge", "link set br0 up")
        for number, space in enumerate((one, other), 1):
            host.ip(
                f"link add port{number} type veth peer name eth0 netns {space.name}",
                f"link set port{number} master br0 up",
            )
            introduce(space, number)
        yield Pair(End(one, ip4(1), client), End(other, ip4(2), server))


apart: Final = partial(bridge, (LOAD_CORE,), (FORWARDER_CORE,))
"""The client on one core and the server on the other."""

free: Final = partial(bridge, BOTH, BOTH)
"""Both wherever the scheduler puts them."""
