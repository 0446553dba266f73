"""The kernel interfaces that uplinks are made of (AF_XDP, AF_PACKET)."""

from __future__ import annotations

from collections.abc import Iterable

from cni_virtio import links
from cni_virtio.config import Uplink
from cni_virtio.netns import NetnsError


def set_up_devices(uplinks: Iterable[Uplink]) -> list[str]:
    """Set the interfaces up that are down, for a device that is down carries nothing.

    Returns what was done, or why it was not, a line for each.
    """
    notes = []
    for uplink in uplinks:
        if uplink.kind not in ("af_xdp", "af_packet"):
            continue
        where = f"uplink {uplink.name}: interface {uplink.target}"
        try:
            view = links.inspect(None, uplink.target)
            if view is None:
                notes.append(f"{where} is gone")
            elif not view.up:
                links.set_up(None, uplink.target)
                notes.append(f"{where} was down and has been set up")
        except NetnsError as error:
            notes.append(f"{where}: {error}")
    return notes
