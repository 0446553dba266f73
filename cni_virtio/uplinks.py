"""The kernel interfaces that uplinks are made of, and what their devices turn out to be."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from cni_virtio import links
from cni_virtio.config import Uplink
from cni_virtio.netns import NetnsError
from dataplane.wire import JsonObject, PortSpec

log = logging.getLogger(__name__)

_IN_EFFECT = {"tso": ("tso4", "tso6")}


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


class Shortcomings:
    """What the uplinks' devices lack of the offloads that they may use: said once, kept."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def see(self, spec: PortSpec, state: JsonObject) -> None:
        """Look at an uplink that is there."""
        text = _shortcoming(spec, state)
        if text and self._texts.get(spec.name) != text:
            log.info("%s", text)
        self._texts[spec.name] = text

    def messages(self) -> list[str]:
        """Return a line for each device that lacks something."""
        return [text for _, text in sorted(self._texts.items()) if text]


def _shortcoming(spec: PortSpec, state: JsonObject) -> str:
    configured = spec.ethdev.offloads if spec.ethdev else {}
    have = set(state.get("offloads", ()))
    lacking = [
        name
        for name, wanted in configured.items()
        if wanted and not have.issuperset(_IN_EFFECT.get(name, (name,)))
    ]
    if not lacking:
        return ""
    driver = state.get("driver")
    device = f"its device ({driver})" if driver else "its device"
    name = spec.name.removeprefix("uplink:")
    return f"uplink {name}: {device} lacks {', '.join(lacking)}; the dataplane makes up for it"
