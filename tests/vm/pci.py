"""NICs handed to user space for the time of a test."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from cni_virtio.pci import Binder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def driver(address: str) -> str | None:
    """Name the driver that a device is bound to."""
    return Binder().find(address).driver


@contextmanager
def on_vfio(addresses: Iterable[str]) -> Iterator[None]:
    """Bind devices to vfio-pci, and give them back to their own drivers at the end."""
    binder = Binder()
    with ExitStack() as stack:
        for address in addresses:
            binder.bind(binder.find(address))
            stack.callback(_give_back, address)
        yield


def _give_back(address: str) -> None:
    Binder().unbind(Binder().find(address))
