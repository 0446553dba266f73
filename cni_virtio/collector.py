"""Removes what is attached to containers that went without a DEL.

GC does not reach plugins under a meta-plugin, and not every runtime sends it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from typing import Final

from cni_virtio import leases, sandbox
from cni_virtio.attach import Node, release
from cni_virtio.spec import CniError
from cni_virtio.state import Attachment, Key
from cni_virtio.turns import Turns

log = logging.getLogger(__name__)

_PERIOD_S: Final = 10.0
_BLIND: Final = (
    "containers that go without a DEL are not cleaned up after: the agent lacks CAP_SYS_PTRACE, by"
    " which it sees whether anything still uses their namespaces"
)


class Collector:
    """Looks every 10 s for attachments whose namespace is gone; removes port, socket and lease.

    `own_pids` names the processes of ours that may hold a namespace without keeping it in use.
    """

    def __init__(self, node: Node, turns: Turns, own_pids: Callable[[], Collection[int]]) -> None:
        self._node = node
        self._turns = turns
        self._own_pids = own_pids
        self._leases: dict[Key, Attachment] = {}
        self._unfreed: dict[Key, str] = {}
        self._collected = 0
        self._can_tell = sandbox.can_tell()

    def messages(self) -> list[str]:
        """Say what was removed since the start, and which addresses are still to be freed."""
        notes = [] if self._can_tell else [_BLIND]
        if self._collected:
            notes.append(
                f"{self._collected} attachments were removed because their sandboxes had gone"
                " without a DEL; the log names them"
            )
        return notes + [f"cannot free an address: {reason}" for reason in self._unfreed.values()]

    def run(self, stopping: threading.Event) -> None:
        """Look again and again, until told to stop: the body of a thread."""
        while not stopping.is_set():
            try:
                self.collect()
            except Exception:
                log.exception("looking for attachments without a sandbox failed; it is repeated")
            stopping.wait(_PERIOD_S)

    def collect(self) -> None:
        """Look once."""
        if not self._can_tell:
            return
        for attachment in sandbox.gone(self._node.wanted.all(), self._own_pids()):
            self._remove(attachment)
        for attachment in list(self._leases.values()):
            self._free(attachment)

    def _remove(self, attachment: Attachment) -> None:
        try:
            with self._turns.of_container(attachment.name, attachment.container_id):
                if self._node.wanted.get(attachment.key) is not attachment:
                    return  # a DEL or a new ADD was faster
                _say(attachment)
                release(self._node, attachment)
        except (CniError, OSError) as error:
            log.warning("%s/%s: %s; it is tried again", *attachment.key, error)
            return
        self._collected += 1
        self._leases[attachment.key] = attachment

    def _free(self, attachment: Attachment) -> None:
        """Have IPAM free the addresses; what fails is kept in mind, for the next time."""
        try:
            with self._turns.of_container(attachment.name, attachment.container_id):
                if self._node.wanted.get(attachment.key) is None:
                    leases.free(attachment)
        except CniError as error:
            ips = ", ".join(attachment.ips) or "its addresses"
            if self._unfreed.get(attachment.key) != error.msg:
                log.warning("%s/%s: cannot free %s: %s", *attachment.key, ips, error.msg)
            self._unfreed[attachment.key] = error.msg
            return
        del self._leases[attachment.key]
        self._unfreed.pop(attachment.key, None)


def _say(attachment: Attachment) -> None:
    where, who = attachment.netns, "/".join(attachment.key)
    freed = ", ".join(attachment.ips) or attachment.socket_path
    log.warning("%s: its sandbox %s is gone and no DEL came: removing it (%s)", who, where, freed)
