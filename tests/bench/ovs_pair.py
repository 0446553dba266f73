"""Two kernel containers on OVS-DPDK, by its internal ports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.bench.cores import FORWARDER_CORE
from tests.bench.ovs import switch
from tests.bench.pair import End, Pair, introduce, ip4
from tests.smoke.netns import netns


@contextmanager
def ovs() -> Iterator[Pair]:
    """Give two containers; the thread that serves them has the forwarder's core to itself."""
    with ExitStack() as stack:
        bridge = stack.enter_context(switch(normal=True, main_core=FORWARDER_CORE))
        one, other = (stack.enter_context(netns()) for _ in range(2))
        for number, space in enumerate((one, other), 1):
            bridge.add_tap(f"tap{number}", space)
            introduce(space, number)
        yield Pair(End(one, ip4(1)), End(other, ip4(2)))
