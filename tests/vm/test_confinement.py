"""VFIO and vhost-net with the capabilities of the units and containers, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.smoke.agent import node_without_agent
from tests.smoke.attached import attached
from tests.smoke.confinement import confined
from tests.smoke.ports import wait_until
from tests.smoke.supervised import dataplane
from tests.smoke.traffic import ping
from tests.vm.pci import on_vfio
from tests.vm.wire import TWIN
from tests.vm.wire import VIRTIO as NIC

if TYPE_CHECKING:
    from tests.smoke.agent import Node
    from tests.vm.outside import Outside

HOST = 53
PATIENCE_S = 60
CONFIG = f"""
uplinks:
  - {{name: wire{NIC.number}, device: "{NIC.pci_address}", exception: {{name: {TWIN}}}}}
networks:
  - {{name: lan{NIC.number}, uplink: wire{NIC.number}}}
"""


def ports(here: Node) -> int:
    return len(here.ports()) if here.status()["dataplane"]["running"] else 0


def test_the_capabilities_do_for_nic_twin_and_container(outside: Outside) -> None:
    with (
        on_vfio([NIC.pci_address]),
        node_without_agent("vhost-net", "256Mi", CONFIG, supervised_by="other") as here,
        dataplane(here, *confined("dataplane")),
    ):
        here.confinement = confined("agent")
        here.start()
        wait_until(lambda: ports(here) == 2, "uplink and twin are there", PATIENCE_S)
        with attached(here, "a", **NIC.conf(here.directory)) as a:
            assert here.port("pod:a/eth0")["spec"]["kind"] == "ethdev"
            assert ping(outside, a.ip4) == 3
            here.host.ip(f"addr add {NIC.ip4(HOST)}/24 dev {TWIN}")
            assert ping(here.host, NIC.far_ip4) == 3
