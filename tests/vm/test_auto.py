"""`uplinks: auto`: each NIC that DPDK finds has a twin, and goes back to its driver in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from click.testing import CliRunner, Result

from cni_virtio.ctl.cli import cli
from tests.smoke.agent import node
from tests.smoke.ports import wait_until
from tests.smoke.traffic import ping
from tests.vm.pci import driver, on_vfio
from tests.vm.wire import E1000E, VIRTIO

if TYPE_CHECKING:
    from tests.smoke.agent import Node

BOUND = (VIRTIO, E1000E)
HOST = 52


def unbind(here: Node, address: str) -> Result:
    words = ["uplink", "unbind", address, "--state-dir", str(here.directory / "state")]
    return here.host.inside(lambda: CliRunner().invoke(cli, words, catch_exceptions=False))


def test_every_nic_has_a_twin_and_goes_back_to_its_driver() -> None:
    with (
        on_vfio(nic.pci_address for nic in BOUND),
        node(memory="256Mi", more_config="uplinks: auto") as here,
    ):
        twins = {f"virtio_user{nic.number}": nic for nic in BOUND}
        names = {f"{kind}:wire{nic.number}" for kind in ("uplink", "exception") for nic in BOUND}
        wait_until(lambda: here.ports() == names, "uplinks and twins are there", 60)
        for twin, nic in twins.items():
            assert f"link/ether {nic.mac} " in here.host.run("ip", "link", "show", twin)
            here.host.ip(f"addr add {nic.ip4(HOST)}/24 dev {twin}")
            assert ping(here.host, nic.far_ip4) == 3
        assert "is in use by a dataplane" in unbind(here, VIRTIO.pci_address).output
        here.end()
        for twin, nic in twins.items():
            own = "virtio-pci" if nic is VIRTIO else nic.model
            assert unbind(here, nic.pci_address).output.startswith(
                f"{twin}, its twin, is removed\n{nic.pci_address} is bound to {own} ("
            )
            assert driver(nic.pci_address) == own
        assert "virtio_user" not in here.host.run("ip", "link")
