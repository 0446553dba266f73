"""Fixtures of the tests in the VM, which `./dev vm` boots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.smoke.agent import Node, node
from tests.smoke.ports import wait_until
from tests.vm.outside import DEVICE, Outside
from tests.vm.pci import on_vfio
from tests.vm.wire import NICS, TWIN, VIRTIO, Nic

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.register_assert_rewrite("tests.smoke.container_checks")

collect_ignore_glob = [] if DEVICE.exists() else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what needs a machine on which no agent has taken anything yet."""
    items.sort(key=lambda item: "here" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def outside() -> Outside:
    """What is at the other end of the NICs' wires."""
    return Outside()


@pytest.fixture(scope="session")
def here() -> Iterator[Node]:
    """The one agent of most tests, with every NIC as an uplink: starting takes its time here."""
    config = "\n".join(
        [
            "uplinks:",
            *(_uplink(nic) for nic in NICS),
            "networks:",
            *(f"  - {{name: lan{nic.number}, uplink: wire{nic.number}}}" for nic in NICS),
        ]
    )
    with (
        on_vfio(nic.pci_address for nic in NICS),
        node(backend="vhost-net", memory="256Mi", more_config=config) as one,
    ):
        wait_until(lambda: len(one.ports()) == len(NICS) + 1, "uplinks and twin are there", 60)
        yield one


def _uplink(nic: Nic) -> str:
    words = [f"name: wire{nic.number}", f'device: "{nic.pci_address}"', f"queues: {nic.queues}"]
    if nic is VIRTIO:
        words.append(f"exception: {{name: {TWIN}, queues: {nic.queues}}}")
    if not nic.offloads:
        names = ("rx_checksum", "tx_checksum", "tso", "lro")
        words.append(f"offloads: {{{', '.join(f'{name}: false' for name in names)}}}")
    return f"  - {{{', '.join(words)}}}"
