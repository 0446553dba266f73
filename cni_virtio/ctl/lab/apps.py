"""The applications of vhost-user containers: their commands, processes and logs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cni_virtio.ctl.lab import processes
from cni_virtio.ctl.lab.attachments import Attachment
from cni_virtio.ctl.lab.paths import LabPaths


@dataclass(frozen=True)
class Peer:
    """What placeholders such as {app2.mac} know of a container: its first interface."""

    name: str
    mac: str
    ip: str
    ifname: str

    @classmethod
    def of(cls, name: str, attachment: Attachment) -> Peer:
        """Read it off an attachment."""
        return cls(name, attachment.mac, next(iter(attachment.ips), ""), attachment.ifname)


def fill(
    command: Sequence[str],
    name: str,
    attachment: Attachment,
    peers: Mapping[str, Peer],
    paths: LabPaths,
    core: int,
) -> list[str]:
    """Return the command with its placeholders filled in. Raises KeyError for an unknown one."""
    values: dict[str, object] = {
        **peers,
        "socket": attachment.socket,
        "mac": attachment.mac,
        "ip": next(iter(attachment.ips), ""),
        "ifname": attachment.ifname,
        "gateway": next(iter(attachment.gateways), ""),
        "queues": attachment.netconf.get("queues", 1),
        "core": core,
        "name": name,
        "dir": str(paths.apps / name),
    }
    return [word.format_map(values) for word in command]


def start(argv: Sequence[str], name: str, netns: Path, paths: LabPaths) -> subprocess.Popen[bytes]:
    """Start an application in its container's namespace. Raises OSError if it cannot be run."""
    folder = paths.apps / name
    folder.mkdir(mode=0o700, exist_ok=True)
    # DPDK keeps its runtime files under this, as a service of systemd would have it.
    env = os.environ | {"RUNTIME_DIRECTORY": str(folder)}
    with paths.log(name).open("a") as log:
        log.write(f"$ {' '.join(argv)}\n")
    return processes.start(argv, netns_path=netns, log=paths.log(name), env=env, cwd=folder)


def app_cores(dataplane: Mapping[str, object]) -> list[int]:
    """Cores that applications may poll on: those that no worker of the dataplane has."""
    allowed = sorted(os.sched_getaffinity(0))
    workers = dataplane.get("cores") or allowed[1:2]
    main = dataplane.get("main_core", allowed[0])
    taken = set(workers) if isinstance(workers, list) else set()
    free = [core for core in allowed if core not in taken]
    # The control thread hardly runs: its core is the last choice, not none.
    return sorted(free, key=lambda core: core == main) or allowed
