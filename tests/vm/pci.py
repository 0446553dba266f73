"""PCI devices and their drivers."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.smoke.ports import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BUS = Path("/sys/bus/pci")


def driver(address: str) -> str:
    """Name the driver that a device is bound to, "" if none."""
    link = _BUS / "devices" / address / "driver"
    return link.resolve().name if link.exists() else ""


def rebind(address: str, override: str) -> None:
    """Bind a device to a driver, or with "" to its own."""
    device = _BUS / "devices" / address
    (device / "driver_override").write_text(override or "\n")
    if driver(address):
        (device / "driver" / "unbind").write_text(address)
    (_BUS / "drivers_probe").write_text(address)
    wait_until(lambda: driver(address), f"{address} has a driver")


@contextmanager
def on_vfio(addresses: Iterable[str]) -> Iterator[None]:
    """Hand devices to user space, and back to their own drivers at the end."""
    taken = []
    try:
        for address in addresses:
            rebind(address, "vfio-pci")
            taken.append(address)
        yield
    finally:
        for address in taken:
            rebind(address, "")
