"""Removes what is attached to containers that went without a DEL, and what is half attached.

GC does not reach plugins under a meta-plugin, and not every runtime sends it. Half attached is what
an agent left that was killed amid an ADD or a DEL.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable
from typing import Final

from cni_virtio import sandbox
from cni_virtio.detach import reclaim
from cni_virtio.node import Node
from cni_virtio.spec import CniError
from cni_virtio.state import Attachment, Key
from cni_virtio.turns import Turns

log = logging.getLogger(__name__)

_PERIOD_S: Final = 5.0
_BLIND: Final = (
    "containers that go without a DEL are not cleaned up after: the agent lacks CAP_SYS_PTRACE, by"
    " which it sees whether anything still uses their namespaces"
)


class Collector:
    """Looks every 5 s for attachments whose namespace is gone; removes port, socket and lease.

    `own_pids` names the processes of ours that may hold a namespace without keeping it in use.
    """

    def __init__(self, node: Node, turns: Turns, own_pids: Callable[[], Collection[int]]) -> None:
        self._node = node
        self._turns = turns
        self._own_pids = own_pids
        self._failures: dict[Key, str] = {}
        self._halves: dict[Key, Attachment] = {}
        self._collected = 0
        self._can_tell = sandbox.can_tell()

    def take_over(self, halves: Iterable[Attachment]) -> None:
        """Have these removed, too, whatever their namespaces do. Before `run`."""
        self._halves = {attachment.key: attachment for attachment in halves}

    def messages(self) -> list[str]:
        """Say what was removed since the start, and what could not be."""
        notes = [] if self._can_tell else [_BLIND]
        if self._collected:
            notes.append(
                f"{self._collected} attachments were removed because their sandboxes had gone"
                " without a DEL; the log names them"
            )
        return notes + [f"{'/'.join(key)}: {reason}" for key, reason in self._failures.items()]

    def run(self, stopping: threading.Event) -> None:
        """Look again and again, until told to stop: the body of a thread."""
        while not stopping.is_set():
            try:
                self.collect()
            except Exception:
                log.exception("looking for attachments without a sandbox failed; it is repeated")
            stopping.wait(_PERIOD_S)

    def collect(self) -> None:
        """Look once. What fails is kept on record, and tried again the next time."""
        for attachment in list(self._halves.values()):
            self._try(self._remove_half, attachment)
        if not self._can_tell:
            return
        # By the records, as what could not be removed whole is wanted no more.
        gone = sandbox.gone(self._node.state.all(), self._own_pids())
        gone = [attachment for attachment in gone if attachment.key not in self._halves]
        keys = {attachment.key for attachment in gone} | self._halves.keys()
        self._failures = {key: text for key, text in self._failures.items() if key in keys}
        for attachment in gone:
            self._try(self._remove, attachment)

    def _try(self, remove: Callable[[Attachment], None], attachment: Attachment) -> None:
        try:
            remove(attachment)
        except (CniError, OSError) as error:
            self._note(attachment, str(error))

    def _remove_half(self, attachment: Attachment) -> None:
        with self._turns.of_container(attachment.name, attachment.container_id):
            if self._is_still_there(attachment):
                log.warning("%s/%s: half attached, removed", *attachment.key)
                reclaim(self._node, attachment)
        del self._halves[attachment.key]
        self._failures.pop(attachment.key, None)

    def _is_still_there(self, attachment: Attachment) -> bool:
        """Tell whether no DEL nor a new ADD was faster."""
        present = self._node.state.get(attachment.key)
        return present is not None and present.created_s == attachment.created_s

    def _remove(self, attachment: Attachment) -> None:
        with self._turns.of_container(attachment.name, attachment.container_id):
            if not self._is_still_there(attachment):
                return
            if attachment.key not in self._failures:
                _say(attachment)
            reclaim(self._node, attachment)
        self._failures.pop(attachment.key, None)
        self._collected += 1

    def _note(self, attachment: Attachment, reason: str) -> None:
        if self._failures.get(attachment.key) != reason:
            ips = ", ".join(attachment.ips) or "it"
            log.warning("%s/%s: cannot remove %s: %s", *attachment.key, ips, reason)
        self._failures[attachment.key] = reason


def _say(attachment: Attachment) -> None:
    where, who = attachment.netns, "/".join(attachment.key)
    freed = ", ".join(attachment.ips) or attachment.socket_path
    log.warning("%s: its sandbox %s is gone and no DEL came: removing it (%s)", who, where, freed)
