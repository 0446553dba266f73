"""The runtime's side of a lab: ADD, DEL and CHECK through the plugin, and what is kept of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cni_virtio.ctl.lab.attachments import Attachment, AttachmentStore
from cni_virtio.ctl.lab.cni import Plugin, PluginReply
from cni_virtio.ctl.lab.errors import LabError
from cni_virtio.ctl.lab.paths import IPAM_DIR, LabPaths
from cni_virtio.ctl.lab.wiring import netns_path


class Runtime:
    """Attachments of containers in namespaces `<lab>-<container>`, as a runtime makes them.

    `took_s` has the duration in seconds of each ADD and DEL that succeeded.
    """

    def __init__(self, lab_name: str, paths: LabPaths, plugin: Path) -> None:
        self.name = lab_name
        self.paths = paths
        self.plugin = Plugin(plugin.absolute(), (IPAM_DIR, plugin.absolute().parent))
        self._store = AttachmentStore(paths.attachments)
        self._attachments: dict[tuple[str, str], Attachment] = {}
        self.took_s: dict[str, list[float]] = {"ADD": [], "DEL": []}

    def netns(self, name: str) -> str:
        """Return the namespace of a container, of an uplink's outside, or of the host."""
        return f"{self.name}-{name}"

    def netns_path(self, name: str) -> Path:
        """Return where that namespace is."""
        return netns_path(self.netns(name))

    def cni(
        self, command: str, container: str, netconf: Mapping[str, Any], ifname: str = "eth0"
    ) -> tuple[int, dict[str, Any]]:
        """Call the plugin by hand: exit status and parsed stdout. The lab remembers nothing."""
        reply = self._attachment(container, netconf, ifname).call(self.plugin, command)
        return reply.status, reply.output or {}

    def add(self, container: str, netconf: Mapping[str, Any], ifname: str = "eth0") -> Attachment:
        """ADD an interface, to be removed by `down` at the latest. Raises PluginError."""
        attachment = self._attachment(container, netconf, ifname)
        self._attachments[container, ifname] = attachment
        self._store.save(attachment)
        reply = attachment.call(self.plugin, "ADD")
        attachment.result = reply.result("ADD", attachment.who)
        self.took_s["ADD"].append(reply.took_s)
        self._store.save(attachment)
        return attachment

    def delete(self, attachment: Attachment) -> PluginReply:
        """DEL an interface. Raises PluginError."""
        reply = attachment.call(self.plugin, "DEL")
        reply.result("DEL", attachment.who)
        self.took_s["DEL"].append(reply.took_s)
        self._forget(attachment)
        return reply

    def check(self, attachment: Attachment) -> PluginReply:
        """CHECK an interface. Raises PluginError."""
        reply = attachment.call(self.plugin, "CHECK")
        reply.result("CHECK", attachment.who)
        return reply

    def attachments(self, container: str | None = None) -> list[Attachment]:
        """Return all attachments, or those of one container, in the order of their ADD."""
        return [a for (name, _), a in self._attachments.items() if container in (None, name)]

    def attachment(self, container: str, ifname: str | None = None) -> Attachment:
        """Return one attachment, the first unless named. Raises LabError."""
        for found in self.attachments(container):
            if ifname in (None, found.ifname):
                return found
        raise LabError(f"container {container} has no interface {ifname or 'at all'}")

    def address(self, container: str, ifname: str | None = None, version: int = 4) -> str:
        """Return an address of a container, without prefix length. Raises LabError."""
        sign = ":" if version == 6 else "."
        for ip in self.attachment(container, ifname).ips:
            if sign in ip:
                return ip
        raise LabError(f"container {container} has no IPv{version} address")

    def _attachment(self, container: str, netconf: Mapping[str, Any], ifname: str) -> Attachment:
        args = {"K8S_POD_NAMESPACE": self.name, "K8S_POD_NAME": container}
        path = str(self.netns_path(container))
        return Attachment(container, self.netns(container), path, ifname, dict(netconf), args)

    def _load(self) -> None:
        self._attachments = {(a.container, a.ifname): a for a in self._store.load()}

    def _forget(self, attachment: Attachment) -> None:
        self._store.delete(attachment)
        self._attachments.pop((attachment.container, attachment.ifname), None)
