"""The classic check of an exception path: whoever is on the twin gets each frame and can answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.smoke.attached import AgentPort
from tests.smoke.ports import counting
from tests.vm.far import program, result
from tests.vm.testpmd import running_testpmd
from tests.vm.wire import TWIN
from tests.vm.wire import VIRTIO as NIC

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.smoke.agent import Node
    from tests.vm.outside import Outside

FRAMES, RATE_HZ = 2000, 500


@pytest.fixture
def twin(here: Node) -> Iterator[AgentPort]:
    """The twin, on which the kernel sends nothing of its own."""
    here.host.run("sysctl", "-qw", f"net.ipv6.conf.{TWIN}.disable_ipv6=1")
    yield AgentPort(here, "exception:wire0")
    here.host.run("sysctl", "-qw", f"net.ipv6.conf.{TWIN}.disable_ipv6=0")


def test_testpmd_on_the_twin_sends_every_frame_back(
    here: Node, twin: AgentPort, outside: Outside
) -> None:
    wire = AgentPort(here, "uplink:wire0")
    # Else it may ask for containers of tests before.
    outside.run("ip", "neigh", "flush", "dev", NIC.far_ifname)
    with running_testpmd(here.host, TWIN) as testpmd:
        with counting(wire) as of_wire, counting(twin) as of_twin:
            words = (NIC.far_ifname, NIC.mac, str(FRAMES), str(RATE_HZ))
            with program(outside, "bounce", *words) as process:
                found = result(process, 60)
        forwarded = testpmd.end()
    assert found == {"sent": FRAMES, "returned": FRAMES, "twice": 0}
    assert forwarded == (FRAMES, FRAMES)
    for rise in (of_wire, of_twin):
        assert (rise["rx_packets"], rise["tx_packets"], rise["drops"]) == (FRAMES, FRAMES, {})
