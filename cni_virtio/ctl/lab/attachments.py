"""What a runtime keeps of each attachment, so that DEL can follow ADD whatever came between."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cni_virtio.ctl.lab.cni import Plugin, PluginReply


@dataclass
class Attachment:
    """One interface of one container; `result` is None until ADD has answered."""

    container: str
    container_id: str
    netns: str
    ifname: str
    netconf: dict[str, Any]
    args: dict[str, str] = field(default_factory=dict)
    result: dict[str, Any] | None = None

    @property
    def who(self) -> str:
        """The attachment in words."""
        return f"{self.container}/{self.ifname}"

    def call(self, plugin: Plugin, command: str) -> PluginReply:
        """Run the plugin for it; DEL and CHECK get the result of ADD, as the spec wants it."""
        config = dict(self.netconf)
        if command in ("DEL", "CHECK") and self.result is not None:
            config["prevResult"] = self.result
        pairs = {"IgnoreUnknown": "1", **self.args}
        env = {
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": self.ifname,
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in pairs.items()),
        }
        return plugin.call(command, env, config)

    @property
    def mac(self) -> str:
        """MAC address of the container's interface; empty if unknown."""
        return str(self._interface().get("mac", ""))

    @property
    def socket(self) -> str:
        """Path of the vhost-user socket; empty for a kernel interface."""
        return str(self._interface().get("socketPath", ""))

    @property
    def is_server(self) -> bool:
        """Whether the application makes the vhost-user socket."""
        return bool(self.netconf.get("vhostUser", {}).get("mode") == "server")

    @property
    def addresses(self) -> list[str]:
        """Addresses with prefix length."""
        return [str(ip["address"]) for ip in (self.result or {}).get("ips", [])]

    @property
    def ips(self) -> list[str]:
        """Addresses without prefix length."""
        return [address.partition("/")[0] for address in self.addresses]

    @property
    def gateways(self) -> list[str]:
        """Addresses of gateways, of those that the result names."""
        return [ip["gateway"] for ip in (self.result or {}).get("ips", []) if ip.get("gateway")]

    def _interface(self) -> Mapping[str, Any]:
        interfaces = (self.result or {}).get("interfaces", [])
        own = [item for item in interfaces if item.get("name") == self.ifname]
        inside = [item for item in own if item.get("sandbox") or item.get("socketPath")]
        return next(iter(inside or own), {})


class AttachmentStore:
    """A folder with one file per attachment."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, attachment: Attachment) -> None:
        """Write it, whole or not at all. Raises OSError."""
        target = self._file(attachment)
        fresh = target.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(attachment), indent=1))
        fresh.replace(target)

    def delete(self, attachment: Attachment) -> None:
        """Forget it."""
        self._file(attachment).unlink(missing_ok=True)

    def load(self) -> list[Attachment]:
        """Return all, oldest first."""
        files = sorted(self._folder.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
        return [Attachment(**json.loads(file.read_text())) for file in files]

    def _file(self, attachment: Attachment) -> Path:
        return self._folder / f"{attachment.container}@{attachment.ifname}.json"
