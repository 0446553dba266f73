"""Says which containers had their MAC changed after ADD: the network does not know them by it.

The tuning plugin does that, in a chain after this one, and few runtimes call CHECK.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

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


class MacWatch:
    """Looks once at each kernel interface, soon after its ADD."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._seen: dict[Key, str] = {}

    def messages(self) -> list[str]:
        """Say it of those that are still attached."""
        return [text for text in list(self._seen.values()) if text]

    def run(self, stopping: threading.Event) -> None:
        """Look again and again for new ones, until told to stop: the body of a thread."""
        while not stopping.wait(_PERIOD_S):
            try:
                self.look()
            except Exception:
                log.exception("looking for changed MACs failed; it is repeated")

    def look(self) -> None:
        """Look at those that are new."""
        attachments = {each.key: each for each in self._wanted.all()}
        seen = {key: text for key, text in self._seen.items() if key in attachments}
        for key, attachment in attachments.items():
            is_settled = time.time() - attachment.created_s > _CHAIN_S
            if attachment.interface == "kernel" and is_settled and key not in seen:
                seen[key] = _look_at(attachment)
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
