"""What an agent takes up at its start: its records, and what a running dataplane still has."""

from __future__ import annotations

import logging
from pathlib import Path

from cni_virtio import ipam, links, ports
from cni_virtio.dataplane_process import DataplaneProcess
from cni_virtio.labels import attachment_of
from cni_virtio.masquerade import MasqueradeError
from cni_virtio.netns import NetnsError
from cni_virtio.node import Node
from cni_virtio.sandbox import namespace_of
from cni_virtio.state import Attachment, Key, StateError
from dataplane.client import DataplaneError, DataplaneUnavailable

log = logging.getLogger(__name__)


class Recovery:
    """Runs once in an agent's life: `load`, then `adopt` when the first dataplane answers."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._on_record: set[Key] = set()
        self._quarantined: list[Path] = []
        self.halves: list[Attachment] = []
        self._first_contact = True

    def messages(self) -> list[str]:
        """Say what was put away, until the next start."""
        if not self._quarantined:
            return []
        folder = self._quarantined[0].parent
        return [f"{len(self._quarantined)} unreadable records lie in {folder}; the log says why"]

    def load(self) -> None:
        """Want what is on record and whole; `halves` is the rest. Raises StateError."""
        attachments, quarantined = self._node.state.load_all()
        for each in quarantined:
            log.error("state: a record was unreadable and lies in %s now: %s", *each)
        self._quarantined = [each.path for each in quarantined]
        if newer := sorted({key for attachment in attachments for key in attachment.newer}):
            log.warning("state: a newer agent has recorded %s, kept", ", ".join(newer))
        self._on_record = {attachment.key for attachment in attachments}
        for attachment in attachments:
            if attachment.is_whole:
                self._node.wanted.add(attachment)
            else:
                self.halves.append(attachment)
        # What gives an address back says so through the interface.
        self._node.converger.spared = {
            ports.pod_port_name(*half.key)
            for half in self.halves
            if ipam.needs_interface(half.ipam_type)
        }
        log.info("state: %d attachments", len(attachments))
        try:
            self._node.masquerade.sync(self._node.wanted.all)
        except MasqueradeError as error:
            log.error("%s", error)

    def adopt(self, process: DataplaneProcess) -> None:
        """Take up the containers of a running dataplane that are on no record.

        Those that do not live any more are for the collector, which frees their addresses as well.
        """
        first, self._first_contact = self._first_contact, False
        if not (first and process.adopted):
            return
        try:
            found = self._node.converger.found()
        except (DataplaneError, DataplaneUnavailable) as error:
            log.warning("cannot see what the running dataplane has: %s", error)
            return
        for spec in found:
            attachment = attachment_of(spec)
            # What was on record and is wanted no more has been dropped, or a DEL has removed it.
            if attachment is None or attachment.key in self._on_record or _is_detached(attachment):
                continue
            log.warning("%s/%s: was on no record, adopted", *attachment.key)
            self._node.wanted.add(attachment)
            self._save(attachment)
            self._masquerade(attachment)

    def _save(self, attachment: Attachment) -> None:
        try:
            self._node.state.save(attachment)
        except StateError as error:
            log.error("%s/%s: %s", *attachment.key, error)

    def _masquerade(self, attachment: Attachment) -> None:
        try:
            self._node.masquerade.add(attachment)
        except MasqueradeError as error:
            log.error("%s/%s: %s", *attachment.key, error)


def _is_detached(attachment: Attachment) -> bool:
    """Tell whether a DEL has removed it, of which the dataplane has not heard yet."""
    if attachment.interface != "kernel":
        return not Path(attachment.socket_path).parent.exists()
    with namespace_of(attachment) as netns_fd:
        try:
            return netns_fd is not None and not links.exists(netns_fd, attachment.ifname)
        except NetnsError:
            return False
