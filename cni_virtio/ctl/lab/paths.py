"""Where a lab keeps its things: one folder per lab, 0700, gone when the lab is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BASE = Path("/run/cni-virtio-lab")
CHECKOUT = Path(__file__).resolve().parents[3]
PLUGIN = CHECKOUT / "build" / "bin" / "cni-virtio"
IPAM_DIR = Path("/usr/lib/cni")


@dataclass(frozen=True)
class LabPaths:
    """The files of one lab. Paths are short: a socket's has room for 107 bytes."""

    root: Path

    @property
    def agent_config(self) -> Path:
        """The agent's YAML."""
        return self.root / "agent.yaml"

    @property
    def agent_socket(self) -> Path:
        """Where shim and operator CLI reach the agent."""
        return self.root / "agent.sock"

    @property
    def dataplane_socket(self) -> Path:
        """The dataplane's control socket."""
        return self.root / "dataplane.sock"

    @property
    def state(self) -> Path:
        """The agent's record of attachments."""
        return self.root / "state"

    @property
    def vhost(self) -> Path:
        """The vhost-user sockets."""
        return self.root / "v"

    @property
    def ipam(self) -> Path:
        """host-local's addresses."""
        return self.root / "ipam"

    @property
    def attachments(self) -> Path:
        """What a runtime keeps of each ADD: netconf, environment, result."""
        return self.root / "attachments"

    @property
    def logs(self) -> Path:
        """One log per process."""
        return self.root / "logs"

    @property
    def apps(self) -> Path:
        """A runtime directory for each vhost-user application."""
        return self.root / "apps"

    @property
    def spec(self) -> Path:
        """The lab's own description, as JSON."""
        return self.root / "lab.json"

    @property
    def journal(self) -> Path:
        """What has been made, each line written before the thing itself."""
        return self.root / "made"

    @property
    def lock(self) -> Path:
        """Held by the process that makes or removes the lab."""
        return self.root / "lock"

    @property
    def agent_log(self) -> Path:
        """What agent and dataplane say."""
        return self.logs / "agent.log"

    def log(self, name: str) -> Path:
        """Return the log of a container's application."""
        return self.logs / f"{name}.log"

    def create(self) -> None:
        """Make the folders. Raises OSError."""
        self.root.parent.mkdir(parents=True, exist_ok=True)
        for folder in (self.root, self.state, self.attachments, self.logs, self.apps, self.ipam):
            folder.mkdir(mode=0o700, exist_ok=True)
