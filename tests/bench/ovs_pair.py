"""Two kernel containers on OVS-DPDK, by its internal ports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.bench.cores import FORWARDER_CORE, LOAD_CORE
from tests.bench.ovs import switch
from tests.bench.pair import End, Pair, introduce, ip4
from tests.smoke.netns import netns


@contextmanager
def ovs(cores: tuple[int, ...] = (LOAD_CORE,)) -> Iterator[Pair]:
    """Give two containers, their load on these cores; OVS serves them on the forwarder's core."""
    with ExitStack() as stack:
        bridge = stack.enter_context(switch(normal=True, main_core=FORWARDER_CORE))
        one, other = (stack.enter_context(netns()) for _ in range(2))
        for number, space in enumerate((one, other), 1):
            bridge.add_tap(f"tap{number}", space)
            introduce(space, number)
        yield Pair(End(one, ip4(1), cores), End(other, ip4(2), cores))
