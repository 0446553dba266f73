"""Says which containers had their MAC changed after ADD: the network does not know them by it.

The tuning plugin does that, in a chain after this one, and few runtimes call CHECK.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Final, NamedTuple

from cni_virtio import links
from cni_virtio.netns import NetnsError
from cni_virtio.sandbox import namespace_of
from cni_virtio.state import Attachment, Key
from cni_virtio.wanted import Wanted

log = logging.getLogger(__name__)

_PERIOD_S: Final = 5.0
_CHAIN_S: Final = 2.0
"""By then the later plugins of the chain have run."""


def mac_problem(attachment: Attachment, found: str) -> str:
    """Say why a container with the MAC `found` is cut off; "" if it is not."""
    if found == attachment.mac:
        return ""
    return (
        f"{attachment.ifname} of container {attachment.container_id} had its MAC changed to"
        f" {found} after ADD, but the network knows it by {attachment.mac}: nothing reaches it, and"
        " what it sends is dropped as spoof_mac; have this plugin give it the MAC (capability mac,"
        " args.cni.mac), not tuning"
    )


class _Look(NamedTuple):
    """What was found at an attachment, which is known by its birth: a key may come back."""

    created_s: float
    problem: str


class MacWatch:
    """Looks once at each kernel interface, soon after its ADD."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._seen: dict[Key, _Look] = {}

    def messages(self) -> list[str]:
        """Say it of those that are still attached."""
        return [look.problem for look in list(self._seen.values()) if look.problem]

    def run(self, stopping: threading.Event) -> None:
        """Look again and again for new ones, until told to stop: the body of a thread."""
        while not stopping.wait(_PERIOD_S):
            try:
                self.look()
            except Exception:
                log.exception("looking for changed MACs failed; it is repeated")

    def look(self) -> None:
        """Look at those that are new."""
        seen: dict[Key, _Look] = {}
        for attachment in self._wanted.all():
            earlier = self._seen.get(attachment.key)
            is_settled = time.time() - attachment.created_s > _CHAIN_S
            if earlier is not None and earlier.created_s == attachment.created_s:
                seen[attachment.key] = earlier
            elif attachment.interface == "kernel" and is_settled:
                seen[attachment.key] = _Look(attachment.created_s, _look_at(attachment))
        self._seen = seen


def _look_at(attachment: Attachment) -> str:
    with namespace_of(attachment) as netns_fd:
        if netns_fd is None:
            return ""
        try:
            problem = mac_problem(attachment, links.mac_of(netns_fd, attachment.ifname))
        except NetnsError:
            return ""  # it is gone, which CHECK and the collector tell
    if problem:
        log.warning("%s", problem)
    return problem
