"""A NIC's cable is unplugged and plugged in again: its uplink says so, and its twin follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.smoke.ports import wait_until
from tests.vm.wire import E1000E, TWIN, VIRTIO, Nic

if TYPE_CHECKING:
    from tests.smoke.agent import Node
    from tests.vm.outside import Outside


def link_up(here: Node, port_name: str) -> bool:
    up: bool = here.port(port_name)["state"]["link_up"]
    return up


def twin_has_carrier(here: Node) -> bool:
    return "NO-CARRIER" not in here.host.run("ip", "link", "show", TWIN)


@pytest.mark.parametrize("nic", [VIRTIO, E1000E], ids=str)
@pytest.mark.parametrize("up", [False, True], ids=["unplugged", "plugged in"])
def test_uplink_and_twin_follow_the_cable(
    here: Node, outside: Outside, nic: Nic, *, up: bool
) -> None:
    outside.set_link(nic.tap, up=up)
    wait_until(lambda: link_up(here, f"uplink:wire{nic.number}") == up, "the uplink follows")
    if nic is VIRTIO:
        wait_until(lambda: twin_has_carrier(here) == up, "the twin follows")
        assert link_up(here, "exception:wire0") == up
