"""A NIC spreads what it receives over its queues, and so over the workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dataplane.specs import EthdevSpec, PortSpec
from tests.smoke.ports import wait_until
from tests.smoke.topology import dataplane_in_host
from tests.unit.dataplane_process import CORES
from tests.vm.far import program, result
from tests.vm.pci import on_vfio
from tests.vm.wire import VIRTIO as NIC

if TYPE_CHECKING:
    from tests.vm.outside import Outside

FLOWS = 200
LEAST = FLOWS // 8


def test_flows_are_spread_over_queues_and_workers(outside: Outside) -> None:
    options = ("--cores", ",".join(map(str, CORES[:2])), "--pci", NIC.pci_address)
    uplink = PortSpec(
        "uplink:wire",
        "ethdev",
        "uplink",
        queues=NIC.queues,
        ethdev=EthdevSpec(NIC.pci_address),
    )
    with (
        on_vfio([NIC.pci_address]),
        dataplane_in_host(*options) as (dataplane, _),
        dataplane.client_that_closes() as control,
    ):
        control.port_add(uplink)

        def received() -> list[int]:
            (port,) = control.ports(uplink.name)["ports"]
            return [queue["rx_packets"] for queue in port["counters"]["queues"]]

        with program(outside, "spray", NIC.far_ifname, NIC.mac, str(FLOWS)) as process:
            result(process)
        wait_until(lambda: sum(received()) >= FLOWS, "all are received")
        per_worker = [worker["packets"] for worker in control.workers()["workers"]]
        assert min(received()) > LEAST, received()
        assert min(per_worker) > LEAST, per_worker
        control.port_del(uplink.name)
